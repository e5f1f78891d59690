package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SchedulerConfig is what lives as long as a Scheduler. The zero value works.
type SchedulerConfig struct {
	// Batch is how many due schedules one transaction fires. 0 means 1000.
	Batch int

	// MaxSleep is how long the loop sleeps at most between two looks: the
	// longest that a new schedule can be late. 0 means 1 second.
	MaxSleep time.Duration

	// MaxSkew is by how much the database's clock and this process's may differ.
	// Beyond it nothing fires here: one of the two is wrong, and a schedule that
	// has fired cannot be taken back. 0 means 5 seconds.
	MaxSkew time.Duration

	// KeepOccurrences is how long the answer for each occurrence is kept. 0 means
	// 90 days.
	KeepOccurrences time.Duration

	// Check looks at a kind and its arguments before a job is made of them, and
	// says why they do not fit. nil means that all do. It is for the kinds that
	// this program knows: after a deploy a schedule may ask for one that is gone.
	Check func(kind string, args []byte) error
}

// Scheduler fires schedules: each due row becomes a job and moves on to its next
// time, in one transaction, so that an occurrence fires once however many
// schedulers run. None of them leads. Times are the database's.
//
// What was missed while no scheduler ran is made up for as each schedule's policy
// says, and every occurrence has a row in headgate.occurrences that says what became
// of it.
type Scheduler struct {
	client *Client
	cfg    SchedulerConfig

	behind    atomic.Pointer[mark] // where a backlog is being worked off
	forgotten time.Time            // when old answers were last deleted; the loop's own

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

// NewScheduler returns a scheduler that does nothing until Start.
func NewScheduler(client *Client, cfg SchedulerConfig) *Scheduler {
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.MaxSleep = cmp.Or(cfg.MaxSleep, time.Second)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, 5*time.Second)
	cfg.KeepOccurrences = cmp.Or(cfg.KeepOccurrences, 90*24*time.Hour)
	return &Scheduler{client: client, cfg: cfg}
}

// Start runs the loop in the background and returns at once. A second Start
// does nothing.
func (s *Scheduler) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.done = stop, make(chan struct{})
	go s.loop(ctx, s.done)
}

// Stop ends the loop and waits for it. It may be called twice, or without a
// Start.
func (s *Scheduler) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return
	}
	s.stop()
	<-s.done
}

func (s *Scheduler) loop(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		sleep, err := s.pass(ctx)
		if err != nil && ctx.Err() == nil {
			s.client.log.ErrorContext(ctx, "firing schedules failed; trying again", "error", err)
			sleep = s.cfg.MaxSleep
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sleep):
		}
	}
}

// pass fires one batch and says how long there is nothing to do.
func (s *Scheduler) pass(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := s.client.ready(ctx); err != nil {
		return 0, err
	}
	fired, wait, err := s.runOnce(ctx)
	if err != nil || fired == s.cfg.Batch {
		return 0, err
	}
	if s.forgotten.IsZero() || time.Since(s.forgotten) > time.Hour {
		s.forgotten = time.Now()
		if _, err := s.forget(ctx, time.Now().Add(-s.cfg.KeepOccurrences)); err != nil {
			return 0, err
		}
	}
	return min(max(wait, time.Millisecond), s.cfg.MaxSleep), nil
}

// tickSQL is all that an idle tick does: one probe of the index on next_run_at.
const tickSQL = `
SELECT clock_timestamp(), (SELECT next_run_at FROM headgate.schedules WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1)`

// busyWait is the pause when others have all rows that are due.
const busyWait = 20 * time.Millisecond

// RunOnce is one pass of the loop, for who drives it himself: it fires up to a batch
// of due schedules and returns how many rows it handled and, if there was nothing
// more, how long until the next one is due.
func (s *Scheduler) RunOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	return s.runOnce(ctx)
}

// runOnce fires up to a batch of due schedules and returns how many rows it
// handled and, if there was nothing more, how long until the next one is due.
func (s *Scheduler) runOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	behind := s.behind.Load()
	if behind == nil {
		if wait, err := s.tick(ctx); wait > 0 || err != nil {
			return 0, wait, err
		}
	}
	batch, err := s.fire(ctx, s.cfg.Batch, behind)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && len(batch) > 0 && refusesData(pgErr) {
		return s.fireOneByOne(ctx, len(batch))
	}
	s.behind.Store(nil)
	switch n := len(batch); {
	case err == nil && n == s.cfg.Batch:
		s.behind.Store(&mark{at: batch[n-1].run, id: batch[n-1].id})
	case err == nil && n == 0 && behind != nil:
		return s.runOnce(ctx) // from the beginning
	}
	return len(batch), busyWait, err
}

// tick returns how long nothing is due, 0 if something is.
func (s *Scheduler) tick(ctx context.Context) (time.Duration, error) {
	var now time.Time
	var next *time.Time
	before := time.Now()
	if err := s.client.pool.QueryRow(ctx, tickSQL).Scan(&now, &next); err != nil {
		return 0, fmt.Errorf("looking for the next due schedule: %w", err)
	}
	if err := agree(now, before, s.cfg.MaxSkew); err != nil {
		return 0, err
	}
	switch {
	case next == nil:
		return s.cfg.MaxSleep, nil
	case next.After(now):
		return next.Sub(now), nil
	}
	return 0, nil
}

// refusesData reports that Postgres does not take a value: the same batch would
// fail again.
func refusesData(err *pgconn.PgError) bool {
	class := err.Code[:min(2, len(err.Code))]
	return class == "22" || class == "23" || err.Code == "54000" || err.Code == "42846"
}

const breakSchedule = `UPDATE headgate.schedules SET error = $2, next_run_at = NULL WHERE id = $1`

// fireOneByOne finds the schedule that a batch failed for, and marks it.
func (s *Scheduler) fireOneByOne(ctx context.Context, n int) (handled int, wait time.Duration, err error) {
	for range n {
		batch, err := s.fire(ctx, 1, nil)
		if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && len(batch) == 1 && refusesData(pgErr) {
			s.client.log.ErrorContext(ctx, "schedule stopped", "schedule", batch[0].name, "tenant", batch[0].tenant, "error", err)
			_, err = s.client.pool.Exec(ctx, breakSchedule, batch[0].id, clip("its job was refused: "+pgErr.Message, 500))
		}
		if err != nil {
			return handled, 0, err
		}
		handled += len(batch)
	}
	return handled, 0, nil
}

// fire claims due schedules, decides about each, and writes jobs, answers and
// next times, in one transaction. The batch is returned also with an error.
func (s *Scheduler) fire(ctx context.Context, limit int, behind *mark) (batch []due, err error) {
	err = s.client.bell.transact(ctx, func(tx pgx.Tx, queues queueSet) error {
		now, err := agreedClock(ctx, tx, s.cfg.MaxSkew)
		if err != nil {
			return err
		}
		if batch, err = claimDue(ctx, tx, now, limit, behind); err != nil || len(batch) == 0 {
			return err
		}
		r, err := s.look(ctx, tx, now, batch)
		if err != nil {
			return err
		}
		decisions := make([]decision, len(batch))
		for i := range batch {
			decisions[i] = r.decide(&batch[i])
			if text := decisions[i].err; text != "" {
				s.client.log.ErrorContext(ctx, "schedule stopped", "schedule", batch[i].name, "tenant", batch[i].tenant, "error", text)
			}
		}
		return s.client.carryOut(ctx, tx, now, batch, decisions, queues)
	})
	return batch, err
}
