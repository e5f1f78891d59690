package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// jobArgs are the arguments of every job on either side.
type jobArgs struct {
	N int `json:"n"` // its number; N modulo the number of tenants is whom it is for
}

// Kind names it in both queues.
func (jobArgs) Kind() string { return "bench" }

// side is one of the two that are compared, each with a central database of its
// own on the same server.
type side struct {
	name   string
	pool   *pgxpool.Pool // the central database
	tables string        // what a fresh queue is without

	// work starts a worker process's worth of work and returns what stops it.
	work func(ctx context.Context, w workload) (stop func(context.Context) error, err error)

	// watched is work with telemetry; Headgate's side alone has it.
	watched func(by telemetry) func(ctx context.Context, w workload) (stop func(context.Context) error, err error)

	// one returns what enqueues a single job, as its users do.
	one func(cooldown time.Duration) (func(context.Context, jobArgs) error, error)

	// many enqueues jobs in tx by COPY.
	many func(ctx context.Context, tx pgx.Tx, all []jobArgs) error

	// cold and warm make visits to tenants; see measureCold.
	cold, warm func(ctx context.Context) (visits, error)

	// ended counts the jobs whose end is written, with all that belongs to it.
	ended string
}

// workload is how a side works.
type workload struct {
	cooldown time.Duration // between two fetches; 0: the side's own default
	effect   bool          // each job commits a row in its tenant's database
	begun    func(n int)   // the handler's first line
}

// unfinished finds a row that has still to be done or written. On a connection
// without sequential scans it is some index probes, on either side: ours has no
// index for rows that are pending, and no side makes any.
const unfinished = `
SELECT EXISTS (SELECT FROM river_job WHERE state = 'running')
    OR EXISTS (SELECT FROM river_job WHERE state = 'available')
    OR EXISTS (SELECT FROM river_job WHERE state = 'retryable')
    OR EXISTS (SELECT FROM river_job WHERE state = 'scheduled')`

// settled waits until the database says that nothing is left to be done.
func (who *side) settled(ctx context.Context) error {
	return who.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if _, err := conn.Exec(ctx, `SET enable_seqscan = off`); err != nil {
			return err
		}
		for {
			var some bool
			asked := time.Now()
			if err := conn.QueryRow(ctx, unfinished).Scan(&some); err != nil {
				return err
			}
			if !some {
				_, err := conn.Exec(ctx, `RESET enable_seqscan`)
				return err
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(max(2*time.Millisecond, 4*time.Since(asked))): // beside dead rows it takes its time: not that of those who work
			}
		}
	})
}

// count is how many jobs have ended well.
func (who *side) count(ctx context.Context) (n int, err error) {
	err = who.pool.QueryRow(ctx, who.ended).Scan(&n)
	return n, err
}

// counted is the proof that all did.
func (who *side) counted(ctx context.Context, want int) error {
	n, err := who.count(ctx)
	if err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("of %d jobs %d have ended well", want, n)
	}
	return nil
}

// tally counts handlers and tells when all have begun.
type tally struct {
	left atomic.Int64
	all  chan struct{}
}

func newTally(n int) *tally {
	t := &tally{all: make(chan struct{})}
	t.left.Store(int64(n))
	return t
}

func (t *tally) one() {
	if t.left.Add(-1) == 0 {
		close(t.all)
	}
}

// stuckAfter bounds a wait for jobs that never come.
const stuckAfter = 10 * time.Minute

var errStuck = errors.New("the jobs do not end; nothing can be measured")

func (t *tally) wait(ctx context.Context) error {
	stuck := time.NewTimer(stuckAfter)
	defer stuck.Stop()
	select {
	case <-t.all:
		return nil
	case <-stuck.C:
		return errStuck
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// numbered are the arguments of n jobs.
func numbered(n int) []jobArgs {
	all := make([]jobArgs, n)
	for i := range all {
		all[i].N = i
	}
	return all
}
