package orchestrator_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// rowsOf are the schedules that tenants have of selectors, as "tenant name cron zone".
func rowsOf(t *testing.T, env *jobstest.Env) []string {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `
SELECT concat_ws(' ', t.slug, s.name, s.cron, s.zone)
FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id
WHERE s.fleet_id IS NOT NULL ORDER BY t.slug, s.name`)
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return texts
}

// Two writers that each read what the other writes: an application's transaction on
// tenants, and a change of selector schedules that begins and ends meanwhile. No
// tenant is left without its schedule, or with a stale one.
func TestTenantsChangedBesideSelectors(t *testing.T) {
	t.Parallel()
	late := catalog.TenantParams{Slug: "late", Name: "late", Database: "shared", Plan: "pro"}
	add := func(t *testing.T, env *jobstest.Env, tx pgx.Tx) {
		_, err := env.Catalog.AddTenantTx(context.Background(), tx, late)
		require.NoError(t, err)
	}
	file := func(cron string) orchestrator.ScheduleFile {
		return orchestrator.ScheduleFile{Name: "site", Fleets: []orchestrator.FleetParams{{Name: "raced", Select: orchestrator.Selector{{Field: "plan", Value: "pro"}}, Args: Note{"x"}, Cron: cron}}}
	}
	apply := func(t *testing.T, env *jobstest.Env, cron string) {
		_, err := env.Client.ApplySchedules(context.Background(), file(cron))
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		before func(t *testing.T, env *jobstest.Env)
		change func(t *testing.T, env *jobstest.Env, tx pgx.Tx) // of tenants, not committed yet
		beside func(t *testing.T, env *jobstest.Env)            // of selector schedules
		want   []string
	}{
		"a new tenant and a new selector": {
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) {
				setFleet(t, env, orchestrator.FleetParams{Name: "raced", Select: selector(t, "plan=pro"), Cron: "0 7 * * *"})
			},
			want: []string{"late raced 0 7 * * * UTC"},
		},
		"a change of plan and a selector of the new plan": {
			before: func(t *testing.T, env *jobstest.Env) {
				_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'brick'`)
				require.NoError(t, err)
				setFleet(t, env, orchestrator.FleetParams{Name: "raced", Select: selector(t, "plan=pro"), Cron: "0 7 * * *"})
				require.Equal(t, []string{"brick raced 0 7 * * * UTC"}, rowsOf(t, env))
			},
			change: func(t *testing.T, _ *jobstest.Env, tx pgx.Tx) {
				_, err := tx.Exec(context.Background(), `UPDATE headgate.tenants SET plan = 'free' WHERE slug = 'brick'`)
				require.NoError(t, err)
			},
			beside: func(t *testing.T, env *jobstest.Env) {
				setFleet(t, env, orchestrator.FleetParams{Name: "other", Select: selector(t, "plan=free"), Cron: "0 8 * * *"})
			},
			want: []string{"brick other 0 8 * * * UTC"},
		},
		"a new tenant and a file that has changed": {
			before: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 7 * * *") },
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 8 * * *") },
			want:   []string{"late raced 0 8 * * * UTC"},
		},
		"a new tenant and the first of a file": {
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 8 * * *") },
			want:   []string{"late raced 0 8 * * * UTC"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := setup(t)
			if c.before != nil {
				c.before(t, env)
			}
			tx, err := env.Pool.Begin(context.Background())
			require.NoError(t, err)
			c.change(t, env, tx)
			c.beside(t, env)
			_ = pass(t, env)
			require.NoError(t, tx.Commit(context.Background()))
			_ = pass(t, env)
			require.Equal(t, c.want, rowsOf(t, env))
		})
	}
}

// A tenant's own schedule hides the selector's of the same name only while it is there.
func TestASelectorsScheduleComesBack(t *testing.T) {
	t.Parallel()
	env := setup(t)
	create(t, env, "acme", "shadow", "@daily")
	setFleet(t, env, orchestrator.FleetParams{Name: "shadow", Select: selector(t, "all"), Cron: "@hourly"})
	require.Equal(t, []string{"brick shadow @hourly UTC"}, rowsOf(t, env))
	require.NoError(t, env.Client.DeleteSchedule(context.Background(), of("acme", "shadow"), ""))
	_ = pass(t, env)
	require.Equal(t, []string{"acme shadow @hourly UTC", "brick shadow @hourly UTC"}, rowsOf(t, env))
}
