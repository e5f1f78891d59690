package schedule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
	"github.com/headgate/headgate/orchestrator/internal/queue"
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

	// DecideFor is how long a batch decides about its schedules at most, because its rows
	// are locked meanwhile. Those that are left are in the next batch, and each batch has
	// at least one. 0 means 2 seconds.
	DecideFor time.Duration
}

// Scheduler fires schedules: each due row becomes a job and moves on to its next
// time, in one transaction, so that an occurrence fires once however many
// schedulers run. None of them leads. Times are the database's.
//
// What was missed while no scheduler ran is made up for as each schedule's policy
// says, and every occurrence has a row in headgate.occurrences that says what became
// of it.
type Scheduler struct {
	store *Store
	cfg   SchedulerConfig

	behind atomic.Pointer[cursor] // where a backlog is being worked off
	size   *batchSize
	looked time.Time // when it looked for sessions whose clients have stopped; of the loop alone

	cycle  *lifecycle.Cycle
	turned atomic.Pointer[time.Time]
}

// Turned returns when the loop last began a pass, also one that failed; zero before Start.
// It is safe for concurrent use.
func (s *Scheduler) Turned() time.Time {
	if t := s.turned.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// NewScheduler returns a scheduler that does nothing until Start.
func NewScheduler(store *Store, cfg SchedulerConfig) *Scheduler {
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.MaxSleep = cmp.Or(cfg.MaxSleep, time.Second)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, 5*time.Second)
	cfg.StatementTimeout = max(cmp.Or(cfg.StatementTimeout, 2*time.Second), time.Millisecond)
	cfg.DecideFor = cmp.Or(cfg.DecideFor, 2*time.Second)
	s := &Scheduler{store: store, cfg: cfg, size: newBatchSize(cfg.Batch)}
	s.cycle = lifecycle.New(lifecycle.Parts{Name: "the scheduler", Loop: s.loop})
	return s
}

// Start runs the loop in the background and returns at once. It is an error while the
// loop runs; after Stop the loop begins again. ctx is for starting only.
func (s *Scheduler) Start(ctx context.Context) error { return s.cycle.Start(ctx) }

// Stop ends the loop and waits for that, as long as ctx allows. It may be called twice,
// or without a Start.
func (s *Scheduler) Stop(ctx context.Context) error { return s.cycle.Stop(ctx) }

// Run fires schedules until ctx ends, and stops. It returns nil after that, and an error
// if it cannot start.
func (s *Scheduler) Run(ctx context.Context) error { return s.cycle.Run(ctx) }

func (s *Scheduler) loop(ctx context.Context) error {
	for {
		s.turned.Store(new(time.Now()))
		sleep, err := s.pass(ctx)
		if err != nil && ctx.Err() == nil {
			s.store.log.ErrorContext(ctx, "firing schedules failed; trying again", "error", err)
			sleep = s.cfg.MaxSleep
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(sleep):
		}
	}
}

// pass fires one batch and says how long there is nothing to do.
func (s *Scheduler) pass(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := s.store.queue.Ready(ctx); err != nil {
		return 0, err
	}
	_, wait, err := s.RunOnce(ctx)
	return min(wait, s.cfg.MaxSleep), err
}

// tickSQL is all that an idle tick does: one probe of the index on next_run_at.
const tickSQL = `
SELECT clock_timestamp(), (SELECT next_run_at FROM headgate.schedules WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1)`

// busyWait is the pause when others have all rows that are due.
const busyWait = 20 * time.Millisecond

// RunOnce is one pass of the loop, for who drives it himself: it gives tenants that
// have changed their schedules, fires up to a batch of due schedules, and returns how many
// rows it handled and how long until the next pass has something to do. What fails for
// tenants that have changed is logged, and keeps nothing from firing.
func (s *Scheduler) RunOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	tenants, failed := s.follow(ctx)
	if failed != nil && ctx.Err() == nil {
		s.store.log.ErrorContext(ctx, "tenants that have changed wait for their schedules; trying again", "error", failed)
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
		s.behind.Store(&cursor{at: batch[n-1].run, id: batch[n-1].id})
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
	if err := s.store.pool.QueryRow(ctx, endStalledSQL).Scan(&ended); err != nil {
		return fmt.Errorf("ending sessions whose clients have stopped: %w", err)
	}
	if ended > 0 {
		s.store.log.WarnContext(ctx, "ended sessions that held schedules and did not read their answers", "sessions", ended)
	}
	return nil
}

