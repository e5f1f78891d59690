package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

const noteTombstone = `
UPDATE river_job SET metadata = headgate.as_object(metadata) || jsonb_build_object('tombstone_uid', $2::text) WHERE id = $1`

// tombstone enqueues the job that stops a cancelled one in its tenant's ledger and
// ends its row by the answer, once for each claim. It goes through the same queue, first in line, whatever the tenant's
// status: a suspended tenant's waits with the rest of its work.
func (c *Client) tombstone(ctx context.Context, tx pgx.Tx, r *row) error {
	if r.meta.Tombstone != "" {
		return nil
	}
	stone := jobs.Tombstone{UID: r.uid, ID: r.id, Token: r.token}
	var args jobs.Args = stone
	if r.meta.Database != "" {
		args = jobs.DatabaseTombstone{Tombstone: stone}
	} else if r.meta.Tenant == "" {
		return nil // it names nobody whose ledger could be told, and no attempt at it gets that far
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encoding the tombstone of job %s: %w", r.uid, err)
	}
	it := item{
		kind: args.Kind(), args: encoded, queue: r.queue, priority: 1, maxAttempts: 25,
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: r.meta.Tenant, Database: r.meta.Database,
			TimeoutMS: jobs.KindOptsOf(args).Timeout.Milliseconds(), TraceParent: r.meta.TraceParent,
		},
	}
	if it.meta.Database != "" {
		it.meta.Tenant = ""
	}
	if jobs.CheckQueue(it.queue) != nil { // no worker can work it
		it.queue = "default"
	}
	if _, err := c.insertOne(ctx, tx, it); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteTombstone, r.id, it.meta.UID); err != nil {
		return fmt.Errorf("noting the tombstone of job %s: %w", r.uid, err)
	}
	r.meta.Tombstone = it.meta.UID
	return nil
}
