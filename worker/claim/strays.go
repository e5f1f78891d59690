package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// runningSQL lists what runs under some incarnations, by the partial index on
// running rows.
const runningSQL = `
SELECT id, attempted_by[array_upper(attempted_by, 1)] FROM river_job
WHERE state = 'running' AND split_part(attempted_by[array_upper(attempted_by, 1)], ':', 1) = ANY ($1)`

// takeStraysSQL locks those of them that still run under the same claim.
const takeStraysSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text, j.kind, false, false
FROM unnest($1::bigint[], $2::text[]) AS s (id, token)
JOIN river_job j ON j.id = s.id AND j.state = 'running' AND j.attempted_by[array_upper(j.attempted_by, 1)] = s.token
ORDER BY j.id
FOR UPDATE OF j SKIP LOCKED`

// returnStrays gives back the rows that run under this process's own name and
// that it does not have: a claim whose answer was lost, an end that was. Nobody
// else would, for as long as this process lives. No attempt is used; should the
// lost end turn up after all, its token is void.
func (k *Keeper) returnStrays(ctx context.Context, now time.Time) error {
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
	lost := k.cfg.Lease.hand.lost(running, now, k.cfg.DeadAfter)
	if len(lost) == 0 {
		return nil
	}
	given := 0
	err = inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
		hand, err := takeRows(ctx, tx, takeStraysSQL,
			column(lost, func(c claimed) int64 { return c.id }), column(lost, func(c claimed) string { return c.token }))
		if given = len(hand); err != nil || given == 0 {
			return err
		}
		return k.giveBack(ctx, tx, living{worker: k.cfg.Worker}, hand, strayed)
	})
	if err != nil {
		return fmt.Errorf("giving back %d jobs whose claim or end was lost: %w", len(lost), err)
	}
	k.cfg.Lease.drop(column(lost, func(c claimed) end { return end{id: c.id, token: c.token} }))
	k.cfg.Logger.WarnContext(ctx, "jobs ran under this worker's name that it did not have: the answer to their claim, or their end, was lost; they go on",
		"worker", k.cfg.Worker, "jobs", given)
	return nil
}
