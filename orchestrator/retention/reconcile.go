package retention

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// reconcile compares the schedules that all tenants have of selectors with what
// they should have, and puts them right: what another program, a restored backup or
// a fault of ours has left.
func (j *Janitor) reconcile(ctx context.Context, swept *Swept) error {
	if !j.due("reconcile") {
		return nil
	}
	for began := time.Now(); time.Since(began) < j.cfg.StepTimeout/2; { // the rest in the next pass
		var mine bool
		var last string
		var wrong int
		err := j.locked(ctx, "comparing the schedules of selectors", func(tx pgx.Tx) (err error) {
			last, wrong, mine, err = j.cfg.Selectors.CompareSelectors(ctx, tx, j.compared)
			return err
		})
		switch {
		case err != nil || !mine:
			return err
		case last == "":
			j.compared = ""
			return j.noted("reconcile", nil)
		case wrong > 0:
			j.cfg.Logger.WarnContext(ctx, "schedules of selectors were not as they should be, and are now", "schedules", wrong)
		}
		j.compared, swept.Reconciled = last, swept.Reconciled+wrong
	}
	return nil
}
