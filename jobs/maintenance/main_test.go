package maintenance_test

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is a database of the test's own, with an owner of tables and a job
// login that owns nothing.
type bundle struct {
	t                   *testing.T
	name                string
	ownerRole, jobRole  string
	admin, owner, login *pgx.Conn
	key                 address.Secret
	dedicated           bool // purges are told that nobody else is in the database
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, dedicated: true}
	root := b.connect("postgres", "")
	t.Cleanup(func() { // registered before the database's own cleanup, so run after it
		b.exec(root, "DROP ROLE "+b.ownerRole)
		b.exec(root, "DROP ROLE "+b.jobRole)
	})
	name := jobstest.EmptyDatabase(t)
	b.name, b.ownerRole, b.jobRole = name, name+"_owner", name+"_job"
	b.exec(root, "CREATE ROLE "+b.ownerRole+" LOGIN PASSWORD 'test'")
	b.exec(root, "CREATE ROLE "+b.jobRole+" LOGIN PASSWORD 'test'")
	b.admin = b.connect(name, "")
	b.exec(b.admin, "GRANT CREATE ON SCHEMA public TO "+b.ownerRole)
	b.owner, b.login = b.connect(name, b.ownerRole), b.connect(name, b.jobRole)
	return b
}

// connect connects to a database, as a role or as the superuser.
func (b *bundle) connect(database, role string) *pgx.Conn {
	b.t.Helper()
	address, err := url.Parse(jobstest.ServerURL(b.t, database))
	require.NoError(b.t, err)
	if role != "" {
		address.User = url.UserPassword(role, "test")
	}
	conn, err := pgx.Connect(context.Background(), address.String())
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bundle) exec(conn *pgx.Conn, sql string, args ...any) {
	b.t.Helper()
	_, err := conn.Exec(context.Background(), sql, args...)
	require.NoError(b.t, err, sql)
}

func (b *bundle) count(query string) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.admin.QueryRow(context.Background(), query).Scan(&n), query)
	return n
}

func newJob[A jobs.Args](args A) *jobs.Job[A] {
	return &jobs.Job[A]{Args: args, Info: jobs.Info{Kind: args.Kind(), Result: &jobs.Result{}}}
}
