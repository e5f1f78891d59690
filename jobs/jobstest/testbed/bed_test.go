package testbed_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

const schema = `CREATE TABLE notes (org_id bigint, note text); GRANT SELECT, INSERT ON notes TO headgate_job`

// server is the test server; nothing of a bed is to stay on it.
func server(t *testing.T) *testbed.Server {
	t.Helper()
	s, err := testbed.At("", jobstest.ServerURL(t, "postgres"))
	require.NoError(t, err)
	return s
}

// left names the databases and roles of a bed that are there.
func left(t *testing.T, s *testbed.Server, prefix string) (names []string) {
	t.Helper()
	const query = `SELECT datname FROM pg_database WHERE starts_with(datname, $1) UNION ALL SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY 1`
	require.NoError(t, s.On(context.Background(), "postgres", func(conn *pgx.Conn) error {
		rows, err := conn.Query(context.Background(), query, prefix)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	}))
	return names
}

func prefix(t *testing.T) string {
	t.Helper()
	return "tb_" + jobstest.EmptyDatabase(t)
}

// A bed is made, its logins work and see their own, and nothing is left.
func TestMadeUsedDropped(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, name := server(t), prefix(t)
	bed, err := testbed.Open(ctx, testbed.Config{Server: s, Prefix: name, CentralOwner: true})
	require.NoError(t, err)
	first, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "first", Schema: schema, Closed: true})
	require.NoError(t, err)
	second, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "second", Kind: catalog.KindDedicated, Schema: schema})
	require.NoError(t, err)
	third, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "third", Encoding: "LATIN1"})
	require.NoError(t, err)
	require.NoError(t, bed.Empty(ctx, name+"_empty"))

	added, err := bed.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "acme", Database: "first"})
	require.NoError(t, err)
	tenant, place, err := bed.Catalog.ResolveTenant(ctx, added.ID, jobs.LoginJob)
	require.NoError(t, err)
	pools := tenantdb.New(tenantdb.Config{})
	err = pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error { // proves the identity first
		_, err := conn.Exec(ctx, `INSERT INTO notes VALUES ($1, 'hello')`, tenant.OrgID)
		return err
	})
	pools.Close()
	require.NoError(t, err)
	for _, d := range []*testbed.Database{first, second, third} {
		conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, s.Transport(), address.NoPooler, d.Owner)
		require.NoError(t, err, d.Name)
		var id string
		require.NoError(t, conn.QueryRow(ctx, `SELECT database_id::text FROM headgate.identity`).Scan(&id))
		require.Equal(t, d.ID, id)
		require.NoError(t, conn.Close(ctx))
	}
	stranger := second.Job
	stranger.Database = first.DBName
	_, err = tenantdb.Connect(ctx, tenantdb.Config{}, s.Transport(), address.NoPooler, stranger)
	require.ErrorContains(t, err, "permission denied", "a closed database lets in nobody else")
	owner, err := pgx.Connect(ctx, bed.URL)
	require.NoError(t, err)
	require.NoError(t, owner.Close(ctx))

	require.NoError(t, second.Drop(ctx))
	require.NotContains(t, left(t, s, name), second.DBName)
	require.NotEmpty(t, left(t, s, name))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.NoError(t, bed.Close(ended), "a context that has ended keeps nothing alive")
	require.Empty(t, left(t, s, name))
	require.NoError(t, bed.Close(ctx))
}

