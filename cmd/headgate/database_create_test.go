package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// builder makes databases with an administrator who is no superuser.
type builder struct {
	*commandLine
	env    *jobstest.Env
	t      *testing.T
	name   string // of the database that the test makes
	admin  string
	server *site // how the server is reached
}

const adminPassword = "planted-admin-password"

// newBuilder has a central database, a server of it, and an administrator who may make
// databases and roles. What is made under its name is gone after the test.
func newBuilder(t *testing.T) *builder {
	t.Helper()
	c, env := setup(t)
	b := &builder{commandLine: c, env: env, t: t, name: "c-" + strings.ToLower(rand.Text()[:10])}
	b.admin = b.name + "_admin"
	cfg, err := pgxpool.ParseConfig(jobstest.ServerURL(t, "postgres"))
	require.NoError(t, err)
	b.server = &site{host: cfg.ConnConfig.Host, port: cfg.ConnConfig.Port, socket: strings.HasPrefix(cfg.ConnConfig.Host, "/")}
	if jobstest.Bounced() { // the command goes past it
		b.server.host, b.server.socket = "127.0.0.1", false
	}
	t.Cleanup(func() {
		admin(t, "postgres", fmt.Sprintf(`DROP DATABASE IF EXISTS "%s" WITH (FORCE)`, b.name))
		for _, role := range []string{b.job(), b.owner(), b.app(), b.admin} {
			admin(t, "postgres", fmt.Sprintf(`DROP ROLE IF EXISTS "%s"`, role))
		}
	})
	admin(t, "postgres", migrations.ServerSQL,
		fmt.Sprintf(`CREATE ROLE "%s" LOGIN NOSUPERUSER CREATEDB CREATEROLE PASSWORD '%s'`, b.admin, adminPassword),
		fmt.Sprintf(`GRANT headgate_job TO "%s" WITH ADMIN OPTION`, b.admin))
	b.commandLine = c.with("HEADGATE_ADMIN_URL", b.server.address(b.admin, adminPassword, "postgres"))
	b.secrets = append(b.secrets, adminPassword)
	return b
}

func (b *builder) job() string   { return b.name + "_job" }
func (b *builder) owner() string { return b.name + "_headgate" }
func (b *builder) app() string   { return b.name + "_app" }

// create is the command line that makes the database.
func (b *builder) create(more ...string) []string {
	return append([]string{"database", "create", b.name, "--server", jobstest.Server, "--kind", "shared"}, more...)
}

func (b *builder) abandon() []string { return []string{"database", "create", b.name, "--abandon"} }

func (b *builder) central() string { return b.env.Pool.Config().ConnConfig.Database }

// here says which of the database and its roles are on the server.
func (b *builder) here() string {
	b.t.Helper()
	return ask(b.t, "postgres", fmt.Sprintf(`SELECT coalesce(string_agg(x, ' ' ORDER BY x), '') FROM (
		SELECT replace(rolname, '%[1]s', 'N') FROM pg_roles WHERE rolname IN ('%[1]s_job', '%[1]s_headgate', '%[1]s_app')
		UNION ALL SELECT 'db' FROM pg_database WHERE datname = '%[1]s') s (x)`, b.name))
}

const (
	allHere = "N_app N_headgate N_job db"
	inRows  = `SELECT (SELECT count(*) FROM headgate.databases) || ' in the catalog, ' || (SELECT count(*) FROM headgate.database_intents) || ' unfinished'`
)

func (b *builder) rows() string {
	b.t.Helper()
	return ask(b.t, b.central(), inRows)
}

// asApp runs statements with the address that the file holds.
func asApp(t *testing.T, file string, statements ...string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	execute(t, strings.TrimSpace(string(text)), statements...)
}

