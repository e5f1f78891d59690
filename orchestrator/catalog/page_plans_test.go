package catalog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// A page costs what is on it, wherever it is and however many tenants there are: it reads
// some hundred rows of 20,000, whichever filter is given.
func TestAPageReadsItsRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	tenants := b.addMany(t, 20_000)
	small := b.addDatabase(t, "small", catalog.KindShared)
	for _, sql := range []string{
		`UPDATE headgate.tenants SET plan = 'rare' WHERE org_id % 2000 = 0`,
		`UPDATE headgate.tenants SET status = 'archived' WHERE org_id % 2000 = 1`,
		`INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind) SELECT gen_random_uuid(), 100000 + n, 'zz' || n, 'x', '` + small.ID + `', 'shared' FROM generate_series(1, 5) AS n`,
		`INSERT INTO headgate.tenant_domains (domain, tenant_id, kind) SELECT slug || '.example', id, 'custom' FROM headgate.tenants`,
		`INSERT INTO headgate.tenant_emails (domain, tenant_id) SELECT slug || '.example', id FROM headgate.tenants`,
		`VACUUM (ANALYZE) headgate.tenants, headgate.tenant_domains, headgate.tenant_emails, headgate.databases`,
	} {
		_, err := b.pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	one, few, most, none := uuid.MustParse(tenants[7].ID), uuid.MustParse(small.ID), uuid.MustParse(tenants[7].DatabaseID), (*uuid.UUID)(nil)
	for name, page := range map[string]struct {
		sql  string
		args []any
	}{
		"tenants, first":        {catalog.TenantsSQL, []any{none, "", "", "", 201}},
		"tenants, middle":       {catalog.TenantsSQL, []any{none, "", "", "t5", 201}},
		"tenants, last":         {catalog.TenantsSQL, []any{none, "", "", "t9995", 201}},
		"of a plan":             {catalog.TenantsSQL, []any{none, "rare", "", "", 201}},
		"of a status":           {catalog.TenantsSQL, []any{none, "", "archived", "", 201}},
		"of a status of nobody": {catalog.TenantsSQL, []any{none, "", "suspended", "t5", 201}},
		"of a database":         {catalog.TenantsSQL, []any{few, "", "", "", 201}},
		"of a large database":   {catalog.TenantsSQL, []any{most, "", "", "t5", 201}},
		"domains, first":        {catalog.DomainsSQL, []any{none, "", "", uuid.Nil, 201}},
		"domains, last":         {catalog.DomainsSQL, []any{none, "", "t9995.example", one, 201}},
		"domains of a tenant":   {catalog.DomainsSQL, []any{one, "", "", uuid.Nil, 201}},
		"a domain":              {catalog.DomainsSQL, []any{none, "t77.example", "", uuid.Nil, 201}},
		"e-mail domains":        {catalog.EmailsSQL, []any{none, "t5", 201}},
		"of a tenant":           {catalog.EmailsSQL, []any{one, "", 201}},
	} {
		read, plan := rowsRead(t, b, page.sql, page.args)
		require.Less(t, read, 3000.0, "%s:\n%s", name, plan)
	}
	_, plan := rowsRead(t, b, catalog.DatabasesSQL, []any{"shared", 201}) // those behind it
	require.NotContains(t, plan, "Seq Scan on tenants")
}

// rowsRead is how many rows the leaves of a query's plan read, as it is planned for these
// arguments.
func rowsRead(t *testing.T, b bundle, sql string, args []any) (read float64, plan string) {
	t.Helper()
	conn, err := b.pool.Acquire(context.Background())
	require.NoError(t, err)
	defer conn.Release()
	var explained []struct{ Plan roomtest.Node }
	require.NoError(t, conn.QueryRow(context.Background(), `EXPLAIN (ANALYZE, FORMAT JSON) `+sql, append([]any{pgx.QueryExecModeCacheDescribe}, args...)...).Scan(&explained))
	explained[0].Plan.Walk(func(n roomtest.Node) {
		plan += fmt.Sprintln(n.Type, "on", n.Relation, n.Index, n.Rows, n.Loops, n.Removed)
		if len(n.Plans) == 0 {
			read += (n.Rows + n.Removed) * n.Loops
		}
	})
	return read, plan
}
