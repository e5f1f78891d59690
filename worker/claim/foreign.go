package claim

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rows that another River client left running belong to nobody here: no heartbeat says
// whether that client lives, and River's own rescuer has nothing to do beside Headgate
// (pilot.go). They go back as River's rescuer would give them back: by the time since
// their attempt began, on the database's clock.

// takeForeignSQL locks up to $2 running rows without a token of ours whose attempt began
// longer than $1 ago, or at no time that a clock can have told. It walks the partial
// index on running rows. It asks for no order, because a generic plan would then walk the
// primary key through all finished rows.
const takeForeignSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text, j.kind, false, false
FROM river_job j
WHERE j.state = 'running' AND NOT headgate.is_claimed(j.attempted_by)
  AND NOT coalesce(j.attempted_at BETWEEN now() - $1::interval AND now() + $1::interval, false)
LIMIT $2
FOR UPDATE OF j SKIP LOCKED`

var foreign = loss{"lost_worker", "another River client left it running, and has said nothing for too long; the job goes on here and has used no attempt"}

// rescueForeign gives back what other River clients left running.
func (k *Keeper) rescueForeign(ctx context.Context) error {
	given := 0
	err := inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
		rows, err := takeRows(ctx, tx, takeForeignSQL, k.cfg.RescueForeignAfter, giveBackAtOnce)
		if given = len(rows); err != nil || given == 0 {
			return err
		}
		return k.giveBack(ctx, tx, peer{}, rows, foreign)
	})
	if err != nil {
		return fmt.Errorf("giving back jobs that another River client left running: %w", err)
	}
	if given > 0 {
		k.cfg.Logger.WarnContext(ctx, "another River client left jobs running; they go on here", "jobs", given, "after", k.cfg.RescueForeignAfter.Round(time.Second).String())
	}
	return nil
}