// complete holds the database against what the command promises.
func (b *builder) complete(file string) {
	b.t.Helper()
	t := b.t
	require.Equal(t, allHere, b.here())
	require.Equal(t, "1 in the catalog, 0 unfinished", b.rows())
	for sql, want := range map[string]string{
		`SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()`: b.app(),
		`SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'headgate'`:        `"` + b.owner() + `"`,
		`SELECT has_database_privilege('headgate_job', current_database(), 'CONNECT')`:       "false",
		`SELECT has_database_privilege('` + b.job() + `', current_database(), 'CONNECT')`:    "true",
		`SELECT string_agg(DISTINCT rolsuper::text || rolcreatedb || rolcreaterole || rolbypassrls || rolreplication, ' ') FROM pg_roles WHERE rolname LIKE '` + b.name + `\_%' AND rolname <> '` + b.admin + `'`: "falsefalsefalsefalsefalse",
		`SELECT string_agg(r.rolname, ' ') FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = '"` + b.job() + `"'::regrole`:                                                              "headgate_job",
		`SELECT pg_has_role('` + b.app() + `', '` + b.owner() + `', 'MEMBER')`:                                                                                                                                    "false",
		`SELECT count(*) FROM headgate.identity WHERE centre IS NOT NULL AND database_id = '` + ask(t, b.central(), `SELECT id FROM headgate.databases`) + `'`:                                                    "1",
	} {
		require.Equal(t, strings.Trim(want, `"`), strings.Trim(ask(t, b.name, sql), `"`), sql)
	}
	require.Equal(t, "f", ask(t, "postgres", fmt.Sprintf(`SELECT CASE WHEN pg_has_role('%s', '%s', 'USAGE') THEN 't' ELSE 'f' END`, b.admin, b.app())), "the administrator keeps no rights")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	asApp(t, file, `CREATE TABLE notes (org_id bigint)`)
}

// One command, and an administrator who is no superuser: the logins, the database, the
// entry; then a tenant and a job.
func TestDatabaseCreate(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	file := filepath.Join(t.TempDir(), "app.url")
	r := b.run(b.create("--app-url-file", file, "-o", "json")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "next: `headgate tenant add SLUG --database "+b.name+"`")
	var view struct{ ID, Name, Kind string }
	require.NoError(t, json.Unmarshal([]byte(r.out), &view))
	require.Equal(t, "shared", view.Kind)
	b.complete(file)

	examined(t, b.commandLine, cli.ExitOK)
	asApp(t, file, `CREATE TABLE orders (org_id bigint, n int)`)
	b.ok("database", "protect", b.name, "--table", "orders")
	b.ok("tenant", "add", "acme", "--database", b.name)
	w := b.start("worker", "--reports", t.TempDir())
	for _, args := range [][]string{
		{"headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT n FROM orders"}`},
		{"headgate.analyze", "--database", b.name}, {"headgate.vacuum", "--database", b.name},
	} {
		uid := enqueued(t, b.ok(append(append([]string{"job", "enqueue"}, args...), "-o", "json")...))
		last := b.env.Wait(uid)
		require.Equal(t, "succeeded", string(last.State), last.Message)
	}
	require.Equal(t, cli.ExitOK, w.end())
	require.Equal(t, "2", ask(t, b.name, `SELECT count(*) FROM pg_class WHERE relname IN ('notes', 'orders') AND reltuples >= 0`))

	b.fails(cli.ExitConflict, b.create(), "a database "+b.name+" is in the catalog already")
	b.fails(cli.ExitNotFound, b.abandon(), "nothing is to be abandoned")
}

// The application's address goes to standard output when that is asked for, and nowhere else.
func TestDatabaseCreateTellsTheApplicationsAddressOnce(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	r := b.run(b.create("--app-url-file", "-")...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	conn, err := pgx.Connect(t.Context(), strings.TrimSpace(r.out))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.NotContains(t, r.err, conn.Config().Password)
	require.Equal(t, "0", ask(t, b.central(), `SELECT count(*) FROM headgate.database_intents`))
	if !jobstest.Bounced() {
		_, err = address.Parse(strings.TrimSpace(r.out))
		require.NoError(t, err, "Headgate reads it too")
	}

	other := newBuilder(t)
	r = other.run(other.create()...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "nobody knows the password of "+other.app())
}
