package queue

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// markCancelledSQL is what River's JobCancelTx does, but that it takes whatever stands
// in the row's other columns, and its clock is the database's. A row that waits ends; one
// that runs is marked, and its worker told. A unique key that another row has by now
// does not count any more.
const markCancelledSQL = `
WITH marked AS (
    UPDATE river_job j
    SET state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
        finalized_at = CASE WHEN state = 'running' THEN finalized_at ELSE now() END,
        metadata = headgate.as_object(metadata) || jsonb_build_object('cancel_attempted_at', $2::timestamptz),
        unique_states = CASE WHEN unique_key IS NULL OR NOT EXISTS (
            SELECT FROM river_job o WHERE o.unique_key = j.unique_key AND o.id <> j.id AND o.unique_states IS NOT NULL
              AND river_job_state_in_bitmask(o.unique_states, o.state)) THEN unique_states END
    WHERE id = $1 AND finalized_at IS NULL
    RETURNING id, queue, state::text
), told AS (
    SELECT pg_notify((SELECT schema FROM headgate.queue) || '.river_control', json_build_object('action', 'cancel', 'job_id', id, 'queue', queue)::text)
    FROM marked WHERE state = 'running'
)
SELECT state, (SELECT count(*) FROM told) FROM marked`

// markCancelled cancels a row that waits, or asks the worker of one that runs. The row
// is locked and has not ended.
func markCancelled(ctx context.Context, tx pgx.Tx, r *row) error {
	var state string
	if err := tx.QueryRow(ctx, markCancelledSQL, r.id, r.now).Scan(&state, nil); err != nil {
		return fmt.Errorf("marking it: %w", err)
	}
	r.state = StateOf(state)
	return nil
}
