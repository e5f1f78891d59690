package retention

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Selectors are the schedules that selectors give to tenants. A Janitor has those
// compared with what they should be.
type Selectors interface {
	// CompareSelectors looks at the schedules of the next tenants behind one, by id, and
	// puts them right. It returns the last of those tenants, "" if there is none, and how
	// many schedules were wrong. mine is false while somebody else changes selectors:
	// nothing is compared then.
	CompareSelectors(ctx context.Context, tx pgx.Tx, behind string) (last string, wrong int, mine bool, err error)
}

// Config is what lives as long as a Janitor. Pool and Selectors are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Selectors are the orchestrator/schedule room's Templates.
	Selectors Selectors

	// Logger is told what the janitor left undone. nil means slog.Default().
	Logger *slog.Logger

	// Every is the time between two passes. 0 means 1 minute.
	Every time.Duration

	// HistoryRetention is how long outcomes are kept, at least a day. They go by
	// whole months, when the last of a month is that old. 0 means 13 months of
	// 30.4 days.
	HistoryRetention time.Duration

	// KeepJobLogs is how long the lines are kept that handlers have logged (job.Log), at
	// least a day and no longer than HistoryRetention, because the lines belong to the
	// attempts. They go by whole days of UTC. 0 means 14 days, or HistoryRetention if that is
	// less.
	KeepJobLogs time.Duration

	// KeepAudit is how long the audit is kept, at least 13 months of 31 days. It goes by whole months, when
	// the last of a month is that old. 0 means 13 months of 31 days.
	KeepAudit time.Duration

	// Batch bounds the rows that one transaction deletes. 0 means 1000.
	Batch int

	// MaxSkew is by how much the database's clock and this process's may differ.
	// Beyond it nothing is done here, for one of the two is wrong about what is
	// old. 0 means 5 seconds.
	MaxSkew time.Duration

	// PruneEvery is the time between two looks at what reads whole tables: what claiming
	// leaves behind (see prune.go), old occurrences, how long jobs take, and whether
	// tenants have the schedules that selectors give them. 0 means 1 hour.
	PruneEvery time.Duration

	// KeepOccurrences is how long the answer for each occurrence of a schedule is kept.
	// 0 means 90 days.
	KeepOccurrences time.Duration

	// StepTimeout bounds each piece of work. What deletes in batches begins none after
	// half of it, and goes on in the next pass. 0 means 1 minute.
	StepTimeout time.Duration
}

// Janitor keeps the central database tidy: it makes the history's coming months
// and drops the old ones, deletes idempotency keys, answers for occurrences and
// workers past their time, and what claiming leaves behind of those who are gone. It
// enqueues a tombstone for each job that has been cancelling for too long, computes
// how long jobs take, and compares the schedules of selectors with what they should be.
// River's own cleaner deletes finished jobs from the queue.
//
// What fails, hangs or panics keeps nothing else from being done.
//
// Any number of janitors run; each piece of work is done by the one that gets
// the lock, and the others leave it. Times are the database's, except that
// nothing of the history is dropped that is young by this process's clock.
type Janitor struct {
	cfg   Config
	queue *queue.Queue

	// Of the loop alone.
	last     map[string]time.Time // when what is done each PruneEvery was done
	compared string               // the tenant that reconcile has come to
	buried   int64                // the row that buryCancelled has come to; BeforeAll at first

	cycle *lifecycle.Cycle
}

// Swept is what one pass did.
type Swept struct {
	Made    []string // partitions of the history
	Dropped []string

	MadeAudit    []string // partitions of the audit
	DroppedAudit []string

	MadeDays    []string // partitions of what jobs log
	DroppedDays []string

	Strays     int // outcomes deleted that lay in no month of their own
	StrayLogs  int // rows deleted of what jobs have logged, that lay in no day of their own
	Keys       int // idempotency keys deleted
	Workers    int // rows of workers deleted
	Lanes      int // of owners that the catalog does not know any more
	Rates      int // of owners that have started nothing for a day
	Pauses     int // that ended by themselves 30 days ago
	Hands      int // of workers that are gone
	Kinds      int // forms of kinds that no worker has had for 30 days
	Cancelled  int // waiting jobs of tenants that take no work
	Tombstones int // enqueued

	Occurrences int // answers deleted
	Reconciled  int // schedules of selectors that were not as they should be
}