// What a failed call had made is gone when it returns, or when the bed closes.
func TestErrorHalfWayLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, name := server(t), prefix(t)
	bed, err := testbed.Open(ctx, testbed.Config{Server: s, Prefix: name})
	require.NoError(t, err)
	_, err = bed.Database(ctx, testbed.DatabaseOpts{Name: "broken", Schema: "CREATE TABLE (", DBName: name + "_broken"})
	require.ErrorContains(t, err, "making tenant database broken: making template")
	require.ErrorContains(t, err, "creating the schema")

	_, err = bed.Database(ctx, testbed.DatabaseOpts{Name: "twice", DBName: name + "_one"})
	require.NoError(t, err)
	_, err = bed.Database(ctx, testbed.DatabaseOpts{Name: "twice", DBName: name + "_two"})
	require.ErrorIs(t, err, catalog.ErrExists, "the catalog refuses what is whole on the server")
	for _, there := range left(t, s, name) {
		require.NotContains(t, there, name+"_two")
	}
	require.Contains(t, left(t, s, name), name+"_one")
	require.Contains(t, left(t, s, name), name+"_one_owner")

	_, err = bed.Database(ctx, testbed.DatabaseOpts{Name: "other", DBName: name + "_one"})
	require.ErrorContains(t, err, "already exists")
	require.Contains(t, left(t, s, name), name+"_one", "the name was somebody else's, and so is what it names")
	require.Contains(t, left(t, s, name), name+"_one_owner")
	require.NoError(t, bed.Close(ctx))
	require.Empty(t, left(t, s, name))
}

// An Open that fails after it made the central database drops it.
func TestOpenFailsWhole(t *testing.T) {
	t.Parallel()
	s, name := server(t), prefix(t)
	for _, owner := range []bool{false, true} {
		cfg := testbed.Config{Server: s, Prefix: name, CentralOwner: owner, Key: address.NewSecret("not a key")}
		_, err := testbed.Open(t.Context(), cfg)
		require.Error(t, err)
		require.Empty(t, left(t, s, name))
	}
}

// A bed that is interrupted at any moment leaves nothing once it is closed.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := server(t)
	for after := 5 * time.Millisecond; after < 2*time.Second; after = after * 3 / 2 {
		name := prefix(t)
		ctx, cancel := context.WithTimeout(t.Context(), after)
		bed, err := testbed.Open(ctx, testbed.Config{Server: s, Prefix: name})
		if err == nil {
			_, err = bed.Database(ctx, testbed.DatabaseOpts{Name: "one", Schema: schema})
			require.NoError(t, bed.Close(ctx))
		}
		cancel()
		require.Empty(t, left(t, s, name), "after %s: %v", after, err)
		if err == nil {
			return
		}
	}
}

// Kept, a bed closes what it has open and drops nothing.
func TestKeep(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, name := server(t), prefix(t)
	bed, err := testbed.Open(ctx, testbed.Config{Server: s, Prefix: name})
	require.NoError(t, err)
	d, err := bed.Database(ctx, testbed.DatabaseOpts{Name: "one"})
	require.NoError(t, err)
	bed.Keep()
	require.NoError(t, d.Drop(ctx))
	require.NoError(t, bed.Close(ctx))
	there := left(t, s, name)
	require.Contains(t, there, name)
	require.Contains(t, there, d.DBName)

	adopted, err := testbed.Open(ctx, testbed.Config{Server: s, Prefix: name, Adopt: true, Key: bed.Key})
	require.NoError(t, err)
	_, err = adopted.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "acme", Database: "one"})
	require.NoError(t, err)
	require.NoError(t, adopted.Close(ctx))
	require.Equal(t, there, left(t, s, name), "what was adopted stays too")
	for _, dbname := range there {
		require.NoError(t, s.Drop(ctx, dbname))
	}
	for _, role := range left(t, s, name) {
		require.NoError(t, s.Exec(ctx, "postgres", `DROP ROLE "`+role+`"`))
	}
	require.Empty(t, left(t, s, name))
}

// Central makes a database or takes the one that is there.
func TestCentralAgain(t *testing.T) {
	t.Parallel()
	s, name := server(t), prefix(t)
	t.Cleanup(func() { require.NoError(t, s.Drop(context.Background(), name)) })
	for range 2 {
		require.NoError(t, s.Central(t.Context(), name))
	}
	require.NoError(t, s.Exec(t.Context(), name, `SELECT FROM headgate.tenants`))
}
