package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

// A kind that reads from a replica does so where its database has a read address and the
// replica there is near enough. Until the handler begins whatever fails there is the
// replica's matter: the job reads from the primary, or waits, as the kind says. None of it
// says anything about the primary, so no breaker of the primary hears of it.

// replicaError says why a job could not read from a replica.
type replicaError struct{ err error }

func (e *replicaError) Error() string { return fmt.Sprintf("reading from the replica: %v", e.err) }
func (e *replicaError) Unwrap() error { return e.err }

// readReplica makes the attempt at the read address, if its kind and its database have it
// so. done is false where the attempt is to be made at the primary.
func (a *attempt) readReplica(ctx context.Context) (done bool, err error) {
	replica, some := a.place.Replica()
	if a.kind.opts.ReadFrom != jobs.Replica || !some {
		return false, nil
	}
	if held := a.meta.Held; held != nil && held.Class == jobs.ClassConflict && a.kind.opts.OnLag == jobs.ReadPrimary {
		return false, nil // a replica ends what keeps it from replaying, and would end it again
	}
	a.replica = true
	err = a.w.pools.WithReplica(ctx, a.place, a.kind.maxLag(), func(ctx context.Context, conn *tenantdb.Conn, _ time.Duration) error {
		return a.lent(ctx, replica, conn)
	})
	switch {
	case err == nil || a.called || ctx.Err() != nil:
		return true, late(ctx, err)
	case a.kind.opts.OnLag == jobs.WaitForReplica:
		return true, &replicaError{err}
	}
	a.replica, a.conn = false, nil
	if left, pass := a.w.fellBack.Pass(a.place.Database+"/"+a.kind.name, time.Now()); pass {
		a.w.cfg.Logger.WarnContext(ctx, "a job reads from the primary, because the replica may not be read from",
			"event", "replica passed over", "database", a.place.Database, "kind", a.kind.name, "error", err, "repeated", left)
	}
	return false, nil
}
