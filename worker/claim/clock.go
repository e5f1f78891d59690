package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs/wire"
)

// No clock decides whether a worker is dead (see Keeper). Clocks still decide when a job
// is due: a claim goes by the database's clock, and River's leader promotes retries by
// its own. If the two clocks differ, or one of them jumps, jobs wait without a reason.
// So every keeper, at every pass, makes available what has waited wrongly for longer
// than ClockSlack.

// dueSQL makes two kinds of rows available now:
//
//   - An available row that lies further in the future than $3: the database's clock
//     went back. River never leaves an available row further ahead than its scheduler's
//     interval, 5 seconds.
//   - A retryable or scheduled row that is overdue by the database's clock and by this
//     process's clock ($2). The leader's clock does not count, nor whether there is a
//     leader.
//
// dueSQL walks the index of claims: twelve probes a queue, however many rows wait. It
// also cuts a leader's term that a clock's jump made longer than a minute, because
// nobody could take over until that term ends.
//
// Two rows with one unique key cannot both become available. $4 leaves rows with a key
// out, after they have failed; River's scheduler decides about them.
const dueSQL = `
WITH term AS (
    UPDATE river_leader SET expires_at = now() + '15 seconds'::interval WHERE expires_at > now() + '1 minute'::interval
), lane AS (
    SELECT queue, priority FROM unnest($1::text[]) AS queue, generate_series(1, 4) AS priority
), early AS (
    SELECT j.id FROM lane, LATERAL (
        SELECT id FROM river_job
        WHERE state = 'available' AND queue = lane.queue AND priority = lane.priority AND scheduled_at > now() + $3::interval
        ORDER BY scheduled_at LIMIT 250 FOR UPDATE SKIP LOCKED) j
), overdue AS (
    SELECT j.id FROM lane, LATERAL (
        SELECT id FROM river_job
        WHERE state = 'retryable' AND queue = lane.queue AND priority = lane.priority
          AND scheduled_at < least(now(), $2::timestamptz) - $3::interval AND ($4 OR unique_key IS NULL)
        ORDER BY scheduled_at LIMIT 250 FOR UPDATE SKIP LOCKED) j
    UNION ALL
    SELECT j.id FROM lane, LATERAL (
        SELECT id FROM river_job
        WHERE state = 'scheduled' AND queue = lane.queue AND priority = lane.priority
          AND scheduled_at < least(now(), $2::timestamptz) - $3::interval AND ($4 OR unique_key IS NULL)
        ORDER BY scheduled_at LIMIT 250 FOR UPDATE SKIP LOCKED) j
), moved AS (
    UPDATE river_job j SET state = 'available', scheduled_at = now()
    WHERE j.id = ANY (ARRAY(SELECT id FROM early UNION ALL SELECT id FROM overdue))
    RETURNING j.queue
)
SELECT count(*), headgate.notify_queues(array_agg(queue)) FROM moved`

// putRight runs dueSQL and returns how many jobs became available.
func (k *Keeper) putRight(ctx context.Context) (moved int, err error) {
	var woken int
	put := func(unique bool) error {
		return k.cfg.Pool.QueryRow(ctx, dueSQL, k.cfg.Queues, time.Now(), k.cfg.ClockSlack, unique).Scan(&moved, &woken)
	}
	if err = put(true); unwritable(err) {
		err = put(false)
	}
	if err != nil {
		return 0, fmt.Errorf("looking for jobs that a clock has misplaced: %w", err)
	}
	if moved > 0 {
		k.cfg.Logger.WarnContext(ctx, "jobs were due and waited for a clock; they are available now", "jobs", moved)
	}
	return moved, nil
}

// noteSkew warns that the clocks of this process and of the database differ by WarnSkew
// or more: when that begins, and once a minute while it lasts.
func (k *Keeper) noteSkew(ctx context.Context, database, before, after time.Time) {
	skew := wire.ClockSkew(database, before, after)
	k.skew.Store(int64(skew))
	switch {
	case skew.Abs() < k.cfg.WarnSkew:
		k.warned = time.Time{}
	case k.warned.IsZero() || after.Sub(k.warned) >= time.Minute:
		k.warned = after
		k.cfg.Logger.WarnContext(ctx, "the clocks of this process and the central database differ: retries and snoozes may come early or late; set them right",
			"worker", k.cfg.Worker, "database_ahead_by", skew.Round(time.Millisecond).String())
	}
}

// Skew is how far the database's clock was ahead of this process's clock at the last
// heartbeat.
func (k *Keeper) Skew() time.Duration { return time.Duration(k.skew.Load()) }
