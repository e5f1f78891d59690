package schedule

import (
	"cmp"
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Create stores a schedule; it fires from the first matching time after
// now on. Nothing is stored if a field is wrong. Errors match ErrExists
// where the tenant has one of that name, and those of Enqueue.
func (st *Store) Create(ctx context.Context, params Params) (schedule Schedule, err error) {
	err = central.Write(ctx, st.pool, func(tx pgx.Tx) error {
		schedule, err = st.CreateTx(ctx, tx, params)
		return err
	})
	return schedule, err
}

const insertSchedule = `
INSERT INTO headgate.schedules (id, tenant_id, database_id, name, next_nominal_at, answered_at, next_run_at, follows_zone, ` + specColumns + `)
SELECT $1, nullif($2, '')::uuid, nullif($3, '')::uuid, $4, $5, $6, $5, $7, ` + specColumns + `
FROM jsonb_populate_record(NULL::headgate.schedules, $8)
RETURNING place`

const placeNext = `UPDATE headgate.schedules SET next_run_at = $2 WHERE id = $1`

// CreateTx is Create inside the caller's transaction on the
// central database.
func (st *Store) CreateTx(ctx context.Context, tx pgx.Tx, params Params) (Schedule, error) {
	if err := checkScheduleName(params.Name); err != nil {
		return Schedule{}, err
	}
	s, it, err := st.newSchedule(ctx, tx, params)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	now, err := central.Clock(ctx, tx)
	if err != nil {
		return Schedule{}, err
	}
	if err := holdCalendars(ctx, tx, s.Policy.Calendars); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	table, err := s.timetableTx(ctx, tx)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, err)
	}
	nominal := table.Next(now).UTC()
	if nominal.IsZero() {
		return Schedule{}, fmt.Errorf("schedule %s: %w", params.Name, errNeverAgain)
	}
	if err := access.Say(ctx, tx, params.Actor, ""); err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	err = tx.QueryRow(ctx, insertSchedule, s.ID, it.Meta.Tenant, it.Meta.Database, s.Name, nominal, now, s.Follows, s.row()).Scan(&s.place)
	if isDouble(err) {
		return Schedule{}, fmt.Errorf("%w: %s has a schedule named %q; choose another name", ErrExists, Key{Tenant: s.Tenant, Database: s.Database}.owner(), s.Name)
	}
	if err != nil {
		return Schedule{}, fmt.Errorf("storing schedule %s: %w", s.Name, err)
	}
	run, err := st.placed(ctx, tx, &s, table, nominal)
	if err != nil {
		return Schedule{}, fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	s.Nominal, s.NextRunAt, s.DelaySeconds, s.Version = &nominal, &run, int(s.delay().Seconds()), 1
	if s.DelaySeconds > 0 {
		if _, err := tx.Exec(ctx, placeNext, s.ID, run); err != nil {
			return Schedule{}, fmt.Errorf("storing schedule %s: %w", s.Name, err)
		}
	}
	return s, nil
}

// newSchedule checks what a schedule would enqueue, and for whom. In the meta of
// the draft it leaves their ids.
func (st *Store) newSchedule(ctx context.Context, tx pgx.Tx, params Params) (Schedule, queue.Draft, error) {
	s := Schedule{ID: uuid.Must(uuid.NewV7()).String(), Name: params.Name, Spec: params.Spec}
	it, err := s.draft(ctx, params.Tenant, params.Database, params.Args)
	if err != nil {
		return s, it, err
	}
	if it.Meta.Database != "" {
		s.Database, s.Zone = it.Meta.Database, cmp.Or(params.Zone, "UTC")
		it.Meta.Database, err = st.catalog.DatabaseIDTx(ctx, tx, s.Database)
		return s, it, err
	}
	tenants, err := st.queue.TenantsOf(ctx, tx, []queue.Draft{it}, nil)
	if err != nil {
		return s, it, err
	}
	tenant := tenants[it.Meta.Tenant]
	if tenant.Status == catalog.Archived {
		return s, it, fmt.Errorf("tenant %s is archived and takes no schedules", tenant.Slug)
	}
	it.Meta.Tenant, s.Tenant, s.Zone = tenant.ID, tenant.Slug, cmp.Or(params.Zone, tenant.Timezone, "UTC")
	s.Follows = params.Zone == ""
	if err := st.catalog.HoldTenantsTx(ctx, tx, tenant.ID); err != nil {
		return s, it, err
	}
	return s, it, holdBrand(ctx, tx, s.Tenant, s.Brand)
}