// New returns a janitor that does nothing until Start.
func New(cfg Config) (*Janitor, error) {
	cfg.Every = cmp.Or(cfg.Every, time.Minute)
	cfg.HistoryRetention = cmp.Or(cfg.HistoryRetention, 13*31*24*time.Hour)
	cfg.KeepJobLogs = cmp.Or(cfg.KeepJobLogs, min(14*24*time.Hour, cfg.HistoryRetention))
	cfg.KeepAudit = cmp.Or(cfg.KeepAudit, leastAudit)
	cfg.Batch = cmp.Or(cfg.Batch, 1000)
	cfg.MaxSkew = cmp.Or(cfg.MaxSkew, 5*time.Second)
	cfg.PruneEvery = cmp.Or(cfg.PruneEvery, time.Hour)
	cfg.KeepOccurrences = cmp.Or(cfg.KeepOccurrences, 90*24*time.Hour)
	cfg.StepTimeout = cmp.Or(cfg.StepTimeout, time.Minute)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	switch {
	case cfg.Pool == nil:
		return nil, jobs.Missing("retention.Config.Pool", "the central database's pool")
	case cfg.Selectors == nil:
		return nil, jobs.Missing("retention.Config.Selectors", "the Templates of a schedule.Store")
	case cfg.Every < time.Second:
		return nil, jobs.Inputf("retention.Config.Every", cfg.Every.String(), "give a second or more")
	case cfg.HistoryRetention < 24*time.Hour:
		return nil, jobs.Inputf("retention.Config.HistoryRetention", cfg.HistoryRetention.String(), "give 24h or more")
	case cfg.KeepJobLogs < 24*time.Hour:
		return nil, jobs.Inputf("retention.Config.KeepJobLogs", cfg.KeepJobLogs.String(), "give 24h or more")
	case cfg.KeepJobLogs > cfg.HistoryRetention:
		return nil, jobs.Inputf("retention.Config.KeepJobLogs", cfg.KeepJobLogs.String(), "give at most HistoryRetention (%s): the lines belong to attempts of the history", cfg.HistoryRetention)
	case cfg.KeepAudit < leastAudit:
		return nil, jobs.Inputf("retention.Config.KeepAudit", cfg.KeepAudit.String(), "give %s or more: headgate.drop_audit_months keeps the last 13 months", leastAudit)
	case cfg.Batch < 1:
		return nil, jobs.Inputf("retention.Config.Batch", strconv.Itoa(cfg.Batch), "give 1 or more")
	}
	j := &Janitor{cfg: cfg, queue: queue.New(queue.Config{Pool: cfg.Pool, Logger: cfg.Logger}), last: map[string]time.Time{}, buried: queue.BeforeAll}
	j.cycle = lifecycle.New(lifecycle.Parts{Name: "the janitor", Loop: j.loop})
	return j, nil
}

// Start runs the loop in the background, the first pass at once, and returns. It is an
// error while the loop runs; after Stop the loop begins again. ctx is for starting only.
func (j *Janitor) Start(ctx context.Context) error { return j.cycle.Start(ctx) }

// Stop ends the loop and waits for that, as long as ctx allows. It may be called twice,
// or without a Start.
func (j *Janitor) Stop(ctx context.Context) error { return j.cycle.Stop(ctx) }

// Run tidies until ctx ends, and stops. It returns nil after that, and an error if it
// cannot start.
func (j *Janitor) Run(ctx context.Context) error { return j.cycle.Run(ctx) }

