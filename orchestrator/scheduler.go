package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
)

// SchedulerConfig is what lives as long as a Scheduler. The zero value works.
type SchedulerConfig struct {
	// Batch is how many due schedules one transaction fires at most. 0 means 1000.
	Batch int

	// MaxSleep is how long the loop sleeps at most between two looks: the
	// longest that a new schedule can be late. 0 means 1 second.
	MaxSleep time.Duration

	// MaxSkew is by how much the database's clock and this process's may differ.
	// Beyond it nothing fires here: one of the two is wrong, and a schedule that
	// has fired cannot be taken back. 0 means 5 seconds.
	MaxSkew time.Duration

	// StatementTimeout bounds each statement of a batch but the one that claims. A batch with one that took
	// longer is written in parts, and the next batch is half as large. 0 means 2 seconds.
	StatementTimeout time.Duration

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

	behind atomic.Pointer[mark] // where a backlog is being worked off
	size   *batchSize
	looked time.Time // when it looked for sessions whose clients have stopped; of the loop alone

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

// NewScheduler returns a scheduler that does nothing until Start.
func NewScheduler(client *Client, cfg SchedulerConfig) *Scheduler {
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.MaxSleep = cmp.Or(cfg.MaxSleep, time.Second)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, 5*time.Second)
	cfg.StatementTimeout = max(cmp.Or(cfg.StatementTimeout, 2*time.Second), time.Millisecond)
	return &Scheduler{client: client, cfg: cfg, size: newBatchSize(cfg.Batch)}
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
	_, wait, err := s.runOnce(ctx)
	return min(wait, s.cfg.MaxSleep), err
}

// tickSQL is all that an idle tick does: one probe of the index on next_run_at.
const tickSQL = `
SELECT clock_timestamp(), (SELECT next_run_at FROM headgate.schedules WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1)`

// busyWait is the pause when others have all rows that are due.
const busyWait = 20 * time.Millisecond

// RunOnce is one pass of the loop, for who drives it himself: it gives tenants that
// have changed their schedules, fires up to a batch of due schedules, and returns how many
// rows it handled and how long until the next pass has something to do.
func (s *Scheduler) RunOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	return s.runOnce(ctx)
}

// runOnce is RunOnce. What fails for tenants that have changed is said, and keeps
// nothing from firing.
func (s *Scheduler) runOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	tenants, failed := s.follow(ctx)
	if failed != nil && ctx.Err() == nil {
		s.client.log.ErrorContext(ctx, "tenants that have changed wait for their schedules; trying again", "error", failed)
	}
	handled, wait, err = s.fireDue(ctx)
	if tenants == selectorBatch {
		wait = 0
	}
	return handled, wait, err
}

// fireDue fires up to a batch of due schedules and returns how many rows it handled
// and how long until there is more to do.
func (s *Scheduler) fireDue(ctx context.Context) (handled int, wait time.Duration, err error) {
	behind, limit := s.behind.Load(), s.size.limit()
	if behind == nil {
		if wait, err := s.tick(ctx); wait > 0 || err != nil {
			return 0, wait, err
		}
	}
	batch, slow, err := s.fire(ctx, limit, behind)
	s.behind.Store(nil)
	if err != nil {
		return s.failed(ctx, batch, limit, err)
	}
	s.size.went(slow)
	switch n := len(batch); {
	case n == limit:
		s.behind.Store(&mark{at: batch[n-1].run, id: batch[n-1].id})
		return n, 0, nil
	case n == 0 && behind != nil:
		return s.fireDue(ctx) // from the beginning
	case n == 0:
		return 0, busyWait, s.endStalled(ctx)
	default:
		return n, busyWait, nil
	}
}

// endStalledSQL ends the sessions of processes that stopped while an answer was on its
// way to them: no limit of a transaction's counts that wait.
const endStalledSQL = `SELECT headgate.end_stalled_sessions()`

// endStalled does so where something is due and others have it, every few seconds.
func (s *Scheduler) endStalled(ctx context.Context) error {
	if time.Since(s.looked) < 3*time.Second {
		return nil
	}
	s.looked = time.Now()
	var ended int
	if err := s.client.pool.QueryRow(ctx, endStalledSQL).Scan(&ended); err != nil {
		return fmt.Errorf("ending sessions whose clients have stopped: %w", err)
	}
	if ended > 0 {
		s.client.log.WarnContext(ctx, "ended sessions that held schedules and did not read their answers", "sessions", ended)
	}
	return nil
}

// failed is for a batch of which nothing was stored. Nobody knows which of its
// schedules was the cause, or whether there were only too many: the next batch is half as
// large. One schedule that has failed alone twice is set aside.
func (s *Scheduler) failed(ctx context.Context, batch []due, limit int, err error) (handled int, wait time.Duration, _ error) {
	if len(batch) == 0 && !timedOut(err) {
		return 0, 0, err // it did not come to a schedule
	}
	s.size.failed(limit)
	if limit > 1 {
		s.client.log.WarnContext(ctx, "a batch of schedules failed; the next is half as large", "schedules", limit, "error", err)
		return 0, 0, ctx.Err()
	}
	if len(batch) == 1 && s.size.alone(batch[0].id) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StatementTimeout) // the pass may be over
		defer cancel()
		return 1, 0, central.WriteWithin(ctx, s.client.pool, schedulerLimits, func(tx pgx.Tx) error {
			return s.setAside(ctx, tx, &batch[0], err)
		})
	}
	return 0, 0, err
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
		return max(next.Sub(now), time.Millisecond), nil
	}
	return 0, nil
}

// schedulerLimits are those of a batch. What another transaction has locked is not
// waited for: it is asked for again. A process that has stopped keeps its batch from the
// others for seconds.
var schedulerLimits = central.Limits{Idle: 5 * time.Second, Lock: 250 * time.Millisecond}

// fire claims due schedules, decides about each, and writes jobs, answers and
// next times, in one transaction. The batch is returned also with an error. slow says
// that it went only in parts.
func (s *Scheduler) fire(ctx context.Context, limit int, behind *mark) (batch []due, slow bool, err error) {
	err = s.client.bell.transactWithin(ctx, schedulerLimits, func(tx pgx.Tx, queues queueSet) error {
		now, err := agreedClock(ctx, tx, s.cfg.MaxSkew)
		if err != nil {
			return err
		}
		fault.Point(fault.BatchBegun)
		if batch, err = s.claimDue(ctx, tx, now, limit, behind); err != nil || len(batch) == 0 {
			return err
		}
		fault.Point(fault.BatchClaimed)
		l, err := s.look(ctx, tx, now, batch)
		if err != nil {
			return err
		}
		decisions := make([]decision, len(batch))
		for i := range batch {
			decisions[i] = l.decide(&batch[i])
		}
		if err := l.askAgain(ctx, tx, batch, decisions); err != nil {
			return err
		}
		for i := range decisions {
			if text := decisions[i].err; text != "" && decisions[i].next == nil {
				s.client.log.ErrorContext(ctx, "schedule stopped", "schedule", batch[i].name, "tenant", batch[i].tenant, "error", text)
			}
		}
		fault.Point(fault.BatchDecided)
		slow, err = s.carryOutApart(ctx, tx, now, batch, decisions, queues)
		fault.Point(fault.BatchWritten)
		return err
	})
	return batch, slow, err
}
