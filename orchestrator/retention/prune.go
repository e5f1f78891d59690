package retention

import "context"

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

// pruneHandsSQL deletes hands that no claim counts. Of a dead process that is there yet
// the workers' sweep decides, by how long its sessions may last.
const pruneHandsSQL = `
DELETE FROM headgate.hands WHERE incarnation IN (
    SELECT incarnation FROM headgate.hands h
    WHERE NOT EXISTS (SELECT FROM headgate.living_workers w WHERE w.incarnation = h.incarnation)
      AND NOT (dead AND headgate.is_there(hand))
    LIMIT $1 FOR UPDATE OF h SKIP LOCKED)`

// pruneKindsSQL deletes what no worker has said of a kind for a month.
const pruneKindsSQL = `
DELETE FROM headgate.kinds WHERE (kind, form) IN (
    SELECT kind, form FROM headgate.kinds WHERE alive_until < now() - interval '30 days' LIMIT $1 FOR UPDATE SKIP LOCKED)`

// pruning returns one of the looks at what is left behind, as a step.
func (j *Janitor) pruning(name, sql string, deleted func(*Swept) *int) func(context.Context, *Swept) error {
	return func(ctx context.Context, swept *Swept) error {
		if !j.due(name) {
			return nil
		}
		return j.noted(name, j.batches(ctx, "deleting "+name, sql, deleted(swept)))
	}
}
