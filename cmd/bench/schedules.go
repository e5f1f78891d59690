package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/orchestrator/schedule"
)

// insertDue are schedules, n of them, due in the second that begins at $2, with
// the tenants taking turns. All are daily, and have fired before.
const insertDue = `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, args, cron, zone, next_nominal_at, next_run_at, answered_at)
SELECT gen_random_uuid(), t.id, 'bench-' || i, 'bench', '{"n": 1}', '0 3 * * *', 'UTC', $2, $2, $2::timestamptz - interval '1 day'
FROM generate_series(1, $1::int) AS i
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n, count(*) OVER () AS all FROM headgate.tenants) t ON t.n = i % t.all`

const updateDue = `UPDATE headgate.schedules SET next_nominal_at = $1, next_run_at = $1, answered_at = $1::timestamptz - interval '1 day' WHERE name LIKE 'bench-%'`

// pureBatch is what a batch comes to at the least, as one statement of SQL: the
// same rows in the same tables, claimed in the same way, and no thought about time
// zones, policies or other schedules.
const pureBatch = `
WITH due AS (
    SELECT s.id, s.tenant_id, s.name, s.kind, s.args, s.queue, s.priority, s.max_attempts, s.next_nominal_at, gen_random_uuid() AS uid
    FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id
    WHERE s.next_run_at <= $1 AND t.status = 'active'
    ORDER BY s.next_run_at, s.id
    LIMIT 1000
    FOR UPDATE OF s SKIP LOCKED
), job AS (
    INSERT INTO river_job (kind, args, queue, priority, max_attempts, state, metadata)
    SELECT kind, args, queue, priority, max_attempts, 'available', jsonb_build_object('job_uid', uid, 'tenant', tenant_id, 'schedule', name,
        'nominal', next_nominal_at, 'effective', next_nominal_at, 'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01')
    FROM due
), answer AS (
    INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, effective_at, decided_at, job_uid)
    SELECT id, next_nominal_at, next_nominal_at, 'fired', next_nominal_at, $1, uid FROM due
)
UPDATE headgate.schedules s
SET next_run_at = s.next_run_at + interval '1 day', next_nominal_at = s.next_nominal_at + interval '1 day', answered_at = $1, last_run_at = $1, last_job_uid = due.uid
FROM due WHERE s.id = due.id`

const selectFired = `SELECT count(*), count(DISTINCT metadata->>'job_uid'), (SELECT count(*) FROM headgate.occurrences) FROM river_job`

// selectLate are how late the jobs were, in order: from when they were due to when
// their row was made, which is some milliseconds before its commit.
const selectLate = `
SELECT extract(epoch FROM j.created_at - o.effective_at)::float8
FROM headgate.occurrences o JOIN river_job j ON j.metadata ? 'job_uid' AND j.metadata->>'job_uid' = o.job_uid::text
ORDER BY 1`

// selectDue asks, by one probe, whether something is due still.
const selectDue = `SELECT EXISTS (SELECT FROM headgate.schedules WHERE next_run_at <= $1)`

// measureSchedules compares firing with the SQL of the same batch on the same
// tables, by one process and by three; then lateness, and what an idle tick costs.
func measureSchedules(ctx context.Context, s *stage) (all []comparison, err error) {
	ours := *s.ours
	pool := ours.pool
	ours.tables = "river_job, headgate.occurrences"
	theirs := ours
	ours.name, theirs.name = "headgate", "sql"
	s.ours, s.theirs = &ours, &theirs
	n := s.opts.schedules
	if _, err := pool.Exec(ctx, insertDue, n, time.Now()); err != nil {
		return nil, err
	}
	for _, processes := range []int{1, 3} {
		s.tell(fmt.Sprintf("fires, %d at a time", processes))
		pairs, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
			return s.fires(ctx, pool, who == &ours, processes, n)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, compare(measure{fmt.Sprintf("firing %d due schedules, %d schedulers against as many loops of pure SQL, batches of 1000", n, processes), perSecond, half.rate}, pairs))
	}
	s.tell("lateness")
	burst := min(n, 10_000)
	late, err := s.inPairs(ctx, func(ctx context.Context, who *side) (half, error) { return s.lateness(ctx, pool, who == &ours, burst) })
	if err != nil {
		return nil, err
	}
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99} {
		all = append(all, compare(measure{fmt.Sprintf("lateness of %d due in one second, %s, against pure SQL", burst, name), inMillis, func(h half) float64 { return h.quantile(q) }}, late))
	}
	s.tell("idle ticks")
	idle, err := s.idleTicks(ctx, pool)
	return append(all, idle...), err
}

