package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
)

// Clocks decide nothing about life and death here (see Keeper). They still decide
// when a job is due: the claim asks the database's, River's leader promotes
// retries by its own. If the two part, or one jumps, jobs would wait for hours
// that are only in a clock. So every keeper puts right, at every pass, what has
// been waiting wrongly for longer than ClockSlack.

// dueSQL makes available now
//
//   - what was due before and now lies in the future: the database's clock went
//     back (River itself never leaves an available row further ahead than its
//     scheduler's interval, 5 seconds);
//   - what both the database's clock and ours ($2) say is overdue, whatever the
//     leader thinks, and if there is one at all.
//
// It walks the index that claims use: twelve probes for each queue and nothing
// more while all is well, however many rows wait. A leader's term that a jump
// made longer than a minute is cut, or nobody could follow it for hours.
//
// Rows with a unique key ($4) may be in each other's way, which River's scheduler
// settles; then they are left to it.
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
), woken AS (
    SELECT pg_notify(current_schema() || '.river_insert', json_build_object('queue', queue)::text)
    FROM (SELECT DISTINCT queue FROM moved) q
)
SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM woken)`

// putRight runs dueSQL and returns how many jobs it made available.
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

// noteSkew warns, when it begins and once a minute while it lasts, that this
// process and the database disagree about the time.
func (k *Keeper) noteSkew(ctx context.Context, database, before, after time.Time) {
	skew := jobs.ClockSkew(database, before, after)
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

// Skew is by how much the database's clock was ahead of this process's at the
// last heartbeat.
func (k *Keeper) Skew() time.Duration { return time.Duration(k.skew.Load()) }
