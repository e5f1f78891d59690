package claim

import (
	"context"
	"fmt"

	"github.com/riverqueue/river/riverdriver"
)

// deleteEndedSQL is River's own statement with SKIP LOCKED: a locked row is left for the
// next time. River's statement waits for that row and deletes nothing meanwhile.
const deleteEndedSQL = `
DELETE FROM river_job WHERE id IN (
    SELECT id FROM river_job
    WHERE (state = 'cancelled' AND $1 AND finalized_at < $2::timestamptz
           OR state = 'completed' AND $3 AND finalized_at < $4::timestamptz
           OR state = 'discarded' AND $5 AND finalized_at < $6::timestamptz)
      AND ($7::text[] IS NULL OR NOT queue = ANY ($7))
      AND ($8::text[] IS NULL OR queue = ANY ($8))
    ORDER BY id
    LIMIT $9
    FOR UPDATE SKIP LOCKED
)`

// JobDeleteBefore deletes one batch of rows whose retention is over, and returns their
// number. River's leader calls it.
func (p *pilot) JobDeleteBefore(ctx context.Context, _ riverdriver.Executor, params *riverdriver.JobDeleteBeforeParams) (int, error) {
	tag, err := p.pool.Exec(ctx, deleteEndedSQL,
		params.CancelledDoDelete, params.CancelledFinalizedAtHorizon, params.CompletedDoDelete, params.CompletedFinalizedAtHorizon,
		params.DiscardedDoDelete, params.DiscardedFinalizedAtHorizon, params.QueuesExcluded, params.QueuesIncluded, params.Max)
	if err != nil {
		return 0, fmt.Errorf("deleting jobs that have ended: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
