package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// churn is how many jobs a second pass through the queue while the snapshot is
// held: each leaves some dead rows that nothing may take away.
const churn = 300

// measureBloat drains a queue that has been in use beside a million finished jobs
// and a transaction whose snapshot has been open for --pinned, so that no vacuum
// could remove a row version since. Each side is compared with its own fresh queue,
// and both with each other.
func measureBloat(ctx context.Context, s *stage) (all []comparison, err error) {
	const beside = "no-op jobs beside a million finished and a pinned snapshot"
	s.tell(beside)
	w := workload{cooldown: tuned}
	n, err := s.drainSize(ctx, w, s.ours, s.theirs)
	if err != nil {
		return nil, err
	}
	drain := func(ctx context.Context, who *side) (half, error) { return s.drain(ctx, who, w, n) }
	var ours, theirs, both []pair
	for range s.opts.pairs {
		var fresh, after pair
		if fresh.ours, err = s.half(ctx, s.ours, drain); err != nil {
			return nil, err
		}
		if fresh.theirs, err = s.half(ctx, s.theirs, drain); err != nil {
			return nil, err
		}
		if after, err = s.bloated(ctx, drain); err != nil {
			return nil, err
		}
		ours, theirs, both = append(ours, pair{after.ours, fresh.ours}), append(theirs, pair{after.theirs, fresh.theirs}), append(both, after)
	}
	for _, c := range []struct {
		what  string
		pairs []pair
	}{{"Headgate, " + beside + "; theirs: Headgate, fresh", ours}, {"River, " + beside + "; theirs: River, fresh", theirs}, {beside, both}} {
		all = append(all, compare(measure{c.what, perSecond, half.rate}, c.pairs))
	}
	return append(all, compare(measure{beside, inCPUMicro, half.cpuMicros}, both)), nil
}

// bloated drains both sides after all that. The time before is theirs together,
// each with a database and a snapshot of its own.
func (s *stage) bloated(ctx context.Context, drain func(context.Context, *side) (half, error)) (p pair, err error) {
	sides := []*side{s.ours, s.theirs}
	for _, who := range sides {
		unpin, err := s.pin(ctx, who)
		if err != nil {
			return p, fmt.Errorf("%s: %w", who.name, err)
		}
		defer func() { err = errors.Join(err, unpin(context.WithoutCancel(ctx))) }()
	}
	group, inner := errgroup.WithContext(ctx)
	for _, who := range sides {
		group.Go(func() error { return s.pass(inner, who) })
	}
	if err := group.Wait(); err != nil {
		return p, err
	}
	if p.ours, err = drain(ctx, s.ours); err == nil {
		p.theirs, err = drain(ctx, s.theirs)
	}
	return p, err
}

// pin makes a fresh queue with finished jobs, and opens a snapshot of it.
func (s *stage) pin(ctx context.Context, who *side) (unpin func(context.Context) error, err error) {
	if err := s.fresh(ctx, who); err != nil {
		return nil, err
	}
	sql := finishedJobs
	if who == s.ours {
		sql = finishedWithHistory
	}
	if _, err := who.pool.Exec(ctx, sql, s.opts.finished); err != nil {
		return nil, fmt.Errorf("making finished jobs: %w", err)
	}
	if _, err := who.pool.Exec(ctx, `ANALYZE river_job`); err != nil {
		return nil, err
	}
	tx, err := who.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `SELECT count(*) FROM river_job WHERE id = 0`) // from here on it has a snapshot
	return tx.Rollback, err
}

// pass lets jobs through the queue for as long as the snapshot is to be held.
func (s *stage) pass(ctx context.Context, who *side) (err error) {
	stop, err := who.work(ctx, workload{begun: func(int) {}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	const every = 100 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	jobs := numbered(int(churn * every / time.Second))
	for over := time.Now().Add(s.opts.pinned); time.Now().Before(over); {
		for i := range jobs {
			jobs[i].N += len(jobs)
		}
		if err := pgx.BeginFunc(ctx, who.pool, func(tx pgx.Tx) error { return who.many(ctx, tx, jobs) }); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return who.settled(ctx)
}

// finishedJobs are $1 rows as jobs leave them, of the last hour.
const finishedJobs = `
INSERT INTO river_job (state, attempt, max_attempts, attempted_at, created_at, finalized_at, scheduled_at, args, attempted_by, kind)
SELECT 'completed', 1, 25, at, at, at, at, jsonb_build_object('n', n), ARRAY['before'], 'bench'
FROM (SELECT n, now() - interval '1 hour' + n * interval '1 ms' AS at FROM generate_series(1, $1::int) n) x`

// finishedWithHistory are the same as Headgate's jobs leave them.
const finishedWithHistory = `
WITH done AS (
    INSERT INTO river_job (state, attempt, max_attempts, attempted_at, created_at, finalized_at, scheduled_at, args, attempted_by, kind, metadata)
    SELECT 'completed', 1, 25, at, at, at, at, jsonb_build_object('n', n), ARRAY['0190aaaa-0000-7000-8000-000000000001:' || n], 'bench',
           jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id)
    FROM (SELECT n, now() - interval '1 hour' + n * interval '1 ms' AS at FROM generate_series(1, $1::int) n) x
    JOIN (SELECT id, row_number() OVER () - 1 AS place, count(*) OVER () AS tenants FROM headgate.tenants) t ON t.place = x.n % t.tenants
    RETURNING id, metadata, finalized_at
)
INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, started_at, ended_at, worker)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, (metadata->>'tenant')::uuid, 'bench', 1, 'succeeded', finalized_at, finalized_at, 'before' FROM done`
