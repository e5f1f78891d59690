package migrations_test

import (
	"testing"

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
	_, err := env.Pool.Exec(t.Context(), `SELECT headgate.audit_event('schedule', 'trigger', gen_random_uuid()::text, '', NULL, '[{"field": "jobs", "before": null, "after": 2}]')`)
	require.NoError(t, err, "the control")
}

// An erasure deletes what bears the removed tenant's numbers, so nobody changes them, and
// nobody asks for the erasure of a tenant that lives.
func TestARemovedTenantKeepsItsOrganisation(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("shared-1", jobstest.DatabaseOpts{})
	gone, lives := env.Tenant("gone", "shared-1"), env.Tenant("lives", "shared-1")
	_, err := env.Pool.Exec(t.Context(), `INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) VALUES ($1, gen_random_uuid(), gen_random_uuid(), '', '')`, lives.ID)
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
	_, err = env.Pool.Exec(t.Context(), `INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) VALUES ($1, gen_random_uuid(), gen_random_uuid(), '', '')`, gone.ID)
	require.NoError(t, err, "the control")
}
