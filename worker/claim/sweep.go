package claim

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The sweep is the safety net of fair claiming. A lane may have rows though nobody has
// woken the lane: after a dump that was restored without its triggers, a TRUNCATE, a bug.
// Such a lane waits for a sweep, not for ever, and so does a row that came before its
// lane's cursor like that. A sweep costs one index probe for each lane and priority that
// has rows, and one look at all lanes.

// sweepEvery is in passes of the keeper, of each process: a minute at the default. The
// first two passes sweep as well: a job that was enqueued while its queue's first
// worker started may have woken nobody.
const sweepEvery = 6

// oneSweeperSQL lets one process sweep at a time.
const oneSweeperSQL = `SELECT pg_try_advisory_xact_lock(4738, 0)`

// lanesAtOnce is how many lanes a part of a sweep looks at.
const lanesAtOnce = 1000

// wakeForgottenSQL jumps along the index of available rows to the first of each lane and
// priority, behind a place ($2 to $5), and so often ($6). It wakes the lanes of some queues
// ($1) that nobody will look at, or not so far back. It returns how many it woke, how many it
// looked at, and the place of the last.
const wakeForgottenSQL = `
WITH RECURSIVE first AS (
    (SELECT 1 AS n, queue, headgate.lane(metadata) AS lane, kind, priority, scheduled_at, id FROM river_job
     WHERE state = 'available' AND (queue, headgate.lane(metadata), kind, priority) > ($2::text, $3::text, $4::text, $5::smallint)
     ORDER BY queue, headgate.lane(metadata), kind, priority, scheduled_at, id LIMIT 1)
    UNION ALL
    SELECT n.* FROM first f CROSS JOIN LATERAL (
        SELECT f.n + 1, queue, headgate.lane(metadata) AS lane, kind, priority, scheduled_at, id FROM river_job
        WHERE state = 'available' AND (queue, headgate.lane(metadata), kind, priority) > (f.queue, f.lane, f.kind, f.priority)
        ORDER BY queue, headgate.lane(metadata), kind, priority, scheduled_at, id LIMIT 1) n
    WHERE f.n < $6
), woken AS (
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    SELECT f.queue, f.lane, f.kind, f.priority, f.scheduled_at
    FROM first f LEFT JOIN headgate.lanes l ON l.queue = f.queue AND l.lane = f.lane AND l.kind = f.kind
    WHERE f.queue = ANY ($1::text[]) AND (l.kind IS NULL OR NOT (l.active OR l.wake_at IS NOT NULL OR l.held <> '')
           OR l.floors IS NOT NULL AND coalesce((f.scheduled_at, f.id) < ((l.floors->f.priority::text->>0)::timestamptz, (l.floors->f.priority::text->>1)::bigint), true))
      AND NOT EXISTS (SELECT FROM headgate.wakeups w WHERE w.queue = f.queue AND w.lane = f.lane AND w.kind = f.kind AND w.priority = f.priority)
    RETURNING 1
)
SELECT (SELECT count(*) FROM woken), f.n, f.queue, f.lane, f.kind, f.priority FROM first f ORDER BY f.n DESC LIMIT 1`

// wakeStaleSQL wakes lanes whose copy of what the catalog, the limits and the pauses say
// of their owner is another than what these say now: so many ($4) behind a place ($1 to $3).
// Whoever changed the owner has woken the lanes that it saw; a lane that a claim made
// meanwhile has copied the older state. It returns what wakeForgottenSQL returns.
const wakeStaleSQL = `
WITH part AS MATERIALIZED (
    SELECT l.* FROM headgate.lanes l
    WHERE (l.queue, l.lane, l.kind) > ($1::text, $2::text, $3::text) AND (l.active OR l.held <> '')
    ORDER BY l.queue, l.lane, l.kind LIMIT $4
), woken AS (
    INSERT INTO headgate.wakeups (queue, lane, kind)
    SELECT l.queue, l.lane, l.kind
    FROM part l LEFT JOIN LATERAL headgate.lane_owner(headgate.uuid_or_null(l.lane), l.kind) o ON true
    WHERE (l.server_id, l.database_id, l.held, l.weight, l.max_running, l.rate, l.rate_period) IS DISTINCT FROM
          (coalesce(o.server_id, '00000000-0000-0000-0000-000000000000'), coalesce(o.database_id, '00000000-0000-0000-0000-000000000000'),
           coalesce(o.held, ''), coalesce(o.weight, 1), o.max_running, o.rate, o.rate_period)
      AND NOT EXISTS (SELECT FROM headgate.wakeups w WHERE w.queue = l.queue AND w.lane = l.lane AND w.kind = l.kind)
    RETURNING 1
)
SELECT (SELECT count(*) FROM woken), (SELECT count(*) FROM part), l.queue, l.lane, l.kind, 0::smallint
FROM part l ORDER BY l.queue DESC, l.lane DESC, l.kind DESC LIMIT 1`

