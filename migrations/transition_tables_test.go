package migrations_test

import (
	"context"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

const transitionTriggersSQL = `
SELECT DISTINCT p.proname, p.prosrc, t.tgoldtable, t.tgnewtable
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'headgate'::regnamespace AND t.tgoldtable IS NOT NULL AND t.tgnewtable IS NOT NULL
  AND c.relname IN ('tenants', 'plans', 'tenant_limits', 'plan_limits')`

// A function keeps the plan that it made for one row. Once it joined old rows with new ones
// by a nested loop: after a change of one tenant, one of 10,000 in the same session took 106 s.
// A FULL JOIN by equality is never a nested loop.
func TestAChangeOfManyAfterAChangeOfOne(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	rows, err := env.Pool.Query(context.Background(), transitionTriggersSQL)
	require.NoError(t, err)
	var name, source, before, after string
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &source, &before, &after}, func() error {
		found++
		joins := regexp.MustCompile(`(?is)(full\s+)?\bjoin\s+(` + before + `|` + after + `)\b`)
		for _, join := range joins.FindAllStringSubmatch(source, -1) {
			require.NotEmpty(t, join[1], "%s joins its old rows with its new ones: %s", name, join[0])
		}
		require.NotRegexp(t, `(?is)\bfrom\s+(`+before+`|`+after+`)\s+\w*\s*,`, source, name)
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, found, 5)
}
