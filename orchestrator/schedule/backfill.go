package schedule

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// BackfillParams says which occurrences to fire, or to fire again.
type BackfillParams struct {
	From, To time.Time // nominal times, both included; To may not lie ahead

	// Max is how many it may be at most: more is an error, and nothing happens. 0
	// means 1000, at most 10000.
	Max int

	// Missed leaves out those that have fired.
	Missed bool

	// Overlap: OverlapAllow, the default, enqueues all at once; OverlapBufferAll
	// lets them run one after the other, at most 1000.
	Overlap Overlap

	DryRun bool // only say what would be
	Actor  string

	// Request is a UUID of the caller's: under the same request an occurrence has its
	// effect once, also after a restore of the central database. "" means a new one.
	Request string
}

// Backfilled is what a backfill came to, or would.
type Backfilled struct {
	Occurrences int        `json:"occurrences"` // in the range
	Fired       int        `json:"fired"`       // of them, those that have a job already
	Again       int        `json:"again"`       // of them, those that a backfill has done before: left out
	Jobs        int        `json:"jobs"`        // enqueued
	Waiting     int        `json:"waiting"`     // for each other
	First       *time.Time `json:"first"`
	Last        *time.Time `json:"last"`
	DryRun      bool       `json:"dry_run"`
	Request     string     `json:"request,omitempty"` // UUID of the request: BackfillParams.Request, or a new one; "" if nothing was done
}

// Backfill fires the occurrences of a range that lies behind, by the schedule as
// it is now. Each is backfilled once, however often this is called.
func (st *Store) Backfill(ctx context.Context, of Key, p BackfillParams) (result Backfilled, err error) {
	err = st.queue.Transact(ctx, func(tx pgx.Tx, queues queue.Set) error {
		result, err = st.backfill(ctx, tx, of, p, queues)
		return err
	})
	return result, err
}

// BackfillTx is Backfill inside the caller's transaction.
func (st *Store) BackfillTx(ctx context.Context, tx pgx.Tx, of Key, p BackfillParams) (Backfilled, error) {
	return st.backfill(ctx, tx, of, p, nil)
}

const selectAnsweredOnes = `
SELECT nominal_at, origin FROM headgate.occurrences WHERE schedule_id = $1 AND nominal_at BETWEEN $2 AND $3 AND job_uid IS NOT NULL AND origin <> 'trigger'`

func (p *BackfillParams) complete(now time.Time) error {
	p.Max, p.Overlap = cmp.Or(p.Max, 1000), cmp.Or(p.Overlap, OverlapAllow)
	switch {
	case p.From.IsZero() || p.To.IsZero() || p.To.Before(p.From):
		return jobs.Inputf("backfill from", p.From.UTC().Format(time.RFC3339), "to is %s: give two times, the earlier first", p.To.UTC().Format(time.RFC3339))
	case p.To.After(now):
		return jobs.Inputf("backfill to", p.To.UTC().Format(time.RFC3339), "that lies ahead; the schedule will see to it")
	case p.Max < 1 || p.Max > 10_000:
		return jobs.Inputf("max", strconv.Itoa(p.Max), "give 1 to 10000")
	case p.Overlap != OverlapAllow && p.Overlap != OverlapBufferAll:
		return jobs.Inputf("overlap", string(p.Overlap), "a backfill takes allow (all at once) or buffer_all (one after the other)")
	}
	return nil
}

func (st *Store) backfill(ctx context.Context, tx pgx.Tx, of Key, p BackfillParams, queues queue.Set) (Backfilled, error) {
	d, now, err := st.lockAsDue(ctx, tx, of)
	if err != nil {
		return Backfilled{}, fmt.Errorf("backfilling: %w", err)
	}
	if err := p.complete(now); err != nil {
		return Backfilled{}, err
	}
	request, err := requestID(p.Request)
	if err != nil {
		return Backfilled{}, fmt.Errorf("backfilling schedule %s: %w", of.Name, err)
	}
	table, err := d.timetableTx(ctx, tx)
	if err != nil {
		return Backfilled{}, fmt.Errorf("backfilling schedule %s: %w", of.Name, err)
	}
	result := Backfilled{DryRun: p.DryRun, Occurrences: table.Count(p.From.Add(-time.Second), p.To)}
	if result.Occurrences > p.Max {
		return Backfilled{}, fmt.Errorf("backfilling schedule %s: %w", of.Name, jobs.Inputf("max", strconv.Itoa(p.Max), "the range holds %s: make it shorter, or allow more, up to 10000", jobs.Count(result.Occurrences, "occurrence")))
	}
	done, err := answeredOnes(ctx, tx, d.id, p)
	if err != nil {
		return Backfilled{}, err
	}
	l, out := &snapshot{now: now.UTC(), check: st.check}, decision{last: d.last, waiting: d.waiting}
	if l.running, err = unfinished(ctx, tx, []string{d.last}); err != nil && d.last != "" {
		return Backfilled{}, err
	}
	times := table.Last(p.From.Add(-time.Second), p.To, result.Occurrences)
	for _, at := range times {
		origins := done[at.Unix()]
		if origins != "" {
			result.Fired++
		}
		switch {
		case origins == originBackfill:
			result.Again++
			continue
		case p.Missed && origins != "":
			continue
		}
		at := at.UTC()
		if result.First == nil {
			result.First = &at
		}
		result.Last = &at
		asked := waiting{At: at, Origin: originBackfill, Request: request}
		if p.Overlap == OverlapBufferAll && (l.running[out.last] != "" || len(out.items) > 0 || len(out.waiting) > 0) {
			out.waiting = append(out.waiting, asked)
			result.Waiting++
			continue
		}
		l.enqueue(d, asked, &out)
	}
	result.Jobs = len(out.items)
	switch {
	case out.err != "":
		return Backfilled{}, fmt.Errorf("backfilling schedule %s: %s", of.Name, out.err)
	case len(out.waiting) > 1000:
		return Backfilled{}, fmt.Errorf("backfilling schedule %s: %w", of.Name, jobs.Inputf("overlap", string(p.Overlap), "%d would wait for each other, at most 1000: make the range shorter", len(out.waiting)))
	case p.DryRun || result.Jobs+result.Waiting == 0:
		return result, nil
	}
	result.Request = request
	return result, st.addRuns(ctx, tx, d, &out, now, "backfill", p.Actor, queues)
}

// answeredOnes returns the occurrences of the range that have a job; backfill wins
// over clock.
func answeredOnes(ctx context.Context, tx pgx.Tx, id string, p BackfillParams) (map[int64]string, error) {
	rows, err := tx.Query(ctx, selectAnsweredOnes, id, p.From, p.To)
	if err != nil {
		return nil, fmt.Errorf("looking for occurrences that have fired: %w", err)
	}
	done := map[int64]string{}
	var at time.Time
	var origin string
	_, err = pgx.ForEachRow(rows, []any{&at, &origin}, func() error {
		if done[at.Unix()] != originBackfill {
			done[at.Unix()] = origin
		}
		return nil
	})
	return done, err
}
