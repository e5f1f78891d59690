package claim_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// A handler completes its job in a transaction of its own and cancels another job there by
// River's client. That job was begun, so that its ledger is asked. Control: while the mark of
// Headgate's own statements holds, the job is called cancelled.
func TestWhatFollowsACompletionIsGuarded(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		marked bool
		after  string
	}{"guarded": {false, "available"}, "control": {true, "cancelled"}} {
		t.Run(name, func(t *testing.T) {
			b := single(t, true)
			begun := b.insert("", &river.InsertOpts{Queue: "nobodys"})
			b.exec(`
UPDATE river_job SET state = 'retryable', scheduled_at = now() + interval '1 hour', attempt = 1, attempted_at = now(), attempted_by = ARRAY[$2]
WHERE id = $1`, begun, incarnation(1)+":1")
			b.on("complete", func(ctx context.Context, job *river.Job[act]) error {
				return b.inTx(func(tx pgx.Tx) error {
					if _, err := river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
						return err
					}
					if x.marked {
						if _, err := tx.Exec(ctx, `SELECT `+claim.OwnSQL); err != nil {
							return err
						}
					}
					_, err := b.client.JobCancelTx(ctx, tx, begun)
					return err
				})
			})
			id := b.insert("complete", nil)
			b.wait("it is done", func() bool { return strings.HasPrefix(b.row(id), "completed") })
			require.Equal(t, x.after, strings.Fields(b.row(begun))[0])
		})
	}
}
