package migrations_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// empty makes an empty database and returns connections to it.
func empty(t *testing.T) func() *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	name := jobstest.EmptyDatabase(t)
	return func() *pgx.Conn {
		conn, err := pgx.Connect(ctx, jobstest.ServerURL(t, name))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(ctx) })
		return conn
	}
}

// Eight migrators at once: all succeed, one applies.
func TestEightAtOnce(t *testing.T) {
	t.Parallel()
	connect := empty(t)
	conns := make([]*pgx.Conn, 8)
	for i := range conns {
		conns[i] = connect()
	}
	applied := make([]int, len(conns))
	var wg sync.WaitGroup
	for i, conn := range conns {
		wg.Go(func() {
			names, err := migrations.Up(context.Background(), conn, nil)
			if err != nil {
				t.Errorf("migrator %d: %v", i, err)
			}
			applied[i] = len(names)
		})
	}
	wg.Wait()
	did := 0
	for _, n := range applied {
		if n > 0 {
			did++
		}
	}
	require.Equal(t, 1, did, "applied by each: %v", applied)
	require.NoError(t, migrations.Check(context.Background(), conns[0]))
}

// A schema and a program that do not fit say which of the two is behind.
func TestVersions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := empty(t)()
	var version *migrations.VersionError

	err := migrations.Check(ctx, conn)
	require.ErrorAs(t, err, &version)
	require.False(t, version.Newer())
	require.ErrorContains(t, err, "has no Headgate schema: run `headgate migrate up`")

	_, err = migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
	status, err := migrations.ReadStatus(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, status.Program, status.Version)
	require.Empty(t, status.Pending)

	_, err = conn.Exec(ctx, `INSERT INTO headgate.migrations (version, name, serves) VALUES ($1, 'expand', 1)`, status.Program+1)
	require.NoError(t, err)
	require.NoError(t, migrations.Check(ctx, conn), "a newer schema that still serves this program")
	_, err = migrations.Up(ctx, conn, nil)
	require.NoError(t, err, "and migrating does nothing to it")

	_, err = conn.Exec(ctx, `INSERT INTO headgate.migrations (version, name, serves) VALUES ($1, 'contract', $2)`, status.Program+2, status.Program+1)
	require.NoError(t, err)
	err = migrations.Check(ctx, conn)
	require.ErrorAs(t, err, &version)
	require.True(t, version.Newer())
	require.ErrorContains(t, err, fmt.Sprintf("serves programs from schema %d on, and this program is of schema %d: upgrade headgate", status.Program+1, status.Program))

	_, err = conn.Exec(ctx, `DELETE FROM headgate.migrations WHERE version >= $1`, status.Program)
	require.NoError(t, err)
	err = migrations.Check(ctx, conn)
	require.ErrorAs(t, err, &version)
	require.False(t, version.Newer())
}

func identity(id string) migrations.Identity {
	return migrations.Identity{DatabaseID: id, SigningKey: catalog.NewSigningKey()}
}

// A tenant database is marked once, and belongs to one catalog entry.
func TestUpTenant(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := empty(t)()
	require.NoError(t, migrations.PrepareServer(ctx, conn))
	require.NoError(t, migrations.PrepareServer(ctx, conn), "preparing twice changes nothing")
	one := identity("0190aaaa-0000-7000-8000-000000000001")
	two := identity("0190aaaa-0000-7000-8000-000000000002")
	names, err := migrations.UpTenant(ctx, conn, one, nil)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	names, err = migrations.UpTenant(ctx, conn, one, nil)
	require.NoError(t, err)
	require.Empty(t, names)
	_, err = migrations.UpTenant(ctx, conn, two, nil)
	require.ErrorIs(t, err, migrations.ErrOtherDatabase)
}

// Without the server's role the tenant side is not half installed.
// The list of the functions that a job login calls is the list of those granted to it.
func TestJobFunctions(t *testing.T) {
	t.Parallel()
	db := jobstest.New(t).Database("one", jobstest.DatabaseOpts{})
	rows, err := db.Pool.Query(context.Background(), `
SELECT DISTINCT p.proname::text FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
WHERE p.pronamespace = 'headgate'::regnamespace AND a.grantee = 'headgate_job'::regrole AND a.privilege_type = 'EXECUTE' ORDER BY 1`)
	require.NoError(t, err)
	granted, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, granted, migrations.JobFunctions)
}

func TestUpTenantOnAnUnpreparedServer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server, err := localpg.Start(ctx, localpg.Config{MaxConnections: 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = migrations.UpTenant(ctx, conn, identity("0190aaaa-0000-7000-8000-000000000003"), nil)
	require.ErrorContains(t, err, "headgate server prepare")
	var there bool
	require.NoError(t, conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'headgate')`).Scan(&there))
	require.False(t, there)
}

// The second role with another search_path finds the first role's queue and is
// refused: there are never two. Nor does it matter which of them looks.
func TestOneQueueWhateverTheSearchPath(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	connect := empty(t)
	conn := connect()
	run := func(conn *pgx.Conn, sql string) {
		t.Helper()
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	run(conn, `CREATE SCHEMA app; SET search_path = ''`)
	_, err := migrations.Up(ctx, conn, nil)
	require.ErrorContains(t, err, "no schema of the search_path of login", "nowhere to make it")
	require.ErrorContains(t, err, "ALTER ROLE")

	run(conn, `SET search_path = app, public`)
	_, err = migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
	require.NoError(t, migrations.Check(ctx, conn))
	schema, err := migrations.Queue(ctx, conn)
	require.NoError(t, err)
	require.Equal(t, "app", schema)

	other := connect()
	var queue *migrations.QueueError
	_, err = migrations.Up(ctx, other, nil)
	require.ErrorAs(t, err, &queue)
	require.ErrorContains(t, err, `the queue is in schema app of the central database, and login `)
	require.ErrorContains(t, err, ` finds none, for its search_path is "$user", public: ALTER ROLE`)
	require.ErrorContains(t, err, `SET search_path = "app", and connect again`)
	require.ErrorAs(t, migrations.Check(ctx, other), &queue)
	var queues int
	require.NoError(t, other.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE relname = 'river_job' AND relkind = 'r'`).Scan(&queues))
	require.Equal(t, 1, queues)

	run(other, `SET search_path = "app"`)
	_, err = migrations.Up(ctx, other, nil)
	require.NoError(t, err, "after what it said was done")
}

// What is missing is named, each by its own name: nobody is sent to the server's
// administrator for a language, or to the owner for a role.
func TestWhatATenantDatabaseLacksIsNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := empty(t)()
	require.NoError(t, migrations.PrepareServer(ctx, conn))
	id := identity("0190aaaa-0000-7000-8000-000000000004")
	for _, c := range []struct{ broken, says, mended string }{
		{`DROP EXTENSION plpgsql`, "the database has no language plpgsql", `CREATE EXTENSION plpgsql`},
		{`SET default_transaction_read_only = on`, "default_transaction_read_only is on", `SET default_transaction_read_only = off`},
	} {
		_, err := conn.Exec(ctx, c.broken)
		require.NoError(t, err)
		_, err = migrations.UpTenant(ctx, conn, id, nil)
		require.ErrorContains(t, err, c.says)
		require.NotContains(t, err.Error(), "headgate_job")
		_, err = conn.Exec(ctx, c.mended)
		require.NoError(t, err)
	}
	_, err := migrations.UpTenant(ctx, conn, id, nil)
	require.NoError(t, err, "after what it said was done")
}
