package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// runningSQL lists what runs under some incarnations, by the partial index on
// running rows.
const runningSQL = `
SELECT id, headgate.claim_token(attempted_by) FROM river_job
WHERE state = 'running' AND headgate.claim_incarnation(attempted_by) = ANY ($1)`

// lockUnclaimedSQL locks those of the unclaimed rows that still run under the same claim.
const lockUnclaimedSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text, j.kind, false, false
FROM unnest($1::bigint[], $2::text[]) AS s (id, token)
JOIN river_job j ON j.id = s.id AND j.state = 'running' AND headgate.claim_token(j.attempted_by) = s.token
ORDER BY j.id
FOR UPDATE OF j SKIP LOCKED`

// returnUnclaimed gives back the rows that run under this process's own name and that the
// process does not have, because the answer to a claim or to an end was lost. Nobody else
// would give these rows back for as long as this process lives. No attempt is used. Should
// the lost end turn up after all, its token is void.
func (k *Keeper) returnUnclaimed(ctx context.Context, now time.Time) error {
	rows, err := k.cfg.Pool.Query(ctx, runningSQL, []string{k.cfg.Lease.Incarnation(), k.former})
	if err != nil {
		return fmt.Errorf("looking at this worker's own jobs: %w", err)
	}
	running, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claimed, err error) {
		err = row.Scan(&c.id, &c.token)
		return c, err
	})
	if err != nil {
		return fmt.Errorf("looking at this worker's own jobs: %w", err)
	}
	lost := k.cfg.Lease.inflight.findUnclaimed(running, now, k.cfg.DeadAfter)
	if len(lost) == 0 {
		return nil
	}
	given := 0
	err = inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
		locked, err := takeRows(ctx, tx, lockUnclaimedSQL,
			column(lost, func(c claimed) int64 { return c.id }), column(lost, func(c claimed) string { return c.token }))
		if given = len(locked); err != nil || given == 0 {
			return err
		}
		return k.giveBack(ctx, tx, peer{worker: k.cfg.Worker}, locked, answerLost)
	})
	if err != nil {
		return fmt.Errorf("giving back %s whose claim or end was lost: %w", jobs.Count(len(lost), "job"), err)
	}
	k.cfg.Lease.drop(column(lost, func(c claimed) end { return end{id: c.id, token: c.token} }))
	k.cfg.Logger.WarnContext(ctx, "jobs ran under this worker's name that it did not have: the answer to their claim, or their end, was lost; they go on",
		"worker", k.cfg.Worker, "jobs", given)
	return nil
}
