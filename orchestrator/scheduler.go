package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
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
}

// Scheduler fires schedules: each due row becomes a job and moves on to its next
// time, in one transaction, so that an occurrence fires once however many
// schedulers run. None of them leads. Times are the database's.
//
// Occurrences missed while no scheduler ran are not made up for: the schedule
// fires once and goes on from now.
type Scheduler struct {
	client *Client
	cfg    SchedulerConfig

	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

// NewScheduler returns a scheduler that does nothing until Start.
func NewScheduler(client *Client, cfg SchedulerConfig) *Scheduler {
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.MaxSleep = cmp.Or(cfg.MaxSleep, time.Second)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, 5*time.Second)
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
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	fired, wait, err := s.runOnce(ctx)
	if err != nil || fired == s.cfg.Batch {
		return 0, err
	}
	return min(max(wait, time.Millisecond), s.cfg.MaxSleep), nil
}

// runOnce fires up to a batch of due schedules and returns how many rows it
// handled and, if there was nothing more, how long until the next one is due.
func (s *Scheduler) runOnce(ctx context.Context) (handled int, wait time.Duration, err error) {
	err = pgx.BeginFunc(ctx, s.client.pool, func(tx pgx.Tx) error {
		now, err := agreedClock(ctx, tx, s.cfg.MaxSkew)
		if err != nil {
			return err
		}
		due, err := claimDue(ctx, tx, now, s.cfg.Batch)
		if err != nil {
			return err
		}
		handled = len(due)
		if handled == 0 {
			wait, err = untilNext(ctx, tx, now, s.cfg.MaxSleep)
			return err
		}
		return s.fire(ctx, tx, now, due)
	})
	return handled, wait, err
}

// due is a schedule whose time has come.
type due struct {
	id, tenant, status, name, kind, queue, cron, zone string
	args                                              []byte
	priority, maxAttempts                             int
	at                                                time.Time
}

// claimDueSQL takes the rows that are due, oldest first, along the partial
// index on next_run_at; rows that another scheduler has locked are its own. The
// tenant is read, not locked: suspending it does not wait for a batch.
const claimDueSQL = `
SELECT s.id::text, s.tenant_id::text, t.status, s.name, s.kind, s.queue, s.cron, s.zone, s.args, s.priority, s.max_attempts, s.next_run_at
FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id
WHERE s.next_run_at <= $1
ORDER BY s.next_run_at, s.id
LIMIT $2
FOR UPDATE OF s SKIP LOCKED`

// With stale statistics the planner would gather and sort the whole backlog for
// every batch instead of walking the index.
const noBitmapScan = `SET LOCAL enable_bitmapscan = off`

func claimDue(ctx context.Context, tx pgx.Tx, now time.Time, limit int) ([]due, error) {
	if _, err := tx.Exec(ctx, noBitmapScan); err != nil {
		return nil, fmt.Errorf("preparing to claim due schedules: %w", err)
	}
	rows, err := tx.Query(ctx, claimDueSQL, now, limit)
	if err != nil {
		return nil, fmt.Errorf("claiming due schedules: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		err = row.Scan(&d.id, &d.tenant, &d.status, &d.name, &d.kind, &d.queue, &d.cron, &d.zone, &d.args, &d.priority, &d.maxAttempts, &d.at)
		return d, err
	})
}

const selectNextRun = `SELECT min(next_run_at) FROM headgate.schedules WHERE next_run_at IS NOT NULL`

func untilNext(ctx context.Context, tx pgx.Tx, now time.Time, atMost time.Duration) (time.Duration, error) {
	var next *time.Time
	if err := tx.QueryRow(ctx, selectNextRun).Scan(&next); err != nil {
		return 0, fmt.Errorf("looking for the next due schedule: %w", err)
	}
	if next == nil {
		return atMost, nil
	}
	return next.Sub(now), nil
}

// advanceSQL moves a batch of schedules on. A schedule in error is not due any
// more and says why.
const advanceSQL = `
UPDATE headgate.schedules s
SET next_run_at = a.next, error = a.error, last_run_at = CASE WHEN a.fired THEN a.at ELSE s.last_run_at END
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::boolean[], $5::timestamptz[]) AS a (id, next, error, fired, at)
WHERE s.id = a.id`

// fire enqueues the jobs of a batch and moves its schedules on. A schedule that
// cannot be computed is marked and stops nobody else's. A suspended tenant's
// moves on without a job.
func (s *Scheduler) fire(ctx context.Context, tx pgx.Tx, now time.Time, batch []due) error {
	n := len(batch)
	ids, nexts, errs := make([]string, n), make([]*time.Time, n), make([]string, n)
	fired, ats := make([]bool, n), make([]time.Time, n)
	var items []item
	for i, d := range batch {
		ids[i], ats[i] = d.id, d.at
		next, err := nextTime(d, now)
		if err != nil {
			errs[i] = err.Error()
			s.client.log.ErrorContext(ctx, "schedule stopped", "schedule", d.name, "tenant", d.tenant, "error", err)
			continue
		}
		nexts[i] = &next
		if d.status == "active" || d.status == "moving" {
			fired[i] = true
			items = append(items, d.item())
		}
	}
	if len(items) > 0 {
		if err := s.client.insertMany(ctx, tx, items); err != nil {
			return err
		}
	}
	tag, err := tx.Exec(ctx, advanceSQL, ids, nexts, errs, fired, ats)
	if err != nil {
		return fmt.Errorf("advancing %d schedules: %w", n, err)
	}
	if tag.RowsAffected() != int64(n) {
		return fmt.Errorf("advancing %d schedules changed %d rows; nothing is fired", n, tag.RowsAffected())
	}
	return nil
}

// nextTime is the first time after now, whatever was missed before.
func nextTime(d due, now time.Time) (next time.Time, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("computing the next time of %q in %s panicked: %v", d.cron, d.zone, v)
		}
	}()
	cron, err := calendar.Parse(d.cron, d.zone)
	if err != nil {
		return next, err
	}
	if next = cron.Next(now); next.IsZero() {
		return next, fmt.Errorf("%q never fires again", d.cron)
	}
	return next, nil
}

// item is the job of one occurrence.
func (d due) item() item {
	at := d.at.UTC()
	return item{
		kind: d.kind, args: d.args, queue: d.queue, priority: d.priority, maxAttempts: d.maxAttempts,
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: d.tenant, Schedule: d.name, Nominal: &at,
			TraceParent: newTraceParent(),
		},
	}
}
