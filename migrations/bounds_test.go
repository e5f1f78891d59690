package migrations_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Whoever has the password of a role may call what the role may call, so the bounds of time
// and shape stand in SQL.
func TestTheBoundsOfTheRolesStandInSQL(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	refused := func(sql, says string) {
		t.Helper()
		_, err := env.Pool.Exec(t.Context(), sql)
		require.ErrorContains(t, err, says, sql)
	}
	for _, add := range []string{"add_audit_month", "add_outcomes_month", "add_job_logs_day"} {
		for _, at := range []string{"'infinity'", "'-infinity'", "NULL", "'0044-03-15 BC'", "now() - interval '15 months'", "now() + interval '4 months'"} {
			refused(`SELECT headgate.`+add+`(`+at+`)`, "outside of the last 14 and the next 3 months")
		}
		_, err := env.Pool.Exec(t.Context(), `SELECT headgate.`+add+`(now() - interval '13 months')`)
		require.NoError(t, err, "the control")
	}
	refused(`SELECT headgate.drop_audit_months(now() - interval '12 months')`, "the last 13 months stay")
	refused(`SELECT headgate.drop_audit_months(NULL)`, "the last 13 months stay")
	refused(`SELECT headgate.audit_event('tenant', 'trigger', gen_random_uuid()::text, '', NULL, '[]')`, "the only one is schedule")
	refused(`SELECT headgate.audit_event('schedule', 'remove', gen_random_uuid()::text, '', NULL, '[]')`, "give trigger or backfill")
	refused(`SELECT headgate.audit_event('schedule', 'trigger', 'x', '', NULL, '[]')`, "give the UUID")
	for _, changes := range []string{`NULL`, `'{}'`, `'[1]'`, `'[{"field": 1, "before": 1, "after": 2}]'`, `'[{"field": "a", "before": 1}]'`, `'[{"field": "a", "before": 1, "after": 2, "more": 3}]'`} {
		refused(`SELECT headgate.audit_event('schedule', 'trigger', gen_random_uuid()::text, '', NULL, `+changes+`)`, "give an array of objects")
	}
	refused(`SELECT headgate.audit_event('schedule', 'trigger', gen_random_uuid()::text, '', NULL, jsonb_build_array(repeat('x', 1000000)))`, "give at most 10000 characters")
	refused(`SELECT headgate.audit_event('schedule', 'trigger', gen_random_uuid()::text, '', NULL, '[]')`, "no schedule has this UUID; nothing was recorded")
}

const (
	nightly   = `00000000-0000-7000-8000-000000004711`
	triggered = `SELECT headgate.audit_event('schedule', 'trigger', '` + nightly + `', 'nightly', (SELECT tenant_id FROM headgate.schedules WHERE id = '` + nightly + `'), '[{"field": "jobs", "before": null, "after": 2}]')`
)

// addNightly adds tenant acme with a schedule.
func addNightly(t *testing.T, env *jobstest.Env) {
	t.Helper()
	env.Database("shared-1", jobstest.DatabaseOpts{})
	_, err := env.Pool.Exec(t.Context(), `INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, buffered) VALUES ($1, $2, 'nightly', 'k', '@daily', 'UTC', '[]')`, nightly, env.Tenant("acme", "shared-1").ID)
	require.NoError(t, err)
}

// An event is of a schedule that is there, under its own name and tenant, and a schedule has so
// many events a minute and no more. So the table is not filled with what nobody has done.
func TestEventsOfTheAuditAreBounded(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	addNightly(t, env)
	for sql, says := range map[string]string{
		`SELECT headgate.audit_event('schedule', 'trigger', '` + nightly + `', 'other', (SELECT id FROM headgate.tenants), '[]')`: "name other: the schedule is called nightly",
		`SELECT headgate.audit_event('schedule', 'trigger', '` + nightly + `', 'nightly', NULL, '[]')`:                            "tenant NULL: the schedule belongs to ",
	} {
		_, err := env.Pool.Exec(t.Context(), sql)
		require.ErrorContains(t, err, says, sql)
	}
	_, err := env.Pool.Exec(t.Context(), triggered+` FROM generate_series(1, 1000)`)
	require.NoError(t, err, "the control")
	_, err = env.Pool.Exec(t.Context(), triggered)
	require.ErrorContains(t, err, "schedule nightly has had 1000 events within a minute")
	var n int
	require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT count(*) FROM headgate.audit WHERE key = $1 AND action = 'trigger' AND name = 'nightly' AND tenant_id IS NOT NULL`, nightly).Scan(&n))
	require.Equal(t, 1000, n)
}

// An operation is one login's: nobody puts entries among those of somebody else, neither by
// an event nor by changing a row. Within a login, transactions that say so have one.
func TestAnOperationIsOfOneLogin(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := t.Context()
	addNightly(t, env)
	const operation = "0198c1d2-0000-7000-8000-000000000001"
	as := func(role string, statements ...string) (login string) {
		login, url := env.RoleLogin(role)
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		for _, sql := range statements {
			require.NoError(t, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, `SELECT set_config('headgate.operation', $1, true), set_config('headgate.actor', 'ines', true)`, operation); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, sql)
				return err
			}), sql)
		}
		return login
	}
	count := func(login string) (entries, operations, under int) {
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*), count(DISTINCT operation), count(*) FILTER (WHERE operation = $2) FROM headgate.audit WHERE login = $1`, login, operation).Scan(&entries, &operations, &under))
		return entries, operations, under
	}
	first := as("api", triggered, `UPDATE headgate.tenants SET name = 'Acme & Sons'`)
	second := as("worker", triggered, `UPDATE headgate.schedules SET paused = true`)
	entries, operations, under := count(first)
	require.Equal(t, []int{2, 1, 2}, []int{entries, operations, under})
	entries, operations, under = count(second)
	require.Equal(t, []int{2, 1, 0}, []int{entries, operations, under}, "an operation of its own, and one for both of its transactions")
}

