package catalog_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is a catalog on a central database of its own.
type bundle struct {
	*catalog.Catalog
	pool *pgxpool.Pool
}

func setup(t testing.TB) bundle {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), jobstest.Central(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return bundle{Catalog: catalog.New(pool, ringOf(t, "k1")), pool: pool}
}

// ringOf has a new key for each id.
func ringOf(t require.TestingT, ids ...string) *catalog.KeyRing {
	var keys string
	for _, id := range ids {
		keys += catalog.NewKey(id).Reveal() + "\n"
	}
	ring, err := catalog.NewKeyRing(address.NewSecret(keys))
	require.NoError(t, err)
	return ring
}

const planted = "S3cret-planted"

// login is an address on the server of addServer.
func login(user, dbname string) address.Address {
	return address.Address{Host: "db1.example.com", Port: 5432, Database: dbname, User: user, Password: address.NewSecret(planted + "-" + user)}
}

func (b bundle) addServer(t testing.TB) catalog.Server {
	t.Helper()
	s, err := b.AddServer(t.Context(), catalog.ServerParams{Name: "main", Hosts: []string{"db1.example.com", "db1-standby.example.com"}})
	require.NoError(t, err)
	return s
}

func databaseParams(name, kind string) catalog.DatabaseParams {
	return catalog.DatabaseParams{Name: name, Server: "main", Kind: kind, Job: login(name+"_job", name), Owner: login(name+"_owner", name), SigningKey: catalog.NewSigningKey()}
}

func (b bundle) addDatabase(t testing.TB, name, kind string) catalog.Database {
	t.Helper()
	d, err := b.AddDatabase(t.Context(), databaseParams(name, kind))
	require.NoError(t, err)
	return d
}

// addTenant adds a tenant to a shared database of its name.
func (b bundle) addTenant(t testing.TB, slug string) catalog.Tenant {
	t.Helper()
	b.addDatabase(t, slug, catalog.KindShared)
	tenant, err := b.AddTenant(t.Context(), catalog.TenantParams{Slug: slug, Database: slug})
	require.NoError(t, err)
	return tenant
}

// addMany adds tenants t0, t1, … to one shared database.
func (b bundle) addMany(t testing.TB, n int) []catalog.Tenant {
	t.Helper()
	b.addDatabase(t, "shared", catalog.KindShared)
	params := make([]catalog.TenantParams, n)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: "shared"}
	}
	tenants, err := b.AddTenants(t.Context(), params)
	require.NoError(t, err)
	return tenants
}