func (j *Janitor) loop(ctx context.Context) error {
	tick := time.NewTicker(j.cfg.Every)
	defer tick.Stop()
	for {
		swept, err := j.RunOnce(ctx)
		if err != nil && ctx.Err() == nil {
			j.cfg.Logger.ErrorContext(ctx, "the janitor left something undone; trying again", "error", err)
		}
		if len(swept.Made)+len(swept.Dropped) > 0 {
			j.cfg.Logger.InfoContext(ctx, "history by month", "made", swept.Made, "dropped", swept.Dropped)
		}
		if len(swept.MadeDays)+len(swept.DroppedDays) > 0 {
			j.cfg.Logger.InfoContext(ctx, "what jobs log by day", "made", swept.MadeDays, "dropped", swept.DroppedDays)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// RunOnce is one pass. What fails does not keep the rest from being done.
func (j *Janitor) RunOnce(ctx context.Context) (swept Swept, err error) {
	if err := j.queue.Ready(ctx); err != nil {
		return swept, err
	}
	var errs []error
	for _, work := range []func(context.Context, *Swept) error{
		j.makeMonths, j.makeDays, j.makeAuditMonths, j.cancelLeavers, j.buryCancelled, j.deleteKeys, j.deleteWorkers, j.dropMonths, j.dropDays, j.dropAuditMonths, j.deleteStrays, j.deleteStrayLogs, j.deleteOccurrences,
		j.pruning("lanes of owners that are gone", pruneLanesSQL, func(s *Swept) *int { return &s.Lanes }),
		j.pruning("old rates", pruneRatesSQL, func(s *Swept) *int { return &s.Rates }),
		j.pruning("pauses that are long over", prunePausesSQL, func(s *Swept) *int { return &s.Pauses }),
		j.pruning("hands of workers that are gone", pruneHandsSQL, func(s *Swept) *int { return &s.Hands }),
		j.pruning("forms of kinds that no worker has", pruneKindsSQL, func(s *Swept) *int { return &s.Kinds }),
		j.reconcile, j.measure,
	} {
		errs = append(errs, j.step(ctx, work, &swept))
	}
	return swept, errors.Join(errs...)
}

// step does one piece of work, within its time.
func (j *Janitor) step(ctx context.Context, work func(context.Context, *Swept) error, swept *Swept) (err error) {
	ctx, cancel := context.WithTimeout(ctx, j.cfg.StepTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("a piece of the janitor's work panicked: %v", v)
		}
	}()
	return work(ctx, swept)
}

// due reports that something was not done for PruneEvery.
func (j *Janitor) due(what string) bool {
	at, ok := j.last[what]
	return !ok || time.Since(at) >= j.cfg.PruneEvery
}

// noted notes that something was done, unless it failed, and returns err.
func (j *Janitor) noted(what string, err error) error {
	if err == nil {
		j.last[what] = time.Now()
	}
	return err
}

// janitorLock is the advisory lock of all janitors of a database: "hg_janit" in
// ASCII.
const janitorLock int64 = 0x68675f6a616e6974

const tryLock = `SELECT pg_try_advisory_xact_lock($1)`

// No piece of work may keep workers waiting for a lock that it waits for itself.
var janitorLimits = central.Limits{Idle: 5 * time.Second, Lock: time.Second}

// locked runs work in a transaction of its own, or not at all while another
// janitor is at work.
func (j *Janitor) locked(ctx context.Context, doing string, work func(tx pgx.Tx) error) error {
	err := central.WriteWithin(ctx, j.cfg.Pool, janitorLimits, func(tx pgx.Tx) error {
		if _, err := central.AgreedClock(ctx, tx, j.cfg.MaxSkew); err != nil {
			return err
		}
		var mine bool
		if err := tx.QueryRow(ctx, tryLock, janitorLock).Scan(&mine); err != nil || !mine {
			return err
		}
		fault.Point(fault.JanitorLocked)
		err := work(tx)
		fault.Point(fault.JanitorWorked)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// batches repeats a statement that deletes up to Batch rows, each time in a
// transaction of its own, until it finds no more or half of the step's time is over:
// the rest is for the next pass. The last parameter of sql is the limit.
func (j *Janitor) batches(ctx context.Context, doing, sql string, deleted *int, args ...any) error {
	for began := time.Now(); ; {
		n := 0
		err := j.locked(ctx, doing, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, sql, append(args, j.cfg.Batch)...)
			n = int(tag.RowsAffected())
			return err
		})
		if err != nil {
			return err
		}
		if *deleted += n; n < j.cfg.Batch || time.Since(began) > j.cfg.StepTimeout/2 {
			return nil
		}
	}
}