// Two logins begin one operation at the same moment: the second waits, and gets its own. An
// erasure that is asked for opens nobody's operation to other logins.
func TestAnOperationThatTwoBeginIsOfOne(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	addNightly(t, env)
	env.Tenant("gone", "shared-1")
	const operation = "0198c1d2-0000-7000-8000-000000000001"
	begin := func(role string) (pgx.Tx, string) {
		login, url := env.RoleLogin(role)
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT set_config('headgate.operation', $1, true)`, operation)
		require.NoError(t, err)
		return tx, login
	}
	first, firstLogin := begin("api")
	_, err := first.Exec(t.Context(), `UPDATE headgate.tenants SET name = 'Acme & Sons'`)
	require.NoError(t, err)
	second, secondLogin := begin("worker")
	done := make(chan error, 1)
	go func() {
		_, err := second.Exec(context.Background(), `UPDATE headgate.schedules SET paused = true`)
		done <- err
	}()
	require.Eventually(t, func() bool {
		var waits bool
		return env.Pool.QueryRow(t.Context(), `SELECT cardinality(pg_blocking_pids($1)) > 0`, second.Conn().PgConn().PID()).Scan(&waits) == nil && waits
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, <-done)
	require.NoError(t, second.Commit(t.Context()))

	_, err = env.Pool.Exec(t.Context(), `SELECT headgate.remove_tenants(ARRAY[id], 'left', '') FROM headgate.tenants WHERE slug = 'gone'`)
	require.NoError(t, err)
	third, thirdLogin := begin("worker")
	_, err = env.Pool.Exec(t.Context(), `INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) SELECT id, gen_random_uuid(), $1, '', '' FROM headgate.tenants WHERE status = 'removed'`, operation)
	require.NoError(t, err)
	_, err = third.Exec(t.Context(), triggered)
	require.NoError(t, err)
	require.NoError(t, third.Commit(t.Context()))
	for login, under := range map[string]bool{firstLogin: true, secondLogin: false, thirdLogin: false} {
		var same []bool
		require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT array_agg(DISTINCT operation = $2) FROM headgate.audit WHERE login = $1`, login, operation).Scan(&same))
		require.Equal(t, []bool{under}, same, login)
	}
}

const askErasure = `INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) VALUES ($1, gen_random_uuid(), gen_random_uuid(), '', '')`

// An erasure deletes what bears the removed tenant's numbers, so nobody changes them, and
// nobody asks for the erasure of a tenant that lives.
func TestARemovedTenantKeepsItsOrganisation(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("shared-1", jobstest.DatabaseOpts{})
	gone, lives := env.Tenant("gone", "shared-1"), env.Tenant("lives", "shared-1")
	_, err := env.Pool.Exec(t.Context(), askErasure, lives.ID)
	require.ErrorContains(t, err, "only what was removed is erased")
	_, err = env.Pool.Exec(t.Context(), `SELECT headgate.remove_tenants(ARRAY[$1::uuid], 'left', '')`, gone.ID)
	require.NoError(t, err)
	for _, set := range []string{`org_id = 77`, `org_key = 'other'`, `status = 'active', slug = 'back'`} {
		_, err := env.Pool.Exec(t.Context(), `UPDATE headgate.tenants SET `+set+` WHERE id = $1`, gone.ID)
		require.ErrorContains(t, err, "its status, org_id and org_key stay", set)
	}
	_, err = env.Pool.Exec(t.Context(), `UPDATE headgate.tenants SET org_id = $2 WHERE id = $1`, lives.ID, gone.OrgID)
	require.ErrorContains(t, err, "keeps its id and its org_id")
	_, err = env.Pool.Exec(t.Context(), `UPDATE headgate.tenants SET org_key = $2::text WHERE id = $1`, lives.ID, gone.OrgKey)
	require.ErrorContains(t, err, "tenants_org_key")
	_, err = env.Pool.Exec(t.Context(), askErasure, gone.ID)
	require.NoError(t, err, "the control")
}