// failed is for a batch of which nothing was stored. Nobody knows which of its
// schedules was the cause, or whether there were only too many: the next batch is half as
// large. One schedule that has failed alone twice is set aside.
func (s *Scheduler) failed(ctx context.Context, batch []dueSchedule, limit int, err error) (handled int, wait time.Duration, _ error) {
	if len(batch) == 0 && !timedOut(err) {
		return 0, 0, err // it did not come to a schedule
	}
	s.size.failed(limit)
	if limit > 1 {
		s.store.log.WarnContext(ctx, "a batch of schedules failed; the next is half as large", "schedules", limit, "error", err)
		return 0, 0, ctx.Err()
	}
	if len(batch) == 1 && s.size.alone(batch[0].id) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StatementTimeout) // the pass may be over
		defer cancel()
		return 1, 0, central.WriteWithin(ctx, s.store.pool, schedulerLimits, func(tx pgx.Tx) error {
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
	if err := s.store.pool.QueryRow(ctx, tickSQL).Scan(&now, &next); err != nil {
		return 0, fmt.Errorf("looking for the next due schedule: %w", err)
	}
	if err := central.Agree(now, before, s.cfg.MaxSkew); err != nil {
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
func (s *Scheduler) fire(ctx context.Context, limit int, behind *cursor) (batch []dueSchedule, slow bool, err error) {
	var decisions []decision
	var now time.Time
	err = s.store.queue.TransactWithin(ctx, schedulerLimits, func(tx pgx.Tx, queues queue.Set) (err error) {
		if now, err = central.AgreedClock(ctx, tx, s.cfg.MaxSkew); err != nil {
			return err
		}
		fault.Point(fault.BatchBegun)
		if batch, err = s.claimDue(ctx, tx, now, limit, behind); err != nil || len(batch) == 0 {
			return err
		}
		fault.Point(fault.BatchClaimed)
		l, err := s.store.look(ctx, tx, now, batch)
		if err != nil {
			return err
		}
		decisions = make([]decision, 0, len(batch))
		for began := time.Now(); len(decisions) < len(batch); {
			if len(decisions) > 0 && time.Since(began) > s.cfg.DecideFor { // the rest in the next batch
				batch = batch[:len(decisions)]
				break
			}
			decisions = append(decisions, l.decide(&batch[len(decisions)]))
		}
		if err := l.askAgain(ctx, tx, batch, decisions); err != nil {
			return err
		}
		for i := range decisions {
			if text := decisions[i].err; text != "" && decisions[i].next == nil {
				s.store.log.ErrorContext(ctx, "schedule stopped", "schedule", batch[i].name, "tenant", batch[i].tenant, "error", text)
			}
		}
		fault.Point(fault.BatchDecided)
		for i := range decisions {
			s.store.trace(ctx, &batch[i], &decisions[i])
		}
		slow, err = s.carryOutApart(ctx, tx, now, batch, decisions, queues)
		fault.Point(fault.BatchWritten)
		return err
	})
	for i := range batch {
		batch[i].endTraces(err)
	}
	if err == nil {
		s.measure(ctx, now, batch, decisions)
	}
	return batch, slow, err
}

// batchSize is how many schedules the next batch takes: half of those of a batch
// that failed or took too long, and a quarter more after each that went well. So a slow
// machine or database finds the size that it can do.
type batchSize struct {
	most int

	mu      sync.Mutex
	now     int    // guarded by mu, as is the rest
	suspect string // id of the schedule that failed alone
}

func newBatchSize(most int) *batchSize { return &batchSize{most: most, now: most} }

func (b *batchSize) limit() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// went notes a batch that was stored, slow if only in parts.
func (b *batchSize) went(slow bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.suspect = ""
	if slow {
		b.now = max(b.now/2, 1)
		return
	}
	b.now = min(b.now+(b.now+3)/4, b.most)
}

// failed notes a batch of so many that was not stored.
func (b *batchSize) failed(limit int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = max(limit/2, 1)
}

// alone notes a schedule that failed with nobody beside it, and reports whether it
// did so before: the first time it may have been the connection.
func (b *batchSize) alone(id string) (again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	again, b.suspect = b.suspect == id, id
	return again
}

// timedOut reports that a statement, a lock, the transaction or the whole pass took
// too long.
func timedOut(err error) bool {
	return isSlow(err) || central.IsLockTimeout(err) || central.HasCode(err, "25P03") || errors.Is(err, context.DeadlineExceeded)
}

// isSlow reports that one statement took too long.
func isSlow(err error) bool { return central.HasCode(err, "57014") }
