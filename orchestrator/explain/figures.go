package explain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Figures are what the central database knows of the whole at one moment, as numbers for
// metrics. No tenant and no job is among them.
type Figures struct {
	At      time.Time // by this process's clock
	Workers WorkerHealth
	Queues  []QueueFigure
	Servers []ServerFigure

	Quarantined   int // jobs, counted to 10,000
	UnservedKinds int // kinds of waiting jobs that no live worker has, counted to 1,000

	Overdue    int           // schedules with an expected occurrence that is unanswered for a minute, counted to 10,000
	OverdueFor time.Duration // since the first of these was due
	Broken     int           // schedules that an error has stopped, counted to 10,000

	// Successes are the watched schedules, by name: how long ago a job of the schedule
	// succeeded, for the tenant that waits longest. Paused ones do not count. A schedule whose
	// kept answers have no success counts from the oldest of these, which is a lower bound,
	// and from its creation if it has not fired. 10,000 answers of a schedule are looked at,
	// or fewer if 60,000 do not suffice for all, but three at least.
	Successes map[string]time.Duration

	// Watched are the schedules that each watched name has, paused ones included: 0 is a name
	// that nobody's schedule has.
	Watched map[string]int

	// Missing are the figures that could not be found this time, by name, and why. Their
	// values mean nothing.
	Missing map[string]error
}

// The names in Figures.Missing.
const (
	FigureWorkers   = "workers"
	FigureQueues    = "queues"
	FigureServers   = "servers"
	FigureKinds     = "kinds"
	FigureSchedules = "schedules"
	FigureCounts    = "counts"
	FigureSuccesses = "successes"
)

// FigureNames are all of them.
var FigureNames = []string{FigureWorkers, FigureQueues, FigureServers, FigureKinds, FigureSchedules, FigureCounts, FigureSuccesses}

// QueueFigure is one queue in which jobs are due.
type QueueFigure struct {
	Name    string
	Waiting int           // jobs that are due, counted to 10,000
	Oldest  time.Duration // since the first of them was due
}

// ServerFigure is one server of the catalog.
type ServerFigure struct {
	Name         string
	Budget, Used int // connections; Budget is 0 where none is set

	// Broken are the open breakers, the server's and those of its databases, by the class of
	// the attempts that opened them.
	Broken map[string]int
}

// FiguresParams says what Figures looks at besides.
type FiguresParams struct {
	Schedules []string // names of schedules to watch, at most 20
}

// MaxWatched bounds the schedules that are watched.
const MaxWatched = 20

// mostFigure bounds what is counted.
const mostFigure = 10_000

// figuresFor bounds one look. Figures that take longer are none.
const figuresFor = "2s"

const boundFiguresSQL = `SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', '100ms', true)`

// oneLooksSQL keeps processes that are asked at once from looking at once.
const oneLooksSQL = `SELECT pg_try_advisory_xact_lock(hashtextextended('headgate.figures', 0))`

// queueFiguresSQL walks the index on available rows of each queue, up to $1 entries.
const queueFiguresSQL = `
SELECT q.queue, w.n, coalesce(extract(epoch FROM now() - f.first), 0)::float8
FROM headgate.waiting_queues() AS q (queue)
CROSS JOIN LATERAL (
    SELECT count(*)::int AS n FROM (SELECT FROM river_job j WHERE j.state = 'available' AND j.queue = q.queue LIMIT $1) x
) w
CROSS JOIN LATERAL (
    SELECT min(e.scheduled_at) AS first
    FROM generate_series(1, 4) p (n)
    CROSS JOIN LATERAL (
        SELECT j.scheduled_at FROM river_job j WHERE j.state = 'available' AND j.queue = q.queue AND j.priority = p.n ORDER BY j.scheduled_at LIMIT 1
    ) e
) f
ORDER BY 1 LIMIT 2000`

const serverFiguresSQL = `
WITH used AS (
    SELECT l.key AS id, least(sum(greatest(
               CASE WHEN jsonb_typeof(l.value->'jobs') = 'number' THEN (l.value->>'jobs')::numeric END,
               CASE WHEN jsonb_typeof(l.value->'conns') = 'number' THEN (l.value->>'conns')::numeric END)), 1000000)::int AS n
    FROM headgate.counted_hands h, jsonb_each(CASE WHEN jsonb_typeof(h.hand->'servers') = 'object' THEN h.hand->'servers' END) l
    GROUP BY l.key
), broken AS (
    SELECT id, jsonb_object_agg(class, n) AS classes
    FROM (SELECT coalesce(d.server_id, b.id) AS id, b.class, count(*)::int AS n
          FROM headgate.breakers b
          LEFT JOIN headgate.databases d ON b.scope = 'database' AND d.id = b.id
          GROUP BY 1, 2) c
    GROUP BY 1
)
SELECT s.name, coalesce(s.connection_budget, 0), coalesce(u.n, 0), coalesce(b.classes, '{}')
FROM headgate.servers s
LEFT JOIN used u ON u.id = s.id::text
LEFT JOIN broken b ON b.id = s.id
ORDER BY 1 LIMIT 1000`

