package queue

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// selectCancelling finds the jobs that are being cancelled, whether they run or wait
// for their ledger to be asked, by the partial index on them. How long ago that was is compared
// in Go: what another client wrote into the metadata may not be a time. Rows that get no tombstone
// stay as they are, so each pass goes on behind the last row of the one before ($2).
const selectCancelling = rowColumns + `
WHERE id > $2 AND finalized_at IS NULL AND metadata ? 'cancel_attempted_at' AND NOT metadata ? 'tombstone_uid'
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED`

// BeforeAll is below every row: an id that River did not give may be negative.
const BeforeAll = math.MinInt64

// Buried is what one call of BuryCancelled did.
type Buried struct {
	Tombstones int     // enqueued
	Failed     []error // of the jobs that got none
	Last       int64   // the row that it has come to; BeforeAll when none is left
}

// BuryCancelled enqueues a tombstone for each job that has been cancelling for more
// than jobs.TombstoneAfter, of at most so many rows behind one. What fails for one job keeps
// no other from its tombstone.
func (q *Queue) BuryCancelled(ctx context.Context, tx pgx.Tx, behind int64, most int) (b Buried, err error) {
	b.Last = behind
	rows, err := tx.Query(ctx, selectCancelling, most, behind)
	if err != nil {
		return b, err
	}
	cancelling, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return b, err
	}
	if b.Last = BeforeAll; len(cancelling) == most {
		b.Last = cancelling[len(cancelling)-1].id
	}
	for i := range cancelling {
		r := &cancelling[i]
		if at := r.meta.cancelledAt(); at == nil || r.now.Sub(*at) <= jobs.TombstoneAfter {
			continue
		}
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return q.tombstone(ctx, tx, r) })
		switch {
		case err != nil && central.Over(ctx, tx):
			return b, err
		case err != nil: // this one; the others have theirs
			b.Failed = append(b.Failed, fmt.Errorf("enqueueing a tombstone for job %d, %s: %w", r.id, r.uid, err))
		case r.meta.Tombstone != "":
			b.Tombstones++
		}
	}
	return b, nil
}