// schedulers are n of them with nothing to say but warnings.
func (s *stage) schedulers(pool *pgxpool.Pool, n int) ([]*schedule.Scheduler, error) {
	ring, err := s.app.On(pool, nil)
	if err != nil {
		return nil, err
	}
	list := make([]*schedule.Scheduler, n)
	for i := range list {
		store, err := schedule.New(schedule.Config{Pool: pool, Catalog: ring.Catalog, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			return nil, err
		}
		list[i] = schedule.NewScheduler(store, schedule.SchedulerConfig{})
	}
	return list, nil
}

// loopSQL is the pure SQL, until nothing is due.
func loopSQL(ctx context.Context, pool *pgxpool.Pool, due time.Time) error {
	for {
		done, err := pool.Exec(ctx, pureBatch, due)
		if err != nil || done.RowsAffected() == 0 {
			return err
		}
	}
}

// fires lets everything that is due fire, and stops the clock when the database
// says that nothing is.
func (s *stage) fires(ctx context.Context, pool *pgxpool.Pool, ours bool, processes, n int) (half, error) {
	due := time.Now().Add(-time.Second)
	if _, err := pool.Exec(ctx, updateDue, due); err != nil {
		return half{}, err
	}
	for _, sql := range []string{`VACUUM (ANALYZE) headgate.schedules`, `CHECKPOINT`} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return half{}, err
		}
	}
	list, err := s.schedulers(pool, processes)
	if err != nil {
		return half{}, err
	}
	group, inner := errgroup.WithContext(ctx)
	watch := s.start()
	for i := range processes {
		group.Go(func() error {
			if !ours {
				return loopSQL(inner, pool, due)
			}
			for {
				fired, _, err := list[i].RunOnce(inner)
				if err != nil || fired == 0 {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return half{}, err
	}
	if err := nothingDue(ctx, pool, due); err != nil {
		return half{}, err
	}
	h := watch.stop(n)
	return h, firedOnce(ctx, pool, n)
}

// nothingDue waits until the database says that nothing is due any more.
func nothingDue(ctx context.Context, pool *pgxpool.Pool, due time.Time) error {
	tick := time.NewTicker(25 * time.Millisecond) // a look walks over what has moved on
	defer tick.Stop()
	for some := true; some; {
		if err := pool.QueryRow(ctx, selectDue, due).Scan(&some); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// firedOnce proves that the same work was done.
func firedOnce(ctx context.Context, pool *pgxpool.Pool, n int) error {
	var jobs, distinct, answers int
	if err := pool.QueryRow(ctx, selectFired).Scan(&jobs, &distinct, &answers); err != nil {
		return err
	}
	if jobs != n || distinct != n || answers != n {
		return fmt.Errorf("of %d due schedules came %d jobs, %d of them distinct, and %d answers", n, jobs, distinct, answers)
	}
	return nil
}

// lateness is that of schedules that all come due at one moment, while the
// scheduler, or a loop of SQL, is waiting for it.
func (s *stage) lateness(ctx context.Context, pool *pgxpool.Pool, ours bool, n int) (h half, err error) {
	due := time.Now().Add(1500 * time.Millisecond).Truncate(time.Millisecond)
	if _, err := pool.Exec(ctx, `UPDATE headgate.schedules SET next_run_at = NULL WHERE name LIKE 'bench-%'`); err != nil {
		return h, err
	}
	if _, err := pool.Exec(ctx, `UPDATE headgate.schedules SET next_nominal_at = $1, next_run_at = $1, answered_at = $1::timestamptz - interval '1 day'
WHERE id IN (SELECT id FROM headgate.schedules WHERE name LIKE 'bench-%' LIMIT $2)`, due, n); err != nil {
		return h, err
	}
	list, err := s.schedulers(pool, 1)
	if err != nil {
		return h, err
	}
	watch := s.start()
	if ours {
		if err := list[0].Start(ctx); err != nil {
			return h, err
		}
		defer func() { err = errors.Join(err, list[0].Stop(context.WithoutCancel(ctx))) }()
	}
	select {
	case <-ctx.Done():
		return h, context.Cause(ctx)
	case <-time.After(time.Until(due)):
	}
	if !ours {
		if err := loopSQL(ctx, pool, due); err != nil {
			return h, err
		}
	}
	if err := nothingDue(ctx, pool, due); err != nil {
		return h, err
	}
	h = watch.stop(n)
	rows, err := pool.Query(ctx, selectLate)
	if err != nil {
		return h, err
	}
	seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	for _, late := range seconds {
		h.latencies = append(h.latencies, time.Duration(late*float64(time.Second)))
	}
	slices.Sort(h.latencies)
	return h, err
}

// idleTicks times the scheduler's look with many schedules stored and none due,
// against the same look with ten.
func (s *stage) idleTicks(ctx context.Context, pool *pgxpool.Pool) ([]comparison, error) {
	tick, err := s.schedulers(pool, 1)
	if err != nil {
		return nil, err
	}
	const ticks = 1000
	store := func(n int) error {
		for _, sql := range []string{`TRUNCATE headgate.schedules, river_job, headgate.occurrences`} {
			if _, err := pool.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if _, err := pool.Exec(ctx, insertDue, n, time.Now().Add(24*time.Hour)); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `VACUUM (ANALYZE) headgate.schedules`)
		return err
	}
	look := func() (h half, err error) {
		watch := s.start()
		for range ticks {
			began := time.Now()
			if _, _, err := tick[0].RunOnce(ctx); err != nil {
				return h, err
			}
			h.latencies = append(h.latencies, time.Since(began))
		}
		latencies := h.latencies
		h = watch.stop(ticks)
		h.latencies = latencies
		slices.Sort(h.latencies)
		return h, nil
	}
	var p pair
	if err := store(10); err != nil {
		return nil, err
	}
	if p.theirs, err = look(); err != nil {
		return nil, err
	}
	if err := store(s.opts.stored); err != nil {
		return nil, err
	}
	if p.ours, err = look(); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("an idle tick with %d schedules stored against one with 10", s.opts.stored)
	return []comparison{
		compare(measure{what + ", p50", inMillis, func(h half) float64 { return h.quantile(0.5) }}, []pair{p}),
		compare(measure{what + ", p99", inMillis, func(h half) float64 { return h.quantile(0.99) }}, []pair{p}),
	}, nil
}
