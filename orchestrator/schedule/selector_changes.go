package schedule

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/fault"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// A tenant has the schedules of the selectors that select it. One writer at a time
// decides that, under lockTemplates: who changes a selector, for all tenants; the
// scheduler, for the tenants that have changed (headgate.selector_changes); and the
// janitor, which compares all of them once an hour.

// selectorLimits are those of the scheduler and the janitor at selectors. Who waits
// for a row asks again later, and a process that has stopped lets the lock go before
// others have waited for it in vain.
var selectorLimits = central.Limits{Idle: 3 * time.Second, Lock: 250 * time.Millisecond}

const tryLockTemplates = `SELECT pg_try_advisory_xact_lock(hashtextextended('headgate.fleets', 0))`

const changesWaitSQL = `
SELECT EXISTS (SELECT FROM headgate.selector_changes WHERE not_before IS NULL OR not_before NOT BETWEEN now() AND now() + interval '1 minute')
    OR EXISTS (SELECT FROM headgate.selector_scopes)`

// takeScopesSQL notes the tenants of the oldest changes of plans, features, databases and
// servers that are committed. It runs under lockTemplates, so nobody takes the rows that
// it finds noted already. A scope that is locked belongs to a transaction that has changed
// the same again and goes on.
const takeScopesSQL = `
WITH locked AS MATERIALIZED (
    SELECT id FROM headgate.selector_scopes ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), noted AS (
    INSERT INTO headgate.selector_changes (tenant_id)
    SELECT DISTINCT t.tenant_id FROM headgate.scoped_tenants t
    WHERE t.id IN (SELECT id FROM locked) AND NOT EXISTS (SELECT FROM headgate.selector_changes c WHERE c.tenant_id = t.tenant_id)
)
DELETE FROM headgate.selector_scopes WHERE id IN (SELECT id FROM locked)`

// scopeBatch is how many scopes one transaction takes.
const scopeBatch = 50

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
	if err := s.store.pool.QueryRow(ctx, changesWaitSQL).Scan(&wait); err != nil {
		return 0, fmt.Errorf("looking for tenants that have changed: %w", err)
	}
	if !wait {
		return 0, nil
	}
	err = central.WriteWithin(ctx, s.store.pool, selectorLimits, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, tryLockTemplates).Scan(&mine); err != nil || !mine {
			return err
		}
		fault.Point(fault.ChangesLocked)
		if _, err := tx.Exec(ctx, takeScopesSQL, scopeBatch); err != nil {
			return err
		}
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
		_, err = s.store.Templates.sync(ctx, tx, ids)
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

const selectTemplateIDs = `SELECT id::text FROM headgate.fleets ORDER BY id`

// followZonesSQL gives the tenants' own schedules that go by the tenant's time zone the
// zone that it has now. A row that somebody has locked is noted and left for later. What
// has come by then is answered by the zone before (trigger former_times).
const followZonesSQL = `
WITH behind AS (
    SELECT s.id, s.tenant_id, t.timezone
    FROM unnest($1::uuid[]) AS x (id)
    JOIN headgate.tenants t ON t.id = x.id
    JOIN headgate.schedules s ON s.tenant_id = t.id
    WHERE s.follows_zone AND s.zone <> t.timezone
), mine AS (
    SELECT s.id FROM headgate.schedules s WHERE s.id IN (SELECT id FROM behind) FOR UPDATE SKIP LOCKED
), later AS (
    INSERT INTO headgate.selector_changes (tenant_id, not_before, error)
    SELECT DISTINCT b.tenant_id, clock_timestamp() + interval '10 seconds', 'a schedule of its own, which follows its time zone, is locked'
    FROM behind b
    WHERE b.id NOT IN (SELECT id FROM mine) AND NOT EXISTS (SELECT FROM headgate.selector_changes c WHERE c.tenant_id = b.tenant_id AND c.error <> '')
), moved AS (
    UPDATE headgate.schedules s
    SET zone = b.timezone, version = s.version + 1, error = '', fresh = true,
        next_run_at = CASE WHEN s.paused THEN s.paused_until ELSE clock_timestamp() END
    FROM behind b
    WHERE s.id = b.id AND s.id IN (SELECT id FROM mine)
    RETURNING s.id
)
SELECT count(*) FROM moved`