// servedQueuesSQL are the queues that living workers serve. By them ($1) listServedSQL
// takes queues out of the list of those that nobody serves, listUnservedSQL adds others
// that have wake-ups, up to a bound, and dropWakeupsSQL takes their wake-ups away.
const (
	servedQueuesSQL = `
SELECT coalesce(array_agg(DISTINCT queue), '{}') FROM headgate.living_workers CROSS JOIN LATERAL unnest(queues) AS queue`
	listServedSQL   = `DELETE FROM headgate.unserved_queues WHERE queue = ANY ($1::text[])`
	listUnservedSQL = `
INSERT INTO headgate.unserved_queues (queue)
SELECT DISTINCT queue FROM headgate.wakeups WHERE queue <> ALL ($1::text[])
ORDER BY queue LIMIT greatest(1000 - (SELECT count(*) FROM headgate.unserved_queues), 0)
ON CONFLICT DO NOTHING`
	dropWakeupsSQL = `
DELETE FROM headgate.wakeups WHERE ctid = ANY (ARRAY(SELECT ctid FROM headgate.wakeups WHERE queue <> ALL ($1::text[]) LIMIT 100000))`
)

// forgetQueuesSQL takes names out of the list of which no row has waited for an hour.
const forgetQueuesSQL = `
DELETE FROM headgate.unserved_queues u
WHERE since < now() - interval '1 hour' AND NOT EXISTS (SELECT FROM river_job j WHERE j.state = 'available' AND j.queue = u.queue)`

// keepCursorsSQL says that whoever takes wake-ups away knows of cursors.
const keepCursorsSQL = `SELECT set_config('headgate.floors', 'kept', true)`

// sweepQueues brings the list of queues that nobody serves up to date, and returns the
// others.
func sweepQueues(ctx context.Context, tx pgx.Tx) (served []string, err error) {
	if _, err := tx.Exec(ctx, keepCursorsSQL); err != nil {
		return nil, err
	}
	if err := tx.QueryRow(ctx, servedQueuesSQL).Scan(&served); err != nil {
		return nil, err
	}
	for _, sql := range []string{listServedSQL, listUnservedSQL, dropWakeupsSQL} {
		if _, err := tx.Exec(ctx, sql, served); err != nil {
			return nil, err
		}
	}
	_, err = tx.Exec(ctx, forgetQueuesSQL)
	return served, err
}

// waitSweepSQL waits for a sweep that is under way, longer than a sweep may take whose
// process has stopped.
const waitSweepSQL = `SELECT set_config('lock_timeout', '10s', true), pg_advisory_xact_lock(4738, 0)`

// manyUnservedSQL says that the list of such queues is full, so that one may be missing.
const manyUnservedSQL = `SELECT count(*) >= 1000 FROM headgate.unserved_queues`

// beginQueue starts a queue's clock. If nobody has served the queue, it wakes the lanes
// that have got rows meanwhile. It waits for a sweep that is under way, which may not have
// seen this process yet and would list the queue again.
func beginQueue(ctx context.Context, pool *pgxpool.Pool, queue string) error {
	return inTx(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, waitSweepSQL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, beginQueueSQL, queue); err != nil {
			return err
		}
		var full bool
		if err := tx.QueryRow(ctx, manyUnservedSQL).Scan(&full); err != nil {
			return err
		}
		listed, err := tx.Exec(ctx, listServedSQL, []string{queue})
		if err == nil && (full || listed.RowsAffected() > 0) {
			_, err = tx.Exec(ctx, wakeForgottenSQL, []string{queue}, "", "", "", 0, math.MaxInt32)
		}
		return err
	})
}

// dropGroupsSQL forgets groups without lanes, under the claims' lock.
const dropGroupsSQL = `
DELETE FROM headgate.lane_groups g
WHERE NOT EXISTS (SELECT FROM headgate.lanes l WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind)`

// lowerLowWatermarksSQL finds active lanes below the low watermark of their group, which no
// claim of this version leaves behind.
const lowerLowWatermarksSQL = `
UPDATE headgate.lane_groups g
SET floor = low.vtime
FROM (
    SELECT queue, server_id, kind, (SELECT vtime FROM headgate.lanes l
        WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind AND l.active ORDER BY l.vtime LIMIT 1) AS vtime
    FROM headgate.lane_groups g
) low
WHERE g.queue = low.queue AND g.server_id = low.server_id AND g.kind = low.kind AND low.vtime < g.floor`

