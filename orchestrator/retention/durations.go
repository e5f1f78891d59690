package retention

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const durationsAreFresh = `SELECT coalesce(max(computed_at) BETWEEN now() - $1::interval AND now(), false) FROM headgate.durations`

const computeDurations = `
WITH measured AS (
    SELECT kind, percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM ended_at - started_at))::double precision AS p95
    FROM headgate.outcomes
    WHERE ended_at > now() - interval '14 days' AND state = 'succeeded' AND isfinite(started_at) AND isfinite(ended_at)
    GROUP BY kind),
gone AS (
    DELETE FROM headgate.durations d WHERE NOT EXISTS (SELECT FROM measured m WHERE m.kind = d.kind))
INSERT INTO headgate.durations (kind, p95, computed_at)
SELECT kind, p95, now() FROM measured
ON CONFLICT (kind) DO UPDATE SET p95 = excluded.p95, computed_at = excluded.computed_at`

// measure computes how long jobs take, for all kinds and all processes once in
// PruneEvery. It reads two weeks of the history: seconds at a million outcomes.
func (j *Janitor) measure(ctx context.Context, _ *Swept) error {
	return j.locked(ctx, "computing how long jobs take", func(tx pgx.Tx) error {
		var fresh bool
		if err := tx.QueryRow(ctx, durationsAreFresh, j.cfg.PruneEvery).Scan(&fresh); err != nil || fresh {
			return err
		}
		_, err := tx.Exec(ctx, computeDurations)
		return err
	})
}

const deleteOldOccurrences = `
DELETE FROM headgate.occurrences
WHERE ctid = ANY (ARRAY(SELECT ctid FROM headgate.occurrences WHERE decided_at < least($1, now() - $2::interval) LIMIT $3))`

// deleteOccurrences deletes the answers for occurrences that are old by the
// database's clock and by ours.
func (j *Janitor) deleteOccurrences(ctx context.Context, swept *Swept) error {
	if !j.due("occurrences") {
		return nil
	}
	keep := j.cfg.KeepOccurrences
	return j.noted("occurrences", j.batches(ctx, "deleting old occurrences", deleteOldOccurrences, &swept.Occurrences, time.Now().Add(-keep), keep))
}
