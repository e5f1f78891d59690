package explain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Health says whether what is asked for is also done: by rows of the central database
// as of one moment.
type Health struct {
	Workers  WorkerHealth   `json:"workers"`
	Queues   []Unserved     `json:"queues"` // whose jobs no living worker claims
	Kinds    []Unserved     `json:"kinds"`  // that jobs wait for, or schedules name, and no living worker knows
	Pairs    []UnservedPair `json:"pairs"`  // that jobs wait in: workers know the kind, and others claim from the queue
	Paused   []PausedQueue  `json:"paused"` // queues that River's UI or another River client has paused
	Schedule ScheduleHealth `json:"schedules"`
}

// PausedQueue is a queue that is paused in River, which says neither by whom nor why.
type PausedQueue struct {
	Name  string    `json:"name"`
	Since jobs.Time `json:"since"`
}

// WorkerHealth counts the workers that have not stopped and are not declared dead.
type WorkerHealth struct {
	Alive    int        `json:"alive"`
	Draining int        `json:"draining"` // of those alive
	Silent   int        `json:"silent"`   // no sign of life lately
	LastAt   *time.Time `json:"last_at"`  // the last sign of life of any; nil if there has been none for seven days
}

// Unserved is a queue or a kind without a worker.
type Unserved struct {
	Name      string     `json:"name"`
	Schedules int        `json:"schedules"`       // that name the kind; 0 for a queue
	Since     *jobs.Time `json:"since,omitempty"` // when the first of its waiting jobs was due; nil if none waits
}

// UnservedPair is a kind that no living worker both knows and claims from the queue.
type UnservedPair struct {
	Kind  string    `json:"kind"`
	Queue string    `json:"queue"`
	Since jobs.Time `json:"since"` // when the first of its waiting jobs was due
	Next  string    `json:"next"`  // what to do about it
}

// ScheduleHealth is about schedules that are not paused.
type ScheduleHealth struct {
	Count   int        `json:"count"`
	InError int        `json:"in_error"`
	Overdue int        `json:"overdue"` // due for more than a minute, counted to 1,000
	Since   *time.Time `json:"since"`   // when the first of those was due

	// LockedBy is who has locked one of the first of those; "" if nobody has.
	LockedBy string `json:"locked_by,omitempty"`
	EndLock  string `json:"end_lock,omitempty"` // what to do about it
}

// overdueAfter is how late a scheduler that works is not.
const overdueAfter = time.Minute

const workerHealthSQL = `
SELECT count(*) FILTER (WHERE NOT silent), count(*) FILTER (WHERE draining AND NOT silent), count(*) FILTER (WHERE silent),
       (SELECT max(beat_at) FROM headgate.workers)
FROM (SELECT draining, headgate.silent(beat_at, dead_after) AS silent FROM headgate.living_workers) w`

// servedSQL are the kinds and the queues that living workers take.
const servedSQL = `
WITH alive AS (
    SELECT kinds, queues FROM headgate.living_workers WHERE NOT draining AND NOT headgate.silent(beat_at, dead_after)
)
SELECT coalesce((SELECT array_agg(DISTINCT k) FROM alive, unnest(kinds) k), '{}'), coalesce((SELECT array_agg(DISTINCT q) FROM alive, unnest(queues) q), '{}')
FROM (SELECT) one`

const kindServedSQL = `
SELECT EXISTS (SELECT FROM headgate.living_workers WHERE NOT draining AND NOT headgate.silent(beat_at, dead_after) AND $1 = ANY (kinds))`

// Served returns whether a living worker that takes jobs serves the kind, as of its last
// heartbeat.
func (x *Explainer) Served(ctx context.Context, kind string) (served bool, err error) {
	if err := x.pool.QueryRow(ctx, kindServedSQL, kind).Scan(&served); err != nil {
		return false, fmt.Errorf("looking whether a worker serves kind %s: %w", kind, err)
	}
	return served, nil
}

// dueQueuesSQL finds of each queue the job that was due first.
const dueQueuesSQL = `
SELECT q.queue, min(f.scheduled_at)
FROM headgate.waiting_queues() AS q (queue)
CROSS JOIN generate_series(1, 4) p
CROSS JOIN LATERAL (
    SELECT j.scheduled_at FROM river_job j WHERE j.state = 'available' AND j.queue = q.queue AND j.priority = p ORDER BY j.scheduled_at LIMIT 1
) f
GROUP BY 1 ORDER BY 1`

// dueInLanes finds of each group of active lanes a job that waits. A lane stays active
// until a claim looks at it, so a job is asked for as well.
const dueInLanes = `
FROM headgate.lane_groups g
CROSS JOIN LATERAL (
    SELECT j.scheduled_at
    FROM headgate.lanes l
    JOIN river_job j ON j.state = 'available' AND j.queue = l.queue AND headgate.lane(j.metadata) = l.lane AND j.kind = l.kind
    WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind AND l.active
    LIMIT 1
) f
`

