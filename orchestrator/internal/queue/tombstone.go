package queue

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

const noteTombstone = `
UPDATE river_job SET metadata = headgate.as_object(metadata) || jsonb_build_object('tombstone_uid', $2::text) WHERE id = $1`

// tombstone enqueues the job that stops a cancelled one in its tenant's ledger and
// ends its row by the answer, once for each claim. It goes through the same queue, first in line, whatever the tenant's
// status: a suspended tenant's waits with the rest of its work.
func (q *Queue) tombstone(ctx context.Context, tx pgx.Tx, r *row) error {
	if r.meta.Tombstone != "" {
		return nil
	}
	stone := wire.Tombstone{UID: r.uid, ID: r.id, Token: r.token}
	var args jobs.Args = stone
	if r.meta.Database != "" {
		args = wire.DatabaseTombstone{Tombstone: stone}
	} else if r.meta.Tenant == "" {
		return nil // it names nobody whose ledger could be told, and no attempt at it gets that far
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encoding the tombstone of job %s: %w", r.uid, err)
	}
	it := Draft{
		Kind: args.Kind(), Args: encoded, Choices: wire.Choices{Queue: r.queue, Priority: 1, MaxAttempts: 25},
		Meta: wire.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: r.meta.Tenant, Database: r.meta.Database,
			TimeoutMS: jobs.KindOptsOf(args).Timeout.Milliseconds(), TraceParent: r.meta.TraceParent,
		},
	}
	if it.Meta.Database != "" {
		it.Meta.Tenant = ""
	}
	if jobs.CheckQueue(it.Queue) != nil { // no worker can work it
		it.Queue = "default"
	}
	if err := q.insertOne(ctx, tx, it); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, noteTombstone, r.id, it.Meta.UID); err != nil {
		return fmt.Errorf("noting the tombstone of job %s: %w", r.uid, err)
	}
	r.meta.Tombstone = it.Meta.UID
	return nil
}
