package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// A row that is being cancelled is mostly ended by the attempt that runs it, or by
// the next one. One whose worker does not answer, or is nobody's, or that nobody
// claims, is ended by another job, its tombstone, which has asked the ledger.

// stillSQL finds such a row under the claim that it was under when the tombstone was
// enqueued, whether a reaper has given it back since or not.
const stillSQL = `j.finalized_at IS NULL AND j.metadata ? 'cancel_attempted_at'
      AND coalesce(headgate.claim_token(j.attempted_by), '') = ANY (ARRAY[$2, $2 || ':lost'])`

const cancellingSQL = `
SELECT j.id, j.kind, j.queue, j.attempt, j.max_attempts, j.metadata, j.created_at, j.attempted_at
FROM river_job j WHERE j.id = $1 AND ` + stillSQL

// Cancelling reads a row that is being cancelled and that no claim has taken since
// token's; nil if there is none, or not any more.
func Cancelling(ctx context.Context, pool *pgxpool.Pool, id int64, token string) (*rivertype.JobRow, error) {
	var row rivertype.JobRow
	var created jobs.Time
	var attempted *jobs.Time
	err := pool.QueryRow(ctx, cancellingSQL, id, token).
		Scan(&row.ID, &row.Kind, &row.Queue, &row.Attempt, &row.MaxAttempts, &row.Metadata, &created, &attempted)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil //nolint:nilnil // nothing is left to be ended
	}
	if err != nil {
		return nil, fmt.Errorf("reading job %d, which is being cancelled: %w", id, err)
	}
	if row.CreatedAt = created.Time; attempted != nil {
		row.AttemptedAt = &attempted.Time
	}
	return &row, nil
}

const aliveSQL = `SELECT EXISTS (SELECT FROM headgate.living_workers WHERE incarnation = headgate.uuid_or_null(split_part($1, ':', 1)))`

// Alive says whether the worker that claimed under a token has not been declared dead.
func Alive(ctx context.Context, pool *pgxpool.Pool, token string) (alive bool, err error) {
	if err := pool.QueryRow(ctx, aliveSQL, token).Scan(&alive); err != nil {
		return false, fmt.Errorf("looking for the worker of a job that is being cancelled: %w", err)
	}
	return alive, nil
}

// endCancellingSQL ends it. The claim's token becomes void: an end that its worker
// writes after all must not find it.
const endCancellingSQL = `
WITH ours AS MATERIALIZED (
    SELECT ` + ownSQL + `
)
UPDATE river_job j
SET state = $3::text::river_job_state, finalized_at = now(),
    attempted_by = headgate.void_claim(j.attempted_by)
FROM ours
WHERE j.id = $1 AND ` + stillSQL + `
RETURNING headgate.claim_token(j.attempted_by)`

// EndCancelling ends the row that Cancelling has read, with its outcome and the jobs
// that it asked for, if it is still as it was then.
func EndCancelling(ctx context.Context, pool *pgxpool.Pool, id int64, token string, completion Completion) error {
	state := "cancelled"
	if completion.Outcome.State == jobs.Succeeded {
		state = "completed"
	}
	err := inTx(ctx, pool, func(tx pgx.Tx) error {
		e := end{id: id, state: state, outcome: completion.Outcome, followUps: completion.FollowUps}
		err := tx.QueryRow(ctx, endCancellingSQL, id, token, state).Scan(&e.token)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it has ended, or begun again
		}
		if err != nil {
			return err
		}
		if _, err := updateEnded(ctx, tx, endedBeforeSQL, []end{e}, ""); err != nil {
			return err
		}
		return insertFollowUps(ctx, tx, []end{e}, map[int64]string{id: state})
	})
	if err != nil {
		return fmt.Errorf("ending job %d, which is being cancelled: %w", id, err)
	}
	return nil
}