const countFiguresSQL = `
SELECT (SELECT count(*) FROM (SELECT FROM headgate.suspects WHERE quarantined_at IS NOT NULL LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM headgate.schedules WHERE next_run_at IS NULL AND error <> '' LIMIT $1) s)`

// Figures looks, unless another process does so now: then ok is false. A look takes at most
// 2 seconds a statement.
func (x *Explainer) Figures(ctx context.Context, params FiguresParams) (f Figures, ok bool, err error) {
	if len(params.Schedules) > MaxWatched {
		return f, false, fmt.Errorf("watching %s: give at most %d names", jobs.Count(len(params.Schedules), "schedule"), MaxWatched)
	}
	err = central.Read(ctx, x.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, boundFiguresSQL, figuresFor); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, oneLooksSQL).Scan(&ok); err != nil || !ok {
			return err
		}
		return f.look(ctx, tx, params)
	})
	if err != nil {
		return Figures{}, false, fmt.Errorf("looking at the figures of the central database: %w", err)
	}
	f.At = time.Now()
	return f, ok, nil
}

// look finds each figure by itself: one that takes too long, or whose rows are odd, is
// missing, and takes none of the others with it.
func (f *Figures) look(ctx context.Context, tx pgx.Tx, params FiguresParams) error {
	f.Missing = map[string]error{}
	var kinds []string
	for _, part := range []struct {
		name string
		find func(tx pgx.Tx) error
	}{
		{FigureWorkers, func(tx pgx.Tx) error {
			w, queues := &f.Workers, []string(nil)
			return errors.Join(
				tx.QueryRow(ctx, workerHealthSQL).Scan(&w.Alive, &w.Draining, &w.Silent, &w.LastAt),
				tx.QueryRow(ctx, servedSQL).Scan(&kinds, &queues))
		}},
		{FigureQueues, func(tx pgx.Tx) error { return f.queues(ctx, tx) }},
		{FigureServers, func(tx pgx.Tx) error { return f.servers(ctx, tx) }},
		{FigureKinds, func(tx pgx.Tx) error {
			found, err := unserved(ctx, tx, dueKindsSQL, kinds)
			f.UnservedKinds = len(found)
			return err
		}},
		{FigureSchedules, func(tx pgx.Tx) error {
			var since *time.Time
			err := tx.QueryRow(ctx, overdueSQL, overdueAfter, mostFigure).Scan(&f.Overdue, &since)
			if since != nil {
				f.OverdueFor = time.Since(*since)
			}
			return err
		}},
		{FigureCounts, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, countFiguresSQL, mostFigure).Scan(&f.Quarantined, &f.Broken)
		}},
		{FigureSuccesses, func(tx pgx.Tx) error { return f.successes(ctx, tx, params.Schedules) }},
	} {
		err := central.Apart(ctx, tx, 0, 1, func(tx pgx.Tx, _, _ int) error { return part.find(tx) },
			func(_ pgx.Tx, _ int, cause error) error { f.Missing[part.name] = cause; return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Figures) queues(ctx context.Context, tx pgx.Tx) error {
	var all []QueueFigure
	var q QueueFigure
	var age float64
	rows, _ := tx.Query(ctx, queueFiguresSQL, mostFigure) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&q.Name, &q.Waiting, &age}, func() error {
		q.Oldest = seconds(age)
		all = append(all, q)
		return nil
	})
	if err == nil {
		f.Queues = all
	}
	return err
}

func (f *Figures) servers(ctx context.Context, tx pgx.Tx) error {
	var all []ServerFigure
	var s ServerFigure
	scan := func() error {
		all = append(all, s)
		s.Broken = nil // the next one's is a map of its own
		return nil
	}
	rows, _ := tx.Query(ctx, serverFiguresSQL) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&s.Name, &s.Budget, &s.Used, &s.Broken}, scan)
	if err == nil {
		f.Servers = all
	}
	return err
}

func seconds(n float64) time.Duration { return time.Duration(max(n, 0) * float64(time.Second)) }
