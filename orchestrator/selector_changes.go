package orchestrator

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
)

// A tenant has the schedules of the selectors that select it. One writer at a time
// decides that, under lockFleets: who changes a selector, for all tenants; the
// scheduler, for the tenants that have changed (headgate.selector_changes); and the
// janitor, which compares all of them once an hour.

// selectorLimits are those of the scheduler and the janitor at selectors. Who waits
// for a row asks again later, and a process that has stopped lets the lock go before
// others have waited for it in vain.
var selectorLimits = central.Limits{Idle: 3 * time.Second, Lock: 250 * time.Millisecond}

const tryLockFleets = `SELECT pg_try_advisory_xact_lock(hashtextextended('headgate.fleets', 0))`

const changesWaitSQL = `
SELECT EXISTS (SELECT FROM headgate.selector_changes WHERE not_before IS NULL OR not_before NOT BETWEEN now() AND now() + interval '1 minute')`

// takeChangesSQL takes the oldest changes that are committed. One that is locked
// belongs to a transaction that has changed the same tenant and goes on.
const takeChangesSQL = `
WITH taken AS (
    DELETE FROM headgate.selector_changes WHERE id IN (
        SELECT id FROM headgate.selector_changes
        WHERE not_before IS NULL OR not_before NOT BETWEEN now() AND now() + interval '1 minute'
        ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)
    RETURNING tenant_id)
SELECT DISTINCT tenant_id::text FROM taken ORDER BY 1`

// selectorBatch is for how many tenants one transaction evaluates all selectors.
const selectorBatch = 200

// follow gives the tenants that have changed the schedules of the selectors that
// select them now, a batch at a time. It returns how many tenants those were.
func (s *Scheduler) follow(ctx context.Context) (tenants int, err error) {
	var wait bool
	if err := s.client.pool.QueryRow(ctx, changesWaitSQL).Scan(&wait); err != nil {
		return 0, fmt.Errorf("looking for tenants that have changed: %w", err)
	}
	if !wait {
		return 0, nil
	}
	err = central.WriteWithin(ctx, s.client.pool, selectorLimits, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, tryLockFleets).Scan(&mine); err != nil || !mine {
			return err
		}
		fault.Point(fault.ChangesLocked)
		rows, err := tx.Query(ctx, takeChangesSQL, selectorBatch)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(ids) == 0 {
			return err
		}
		tenants = len(ids)
		fault.Point(fault.ChangesTaken)
		_, err = s.client.sync(ctx, tx, ids)
		fault.Point(fault.ChangesApplied)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("giving tenants that have changed their schedules: %w", err)
	}
	return tenants, nil
}

const syncTenants = `SELECT headgate.sync_fleets(NULL, $1)`

const syncTenantsOf = `SELECT headgate.sync_fleets($1, $2)`

const selectFleetIDs = `SELECT id::text FROM headgate.fleets ORDER BY id`

// sync evaluates all selectors for tenants, and returns how many schedules were not
// as they should be. If that fails, it goes selector by selector, and what fails
// for one tenant alone is noted and left for later.
func (c *Client) sync(ctx context.Context, tx pgx.Tx, tenants []string) (wrong int, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, syncTenants, tenants).Scan(&wrong) })
	if err == nil || over(ctx, tx) {
		return wrong, err
	}
	wrong = 0
	rows, err := tx.Query(ctx, selectFleetIDs)
	if err != nil {
		return 0, err
	}
	fleets, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for _, fleet := range fleets {
		err := apart(ctx, tx, 0, len(tenants), func(tx pgx.Tx, from, to int) error {
			var n int
			err := tx.QueryRow(ctx, syncTenantsOf, fleet, tenants[from:to]).Scan(&n)
			wrong += n
			return err
		}, func(tx pgx.Tx, i int, cause error) error { return c.putBack(ctx, tx, fleet, tenants[i], cause) })
		if err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

const putBackSQL = `
INSERT INTO headgate.selector_changes (tenant_id, not_before, error)
SELECT t.id, clock_timestamp() + interval '10 seconds', 'schedule ' || f.name || ': ' || $3::text
FROM headgate.tenants t CROSS JOIN headgate.fleets f
WHERE t.id = $1 AND f.id = $2 AND NOT EXISTS (SELECT FROM headgate.selector_changes c WHERE c.tenant_id = t.id AND c.error <> '')`

// putBack notes that a selector could not be evaluated for a tenant.
func (c *Client) putBack(ctx context.Context, tx pgx.Tx, fleet, tenant string, cause error) error {
	c.log.WarnContext(ctx, "the schedule of a selector could not be given to a tenant; trying again", "fleet_id", fleet, "tenant_id", tenant, "error", cause)
	if _, err := tx.Exec(ctx, putBackSQL, tenant, fleet, clip(cause.Error(), 500)); err != nil {
		return fmt.Errorf("noting a tenant that selectors could not be evaluated for: %w", err)
	}
	return nil
}

// noteSelectorChange is for a schedule of a tenant's own that goes: a selector's of
// the same name may have been hidden by it.
const noteSelectorChange = `
INSERT INTO headgate.selector_changes (tenant_id) SELECT tenant_id FROM headgate.schedules WHERE id = $1 AND tenant_id IS NOT NULL`

// reconcile compares the schedules that all tenants have of selectors with what
// they should have, and puts them right: what another program, a restored backup or
// a fault of ours has left. What merely waits for the scheduler is left to it.
func (j *Janitor) reconcile(ctx context.Context, swept *Swept) error {
	if !j.due("reconcile") {
		return nil
	}
	for began := time.Now(); time.Since(began) < j.cfg.StepTimeout/2; { // the rest in the next pass
		var mine bool
		var ids []string
		var wrong int
		err := j.locked(ctx, "comparing the schedules of selectors", func(tx pgx.Tx) (err error) {
			if err := tx.QueryRow(ctx, tryLockFleets).Scan(&mine); err != nil || !mine {
				return err // somebody changes selectors
			}
			if ids, err = j.nextTenants(ctx, tx); err != nil || len(ids) == 0 {
				return err
			}
			wrong, err = j.client.sync(ctx, tx, ids)
			return err
		})
		switch {
		case err != nil || !mine:
			return err
		case len(ids) == 0:
			j.compared = ""
			return j.noted("reconcile", nil)
		case wrong > 0:
			j.client.log.WarnContext(ctx, "schedules of selectors were not as they should be, and are now", "schedules", wrong)
		}
		j.compared, swept.Reconciled = ids[len(ids)-1], swept.Reconciled+wrong
	}
	return nil
}

const nextTenants = `
SELECT t.id::text FROM headgate.tenants t
WHERE t.id > coalesce(nullif($1, '')::uuid, '00000000-0000-0000-0000-000000000000')
  AND NOT EXISTS (SELECT FROM headgate.selector_changes c WHERE c.tenant_id = t.id)
ORDER BY t.id LIMIT $2`

// nextTenants returns the tenants that are compared next, none behind the last.
func (j *Janitor) nextTenants(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, nextTenants, j.compared, selectorBatch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