// dueKindsSQL finds the kinds that jobs wait for and that are none of $1.
const dueKindsSQL = `
SELECT g.kind, min(f.scheduled_at)` + dueInLanes + `WHERE g.kind <> ALL ($1)
GROUP BY 1 ORDER BY 1 LIMIT 1000`

// duePairsSQL finds the kinds of $1 in queues of $2 that no one worker has both of.
const duePairsSQL = `
SELECT g.kind, g.queue, min(f.scheduled_at)` + dueInLanes + `WHERE g.kind = ANY ($1) AND g.queue = ANY ($2)
  AND NOT EXISTS (SELECT FROM headgate.living_workers w
                  WHERE NOT w.draining AND NOT headgate.silent(w.beat_at, w.dead_after) AND g.kind = ANY (w.kinds) AND g.queue = ANY (w.queues))
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 1000`

// scheduledKindsSQL reads all schedules: only doctor asks.
const scheduledKindsSQL = `
SELECT kind, count(*), count(*) FILTER (WHERE error <> '')
FROM headgate.schedules WHERE NOT paused GROUP BY 1 ORDER BY 1 LIMIT 1000`

const overdueSQL = `
SELECT count(*), min(next_run_at)
FROM (SELECT next_run_at FROM headgate.schedules WHERE next_run_at < clock_timestamp() - $1::interval ORDER BY next_run_at LIMIT $2) s`

const lockedScheduleSQL = `
SELECT coalesce(max(headgate.locked_by(x)), '')
FROM (SELECT xmax AS x FROM headgate.schedules WHERE next_run_at < clock_timestamp() - $1::interval ORDER BY next_run_at LIMIT 10) s WHERE x::text <> '0'`

const pausedInRiverSQL = `SELECT name, paused_at FROM river_queue WHERE paused_at IS NOT NULL ORDER BY name LIMIT 1000`

// Health looks whether workers live, and know and take what waits, and whether schedules
// are fired. It reads all schedules once: it is for people and for alerts that ask now
// and then.
func (x *Explainer) Health(ctx context.Context) (h Health, err error) {
	err = central.Read(ctx, x.pool, func(tx pgx.Tx) error {
		var kinds, queues []string
		w, s := &h.Workers, &h.Schedule
		err := errors.Join(
			tx.QueryRow(ctx, workerHealthSQL).Scan(&w.Alive, &w.Draining, &w.Silent, &w.LastAt),
			tx.QueryRow(ctx, servedSQL).Scan(&kinds, &queues),
			tx.QueryRow(ctx, overdueSQL, overdueAfter, maxCount).Scan(&s.Overdue, &s.Since),
			tx.QueryRow(ctx, lockedScheduleSQL, overdueAfter).Scan(&s.LockedBy),
		)
		if err != nil {
			return err
		}
		if s.LockedBy != "" {
			s.EndLock = central.EndSession(s.LockedBy)
		}
		if h.Queues, err = unserved(ctx, tx, dueQueuesSQL); err != nil {
			return err
		}
		h.Queues = slices.DeleteFunc(h.Queues, func(u Unserved) bool { return slices.Contains(queues, u.Name) })
		if h.Kinds, err = unserved(ctx, tx, dueKindsSQL, kinds); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, duePairsSQL, kinds, queues) // its error is CollectRows' too
		h.Pairs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p UnservedPair, err error) {
			err = row.Scan(&p.Kind, &p.Queue, &p.Since)
			p.Next = workTheQueue(p.Kind, p.Queue)
			return p, err
		})
		if err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, pausedInRiverSQL)
		if h.Paused, err = pgx.CollectRows(rows, pgx.RowToStructByPos[PausedQueue]); err != nil {
			return err
		}
		return h.scheduledKinds(ctx, tx, kinds)
	})
	if err != nil {
		return h, fmt.Errorf("looking whether work is done: %w", x.saysWhoLocks(ctx, err))
	}
	return h, nil
}

func unserved(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]Unserved, error) {
	rows, _ := tx.Query(ctx, sql, args...) // its error is CollectRows' too
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (u Unserved, err error) {
		return u, row.Scan(&u.Name, &u.Since)
	})
}

// scheduledKinds adds the kinds that schedules name and that are not among known.
func (h *Health) scheduledKinds(ctx context.Context, tx pgx.Tx, known []string) error {
	rows, _ := tx.Query(ctx, scheduledKindsSQL) // its error is ForEachRow's too
	var kind string
	var count, failed int
	_, err := pgx.ForEachRow(rows, []any{&kind, &count, &failed}, func() error {
		h.Schedule.Count += count
		h.Schedule.InError += failed
		if slices.Contains(known, kind) {
			return nil
		}
		i := slices.IndexFunc(h.Kinds, func(u Unserved) bool { return u.Name == kind })
		if i < 0 {
			i = len(h.Kinds)
			h.Kinds = append(h.Kinds, Unserved{Name: kind})
		}
		h.Kinds[i].Schedules = count
		return nil
	})
	return err
}
