package doctor

import (
	"context"
	"errors"
	"time"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// lagOfKinds is how old rows of a replica may be where a kind does not say. Package worker
// has it.
const lagOfKinds = 10 * time.Second

// replica tries the read address of a database: whether it leads to a replica of the same
// primary, and how far that is behind.
func (d *doctor) replica(ctx context.Context, pools *tenantdb.Pools, db catalog.Database, place address.Place) {
	if _, some := place.Replica(); !some {
		return
	}
	note, check := d.on("database "+db.Name), "read address"
	err := pools.WithReplica(ctx, place, lagOfKinds, func(_ context.Context, _ *tenantdb.Conn, lag time.Duration) error {
		note(StateOK, check, "", "it leads to a replica of the primary, whose rows are at most %s old", max(lag.Round(time.Millisecond), time.Millisecond))
		return nil
	})
	takeOut := ", or take the address out: `headgate database login " + db.Name + " --no-job-read`"
	switch {
	case err == nil:
	case errors.Is(err, tenantdb.ErrNoReplica):
		note(StateFail, check, "give it the address of a replica of its present primary: HEADGATE_JOB_READ_URL and `headgate database login "+db.Name+"`"+takeOut, "%v", err)
	case errors.As(err, new(*tenantdb.LagError)):
		note(StateWarn, check, "see pg_stat_replication on the primary, and recovery_min_apply_delay and the log of the replica"+takeOut,
			"%v; kinds that read there use the primary or wait, as they declare", err)
	default:
		note(StateFail, check, "see that the replica runs and takes the job login"+takeOut, "%v", err)
	}
}