// dropHandsSQL deletes the usages of the dead, once nobody counts them any more.
const dropHandsSQL = `
DELETE FROM headgate.hands h
WHERE NOT EXISTS (
    SELECT FROM headgate.workers w
    WHERE w.incarnation = h.incarnation AND w.ended_at IS NULL
      AND (w.reaped_at IS NULL OR h.dead AND w.reaped_at > now() - make_interval(secs => (h.hand->>'linger')::float8 / 1000 + 5) AND headgate.is_there(h.hand)))`

// sweeping is how far a sweep has come: its step, and behind which lane.
type sweeping struct {
	step              int
	queue, lane, kind string
	priority          int16
}

// sweepSteps are the steps of a sweep. A step does one part of itself, and says how many lanes
// it has woken and whether more parts follow.
var sweepSteps = []func(ctx context.Context, tx pgx.Tx, at *sweeping) (woken int64, more bool, err error){
	func(ctx context.Context, tx pgx.Tx, _ *sweeping) (int64, bool, error) {
		_, err := sweepQueues(ctx, tx)
		return 0, false, err
	},
	func(ctx context.Context, tx pgx.Tx, at *sweeping) (woken int64, more bool, err error) {
		var served []string
		if err := tx.QueryRow(ctx, servedQueuesSQL).Scan(&served); err != nil {
			return 0, false, err
		}
		return at.wake(ctx, tx, wakeForgottenSQL, served, at.queue, at.lane, at.kind, at.priority, lanesAtOnce)
	},
	func(ctx context.Context, tx pgx.Tx, at *sweeping) (woken int64, more bool, err error) {
		return at.wake(ctx, tx, wakeStaleSQL, at.queue, at.lane, at.kind, lanesAtOnce)
	},
	func(ctx context.Context, tx pgx.Tx, _ *sweeping) (int64, bool, error) {
		if _, err := tx.Exec(ctx, dropHandsSQL); err != nil {
			return 0, false, err
		}
		if err := lockClaims(ctx, tx); err != nil {
			return 0, false, err
		}
		if _, err := tx.Exec(ctx, dropGroupsSQL); err != nil {
			return 0, false, err
		}
		_, err := tx.Exec(ctx, lowerLowWatermarksSQL)
		return 0, false, err
	},
}

// wake runs one of the two statements that wake lanes, and moves behind the last lane that
// the statement has looked at.
func (at *sweeping) wake(ctx context.Context, tx pgx.Tx, sql string, args ...any) (woken int64, more bool, err error) {
	var seen int
	err = tx.QueryRow(ctx, sql, args...).Scan(&woken, &seen, &at.queue, &at.lane, &at.kind, &at.priority)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	if err == nil && woken > 0 {
		_, err = tx.Exec(ctx, wakeQueuesSQL)
	}
	return woken, seen == lanesAtOnce, err
}

// sweepLanes is one sweep, unless another process is at it. It returns how many lanes had been
// forgotten. Each part is a transaction of its own, so that what was done stays done when the
// time of the pass is up: the next pass goes on behind it. A step that fails, or that comes to
// no end of its first part, keeps no later one from its work.
func (k *Keeper) sweepLanes(ctx context.Context) (forgotten int64, err error) {
	var failed []error
	for parts := 0; k.sweep.step < len(sweepSteps); parts++ {
		woken, err := k.sweepPart(ctx)
		forgotten += woken
		if err == nil {
			continue
		}
		if ctx.Err() != nil && parts > 0 {
			break
		}
		failed = append(failed, err)
		if k.sweep = (sweeping{step: k.sweep.step + 1}); ctx.Err() != nil {
			break
		}
	}
	if k.sweep.step >= len(sweepSteps) {
		k.sweep = sweeping{}
	}
	if forgotten > 0 {
		k.cfg.Logger.WarnContext(ctx, "lanes had jobs and nobody had woken them; they are awake now", "lanes", forgotten)
	}
	if err := errors.Join(failed...); err != nil {
		return forgotten, fmt.Errorf("sweeping the lanes: %w", err)
	}
	return forgotten, nil
}

// sweepPart does one part of the sweep, and ends the sweep if another process is at one.
func (k *Keeper) sweepPart(ctx context.Context) (woken int64, err error) {
	at := k.sweep
	err = inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
		var mine, more bool
		if err := tx.QueryRow(ctx, oneSweeperSQL).Scan(&mine); err != nil {
			return err
		}
		if !mine {
			at = sweeping{step: len(sweepSteps)}
			return nil
		}
		if woken, more, err = sweepSteps[at.step](ctx, tx, &at); err == nil && !more {
			at = sweeping{step: at.step + 1}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	k.sweep = at
	return woken, nil
}
