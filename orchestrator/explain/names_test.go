package explain_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/explain"
)

// Names cost what they return, among 10,000 tenants with 10 schedules of the same names each.
func TestNamesWalkAnIndex(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	for _, sql := range []string{
		`INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind)
SELECT gen_random_uuid(), 1000 + n, 't' || n, '', t.database_id, t.database_kind FROM headgate.tenants t, generate_series(1, 10000) n WHERE t.slug = 'acme'`,
		`INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone)
SELECT gen_random_uuid(), t.id, 'nightly-' || n, 'k', '0 3 * * *', 'UTC'
FROM headgate.tenants t, generate_series(1, 10) n WHERE t.slug LIKE 't%'`,
		`VACUUM ANALYZE headgate.tenants`, `VACUUM ANALYZE headgate.schedules`,
	} {
		_, err := env.Pool.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	for _, c := range []struct {
		of     explain.Noun
		prefix string
		table  string
		want   []string
		most   float64
	}{
		{explain.NounTenant, "t77", "tenants", nil, 50},
		{explain.NounTenant, "", "tenants", nil, 50},
		{explain.NounTenant, "t777", "tenants", []string{"t777", "t7770", "t7771", "t7772", "t7773", "t7774", "t7775", "t7776", "t7777", "t7778", "t7779"}, 11},
		{explain.NounTenant, "zz", "tenants", []string{}, 0},
		{explain.NounSchedule, "nightly-1", "schedules", []string{"nightly-1", "nightly-10"}, 4},
		{explain.NounSchedule, "", "schedules", nil, 20},
	} {
		got, err := explain.NamesByPrefix(t.Context(), env.Pool, c.of, c.prefix, 50)
		require.NoError(t, err)
		require.LessOrEqual(t, len(got), 50)
		if c.want != nil {
			require.ElementsMatch(t, c.want, got, c)
		}
		plan, text := explained(t, env, explain.NamesSQL[c.of], c.prefix, c.prefix+"\U0010FFFF", 50)
		rows, whole := readOf(plan, c.table)
		require.False(t, whole, text)
		require.LessOrEqual(t, rows, c.most, text)
	}
	for of := range explain.NamesSQL {
		_, err := explain.NamesByPrefix(t.Context(), env.Pool, of, "x", 50)
		require.NoError(t, err, of)
	}
	for _, prefix := range []string{"\xff", "a\x00"} {
		names, err := explain.NamesByPrefix(t.Context(), env.Pool, explain.NounTenant, prefix, 50)
		require.NoError(t, err)
		require.Empty(t, names)
	}
	_, err := explain.NamesByPrefix(t.Context(), env.Pool, "gadget", "", 50)
	var input *jobs.InputError
	require.ErrorAs(t, err, &input, fmt.Sprint(err))
}
