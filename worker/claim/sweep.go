package claim

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The safety net of fair claiming: a lane that nobody has woken although it has
// rows (a dump that was restored without its triggers, a TRUNCATE, a bug) waits for
// a sweep, not for ever; so does a row that came to a lane below its floor like
// that. It costs one index probe for each lane and priority that has rows, and one
// look at all lanes.

// sweepEvery is in passes of the keeper, of each process: a minute at the default.
const sweepEvery = 6

// oneSweeperSQL lets one process sweep at a time.
const oneSweeperSQL = `SELECT pg_try_advisory_xact_lock(4738, 0)`

// wakeForgottenSQL jumps along the index of available rows to the first of each lane
// and priority, and wakes the lanes that nobody will look at, or not so far back.
const wakeForgottenSQL = `
WITH RECURSIVE first AS (
    (SELECT queue, headgate.lane(metadata) AS lane, kind, priority, scheduled_at, id FROM river_job WHERE state = 'available'
     ORDER BY queue, headgate.lane(metadata), kind, priority, scheduled_at, id LIMIT 1)
    UNION ALL
    SELECT n.* FROM first f CROSS JOIN LATERAL (
        SELECT queue, headgate.lane(metadata) AS lane, kind, priority, scheduled_at, id FROM river_job
        WHERE state = 'available' AND (queue, headgate.lane(metadata), kind, priority) > (f.queue, f.lane, f.kind, f.priority)
        ORDER BY queue, headgate.lane(metadata), kind, priority, scheduled_at, id LIMIT 1) n
)
INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
SELECT f.queue, f.lane, f.kind, f.priority, f.scheduled_at
FROM first f LEFT JOIN headgate.lanes l ON l.queue = f.queue AND l.lane = f.lane AND l.kind = f.kind
WHERE (l.kind IS NULL OR NOT (l.active OR l.wake_at IS NOT NULL OR l.held <> '')
       OR l.floors IS NOT NULL AND coalesce((f.scheduled_at, f.id) < ((l.floors->f.priority::text->>0)::timestamptz, (l.floors->f.priority::text->>1)::bigint), true))
  AND NOT EXISTS (SELECT FROM headgate.wakeups w WHERE w.queue = f.queue AND w.lane = f.lane AND w.kind = f.kind AND w.priority = f.priority)`

// wakeReleasedSQL wakes lanes that are held for what does not hold them any more.
// Whoever released the owner has woken them, unless that was in a transaction whose
// snapshot had no lanes (rewrite.go).
const wakeReleasedSQL = `
INSERT INTO headgate.wakeups (queue, lane, kind)
SELECT l.queue, l.lane, l.kind
FROM headgate.lanes l JOIN headgate.tenants t ON t.id = headgate.uuid_or_null(l.lane)
WHERE l.held <> '' AND t.status = 'active'
  AND NOT EXISTS (SELECT FROM headgate.pauses p WHERE p.scope = 'tenant' AND p.target = l.lane AND coalesce(p.until > now(), true))
  AND NOT EXISTS (SELECT FROM headgate.wakeups w WHERE w.queue = l.queue AND w.lane = l.lane AND w.kind = l.kind)`

// dropGroupsSQL forgets groups without lanes, under the claims' lock.
const dropGroupsSQL = `
DELETE FROM headgate.lane_groups g
WHERE NOT EXISTS (SELECT FROM headgate.lanes l WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind)`

// lowerFloorsSQL finds active lanes below the floor of their group, which no claim of
// this version leaves behind.
const lowerFloorsSQL = `
UPDATE headgate.lane_groups g
SET floor = low.vtime
FROM (
    SELECT queue, server_id, kind, (SELECT vtime FROM headgate.lanes l
        WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind AND l.active ORDER BY l.vtime LIMIT 1) AS vtime
    FROM headgate.lane_groups g
) low
WHERE g.queue = low.queue AND g.server_id = low.server_id AND g.kind = low.kind AND low.vtime < g.floor`

// dropHandsSQL forgets what the dead held; nobody counts it any more.
const dropHandsSQL = `
DELETE FROM headgate.hands h
WHERE NOT EXISTS (SELECT FROM headgate.workers w WHERE w.incarnation = h.incarnation AND w.reaped_at IS NULL AND w.ended_at IS NULL)`

// sweepLanes is one sweep, unless another process is at it. It returns how many
// lanes had been forgotten.
func (k *Keeper) sweepLanes(ctx context.Context) (forgotten int64, err error) {
	err = pgx.BeginTxFunc(ctx, k.cfg.Pool, readCommitted, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, oneSweeperSQL).Scan(&mine); err != nil || !mine {
			return err
		}
		woken, err := tx.Exec(ctx, wakeForgottenSQL)
		if err != nil {
			return err
		}
		released, err := tx.Exec(ctx, wakeReleasedSQL)
		if err != nil {
			return err
		}
		if forgotten = woken.RowsAffected() + released.RowsAffected(); forgotten > 0 {
			if _, err := tx.Exec(ctx, wakeQueuesSQL); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, dropHandsSQL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lockSQL, "2s", 0); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, dropGroupsSQL); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, lowerFloorsSQL)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("sweeping the lanes: %w", err)
	}
	if forgotten > 0 {
		k.cfg.Logger.WarnContext(ctx, "lanes had jobs and nobody had woken them; they are awake now", "lanes", forgotten)
	}
	return forgotten, nil
}