// sync evaluates all selectors for tenants, gives their own schedules that follow the
// tenant's time zone that, and returns how many schedules were not
// as they should be. If that fails for selectors, it goes selector by selector, and what fails
// for one tenant alone is noted and left for later.
func (t *Templates) sync(ctx context.Context, tx pgx.Tx, tenants []string) (wrong int, err error) {
	if err := access.Say(ctx, tx, scheduler, "the time zone of its tenant has changed"); err != nil {
		return 0, err
	}
	var moved int
	if err := tx.QueryRow(ctx, followZonesSQL, tenants).Scan(&moved); err != nil {
		return 0, fmt.Errorf("giving own schedules the time zones of their tenants: %w", err)
	}
	wrong, err = t.syncTemplates(ctx, tx, tenants)
	return wrong + moved, err
}

// syncTemplates is sync for the schedules of selectors.
func (t *Templates) syncTemplates(ctx context.Context, tx pgx.Tx, tenants []string) (wrong int, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, syncTenants, tenants).Scan(&wrong) })
	if err == nil || central.Over(ctx, tx) {
		return wrong, err
	}
	wrong = 0
	rows, err := tx.Query(ctx, selectTemplateIDs)
	if err != nil {
		return 0, err
	}
	templates, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for _, template := range templates {
		err := central.Apart(ctx, tx, 0, len(tenants), func(tx pgx.Tx, from, to int) error {
			var n int
			err := tx.QueryRow(ctx, syncTenantsOf, template, tenants[from:to]).Scan(&n)
			wrong += n
			return err
		}, func(tx pgx.Tx, i int, cause error) error { return t.putBack(ctx, tx, template, tenants[i], cause) })
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
func (t *Templates) putBack(ctx context.Context, tx pgx.Tx, template, tenant string, cause error) error {
	t.log.WarnContext(ctx, "the schedule of a selector could not be given to a tenant; trying again", "template_id", template, "tenant_id", tenant, "error", cause)
	if _, err := tx.Exec(ctx, putBackSQL, tenant, template, fit.Clip(cause.Error(), 500)); err != nil {
		return fmt.Errorf("noting a tenant that selectors could not be evaluated for: %w", err)
	}
	return nil
}

// noteSelectorChange is for a schedule of a tenant's own that goes: a selector's of
// the same name may have been hidden by it.
const noteSelectorChange = `
INSERT INTO headgate.selector_changes (tenant_id) SELECT tenant_id FROM headgate.schedules WHERE id = $1 AND tenant_id IS NOT NULL`

const nextTenants = `
SELECT t.id::text FROM headgate.tenants t
WHERE t.id > coalesce(nullif($1, '')::uuid, '00000000-0000-0000-0000-000000000000')
  AND NOT EXISTS (SELECT FROM headgate.selector_changes c WHERE c.tenant_id = t.id)
ORDER BY t.id LIMIT $2`

// CompareSelectors compares the schedules that the next tenants, behind one, have of
// selectors with what they should have, and puts them right. It is for the janitor
// (retention.Selectors). What merely waits for the scheduler is left to it.
func (t *Templates) CompareSelectors(ctx context.Context, tx pgx.Tx, behind string) (last string, wrong int, mine bool, err error) {
	if err := tx.QueryRow(ctx, tryLockTemplates).Scan(&mine); err != nil || !mine {
		return "", 0, mine, err // somebody changes selectors
	}
	if _, err := tx.Exec(ctx, takeScopesSQL, scopeBatch); err != nil {
		return "", 0, mine, err // what waits for the scheduler is not wrong
	}
	rows, err := tx.Query(ctx, nextTenants, behind, selectorBatch)
	if err != nil {
		return "", 0, mine, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) == 0 {
		return "", 0, mine, err
	}
	wrong, err = t.sync(ctx, tx, ids)
	return ids[len(ids)-1], wrong, mine, err
}
