package orchestrator

import (
	"context"
	"errors"
	"time"
)

// What worker/claim keeps of owners, and people of pauses, grows with those who
// have ever been. This takes away what nobody asks for any more. Rows that a claim
// has locked are left for the next time.

// pruneLanesSQL deletes lanes at rest whose tenant or database is not in the
// catalog: there is no other sign that a lane will not be used again. One that is
// would begin anew, at its queue's present time.
const pruneLanesSQL = `
DELETE FROM headgate.lanes WHERE (queue, lane, kind) IN (
    SELECT queue, lane, kind FROM headgate.lanes l
    WHERE NOT active AND wake_at IS NULL AND lane <> ''
      AND NOT EXISTS (SELECT FROM headgate.tenants t WHERE t.id = headgate.uuid_or_null(l.lane))
      AND NOT EXISTS (SELECT FROM headgate.databases d WHERE d.id = headgate.uuid_or_null(l.lane))
    LIMIT $1 FOR UPDATE OF l SKIP LOCKED)`

// pruneRatesSQL deletes what equals no row: a bucket that is full again, since no
// period is longer than a day.
const pruneRatesSQL = `
DELETE FROM headgate.lane_rates WHERE lane IN (
    SELECT lane FROM headgate.lane_rates WHERE tat < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`

const prunePausesSQL = `
DELETE FROM headgate.pauses WHERE (scope, target) IN (
    SELECT scope, target FROM headgate.pauses WHERE until < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`

// pruneHandsSQL deletes hands that no claim counts.
const pruneHandsSQL = `
DELETE FROM headgate.hands WHERE incarnation IN (
    SELECT incarnation FROM headgate.hands h
    WHERE NOT EXISTS (SELECT FROM headgate.workers w WHERE w.incarnation = h.incarnation AND w.reaped_at IS NULL AND w.ended_at IS NULL)
    LIMIT $1 FOR UPDATE OF h SKIP LOCKED)`

func (j *Janitor) prune(ctx context.Context, swept *Swept) error {
	if time.Since(j.pruned) < j.cfg.PruneEvery {
		return nil
	}
	err := errors.Join(
		j.batches(ctx, "deleting lanes of owners that are gone", pruneLanesSQL, &swept.Lanes),
		j.batches(ctx, "deleting old rates", pruneRatesSQL, &swept.Rates),
		j.batches(ctx, "deleting pauses that are long over", prunePausesSQL, &swept.Pauses),
		j.batches(ctx, "deleting hands of workers that are gone", pruneHandsSQL, &swept.Hands),
	)
	if err == nil {
		j.pruned = time.Now()
	}
	return err
}
