package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/claim"
)

// follow is what jobs.Info.Follow does.
func (a *attempt) follow(args jobs.Args, opts *jobs.FollowUpOpts) (err error) {
	a.following, err = wire.Follow(a.following, a.info.Tenant.ID != "", args, opts)
	return err
}

// nameFollowUps gives the jobs that the handler asked for their UIDs, before the
// ledger keeps them: whichever attempt puts them into the queue, they are the
// same jobs.
func (a *attempt) nameFollowUps() {
	for i := range a.following {
		if f := &a.following[i]; f.UID == "" {
			f.UID = newUID()
		}
	}
}

// followUps are the rows that the completion of a job that has succeeded inserts
// in its own transaction.
func (a *attempt) followUps(ctx context.Context, end disposition) ([]claim.FollowUp, error) {
	if end.state != jobs.Succeeded || len(a.following) == 0 {
		return nil, nil
	}
	a.nameFollowUps() // those of kinds without a ledger row
	var rows []claim.FollowUp
	for _, f := range a.following {
		meta := wire.Meta{UID: f.UID, Parent: a.meta.UID, TraceParent: telemetry.TraceParent(ctx)}
		if f.Scope == jobs.ScopeDatabase {
			meta.Database = a.place.DatabaseID
		} else {
			meta.Tenant, meta.Brand = a.meta.Tenant, a.meta.Brand
		}
		metadata, err := json.Marshal(meta)
		if err != nil {
			return nil, fmt.Errorf("encoding the metadata of a follow-up: %w", err)
		}
		row := claim.FollowUp{
			Kind: f.Kind, Args: f.Args, Metadata: metadata,
			Queue: f.Queue, Priority: f.Priority, MaxAttempts: f.MaxAttempts,
		}
		if f.RunAt != nil {
			at := f.RunAt.UTC().Format(time.RFC3339Nano)
			row.RunAt = &at
		}
		rows = append(rows, row)
	}
	return rows, nil
}
