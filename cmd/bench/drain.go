package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// tuned is River's best cooldown, and its least.
const tuned = time.Millisecond

// measureDrain works a full queue of no-op jobs off. Theirs is a handler that
// returns at once; ours in addition resolves the tenant and leaves an outcome:
// NoConn, a kind whose work is not in the tenant's database.
func measureDrain(ctx context.Context, s *stage) (all []comparison, err error) {
	for _, setting := range []struct {
		says     string
		cooldown time.Duration
	}{{"cooldown 1 ms", tuned}, {"default cooldowns", 0}} {
		pairs, err := s.drainPairs(ctx, "drain, "+setting.says, workload{cooldown: setting.cooldown})
		if err != nil {
			return nil, err
		}
		what := fmt.Sprintf("no-op jobs (ours: NoConn), %d slots, %s", s.opts.slots, setting.says)
		all = append(all, compare(measure{what, perSecond, half.rate}, pairs), compare(measure{what, inCPUMicro, half.cpuMicros}, pairs))
	}
	return all, nil
}

// drainPairs finds out how many jobs the faster side does in the time given, and
// measures both with as many.
func (s *stage) drainPairs(ctx context.Context, what string, w workload) ([]pair, error) {
	s.tell(what)
	n, err := s.drainSize(ctx, w, s.ours, s.theirs)
	if err != nil {
		return nil, err
	}
	return s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
		before, err := s.sessions(ctx)
		if err != nil {
			return half{}, err
		}
		h, err := s.drain(ctx, who, w, n)
		if err != nil {
			return h, err
		}
		after, err := s.sessions(ctx)
		h.connects = float64(after-before) / float64(s.warmUp()+n)
		return h, err
	})
}

// sessions is how many there have been in tenants' databases. They are counted when
// they end, and a drain ends its own.
func (s *stage) sessions(ctx context.Context) (n int, err error) {
	names := make([]string, len(s.tenants))
	for i, d := range s.tenants {
		names[i] = d.DBName
	}
	err = s.admin.QueryRow(ctx, `SELECT coalesce(sum(sessions), 0)::int FROM pg_stat_database WHERE datname = ANY ($1)`, names).Scan(&n)
	return n, err
}

// drainSize is how many jobs the faster of these does in the time given. Below a
// second there is nothing to find out. What the first trial finds is too little, for
// it is short and has a beginning and an end; a second one starts from there.
func (s *stage) drainSize(ctx context.Context, w workload, sides ...*side) (n int, err error) {
	n = max(20, int(400*s.opts.seconds))
	if s.opts.half() < time.Second {
		return n, nil
	}
	for range 2 {
		more := n
		for _, who := range sides {
			trial, err := s.half(ctx, who, func(ctx context.Context, who *side) (half, error) { return s.drain(ctx, who, w, n) })
			if err != nil {
				return 0, err
			}
			more = max(more, min(int(trial.rate()*s.opts.seconds), 1_000_000))
		}
		n = more
	}
	return n, nil
}

// warmUp is how many jobs a worker does before it is measured, so that each of
// its connections is open and has its statements prepared and planned: Postgres
// settles on a plan after five.
func (s *stage) warmUp() int { return 8 * s.layout.databases * s.layout.conns }

// drain lets a worker warm up and then work n jobs off.
func (s *stage) drain(ctx context.Context, who *side, w workload, n int) (h half, err error) {
	warm := s.warmUp()
	before, err := who.count(ctx)
	if err != nil {
		return h, err
	}
	first, rest := newTally(warm), newTally(n)
	w.begun = func(number int) {
		if number < warm {
			first.one()
			return
		}
		rest.one()
	}
	stop, err := who.work(ctx, w)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	numbers := numbered(warm + n)
	if _, err := s.shown(ctx, who, numbers[:warm], first); err != nil {
		return h, err
	}
	if h, err = s.shown(ctx, who, numbers[warm:], rest); err != nil {
		return h, err
	}
	return h, who.counted(ctx, before+warm+n)
}

// shown loads and analyzes jobs in one transaction and lets a running worker see
// them all at once, by its commit. From there the clock runs until the database
// has the end of each written.
func (s *stage) shown(ctx context.Context, who *side, all []jobArgs, begun *tally) (h half, err error) {
	tx, err := who.pool.Begin(ctx)
	if err != nil {
		return h, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after the commit this does nothing
	if err := load(ctx, tx, who, all); err != nil {
		return h, err
	}
	if err := s.checkpoint(ctx); err != nil {
		return h, err
	}
	clock := s.start()
	if err := tx.Commit(ctx); err != nil {
		return h, err
	}
	if err := begun.wait(ctx); err != nil {
		return h, err
	}
	if err := who.settled(ctx); err != nil {
		return h, err
	}
	return clock.stop(len(all)), nil
}

// load inserts jobs, some ten thousand at a time, and analyzes the queue.
func load(ctx context.Context, tx pgx.Tx, who *side, all []jobArgs) error {
	for len(all) > 0 {
		n := min(len(all), 10_000)
		if err := who.many(ctx, tx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	_, err := tx.Exec(ctx, `ANALYZE river_job`)
	return err
}
