package importer_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is an importer on a central database of its own, with a shared database and some
// features.
type bundle struct {
	*importer.Importer
	catalog *catalog.Catalog
	pool    *pgxpool.Pool
}

func setup(t testing.TB) bundle {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), jobstest.Central(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	ring, err := catalog.NewKeyRing(catalog.NewKey("k1"))
	require.NoError(t, err)
	c := catalog.New(pool, ring)
	b := bundle{importer.New(pool, c), c, pool}
	_, err = c.AddServer(t.Context(), catalog.ServerParams{Name: "main", Hosts: []string{"db1.example.com"}})
	require.NoError(t, err)
	for name, kind := range map[string]string{"shared-1": catalog.KindShared, "shared-2": catalog.KindShared, "solo": catalog.KindDedicated} {
		_, err = c.AddDatabase(t.Context(), catalog.DatabaseParams{Name: name, Server: "main", Kind: kind, Job: login(name+"_job", name), Owner: login(name+"_owner", name), SigningKey: catalog.NewSigningKey()})
		require.NoError(t, err)
	}
	b.exec(t, `INSERT INTO headgate.features (name, type) VALUES ('beta', 'boolean'), ('seats', 'number'), ('theme', 'string')`)
	return b
}

func login(user, dbname string) address.Address {
	return address.Address{Host: "db1.example.com", Port: 5432, Database: dbname, User: user, Password: address.NewSecret("S3cret-" + user)}
}

func (b bundle) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// one is the answer of a query that has one.
func one[T any](t testing.TB, b bundle, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}

func readCSV(t testing.TB, text string) *importer.Table {
	t.Helper()
	table, err := importer.ReadCSV(strings.NewReader(text), importer.ReadOptions{})
	require.NoError(t, err)
	return table
}

// imports imports CSV whose rows live in shared-1.
func (b bundle) imports(t testing.TB, text string) *importer.Plan {
	t.Helper()
	plan, err := b.Import(context.Background(), readCSV(t, text), importer.Options{Database: "shared-1"})
	require.NoError(t, err)
	return plan
}

func (b bundle) syncs(t testing.TB, text string) *importer.Plan {
	t.Helper()
	plan, err := b.Import(context.Background(), readCSV(t, text), importer.Options{Database: "shared-1", Source: "crm"})
	require.NoError(t, err)
	return plan
}

// refused are the sentences about the rows of an input that is not taken, with their lines.
func (b bundle) refused(t testing.TB, text string, opts importer.Options) []importer.RowError {
	t.Helper()
	before := b.fingerprint(t)
	table, err := importer.ReadCSV(strings.NewReader(text), importer.ReadOptions{})
	if err == nil {
		_, err = b.Import(context.Background(), table, opts)
	}
	var wrong *importer.RowsError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, before, b.fingerprint(t), "a refused input writes nothing")
	return wrong.Rows
}

// fingerprint changes with each write to the catalog.
func (b bundle) fingerprint(t testing.TB) string {
	t.Helper()
	return one[string](t, b, `
SELECT md5(concat((SELECT string_agg(t.xmin || t.id::text, ',' ORDER BY id) FROM headgate.tenants t), (SELECT string_agg(d.xmin || d.id::text, ',' ORDER BY id) FROM headgate.databases d),
  (SELECT string_agg(d.xmin || d.domain, ',' ORDER BY domain) FROM headgate.tenant_domains d), (SELECT string_agg(d.xmin || d.domain, ',' ORDER BY domain) FROM headgate.tenant_emails d),
  (SELECT o.xmin FROM headgate.org_ids o)))`)
}
