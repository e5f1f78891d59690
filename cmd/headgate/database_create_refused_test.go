package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/provision"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const nothing = "0 in the catalog, 0 unfinished"

// stuck leaves a create unfinished behind its last step: the catalog takes no entry until
// mend is called.
func (b *builder) stuck(args ...string) (mend func()) {
	b.t.Helper()
	admin(b.t, b.central(), `
		CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$`,
		`CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON headgate.databases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()`)
	b.fails(cli.ExitFailed, args, "the disk is full", "`headgate database "+args[1]+" "+b.name+"` goes on, and with --abandon removes it again")
	require.Equal(b.t, "0 in the catalog, 1 unfinished", b.rows())
	return func() { admin(b.t, b.central(), `DROP TRIGGER fail ON headgate.databases`) }
}

// What was there before is left alone, whatever its name.
func TestDatabaseCreateTouchesNothingForeign(t *testing.T) {
	t.Parallel()
	for what, sql := range map[string][2]string{
		"role":     {`CREATE ROLE "%s_job" LOGIN PASSWORD 'theirs'`, `role "%s_job" exists already`},
		"database": {`CREATE DATABASE "%s" TEMPLATE template0`, `database "%s" exists already`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBuilder(t)
			admin(t, "postgres", fmt.Sprintf(sql[0], b.name))
			there := b.here()
			b.fails(cli.ExitConflict, b.create(), fmt.Sprintf(sql[1], b.name), "this command did not make it, so it is left alone")
			b.fails(cli.ExitNotFound, b.abandon(), "nothing is to be abandoned")
			require.Equal(t, there, b.here())
			require.Equal(t, nothing, b.rows())
		})
	}
}

// A role or database that somebody has put in the place of the intent's own is left too.
func TestDatabaseAbandonKnowsItsOwn(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	b.stuck(b.create()...)
	admin(t, "postgres", fmt.Sprintf(`ALTER DATABASE "%s" OWNER TO CURRENT_USER`, b.name))
	admin(t, b.name, fmt.Sprintf(`DROP OWNED BY "%[1]s_job"; DROP ROLE "%[1]s_job"; CREATE ROLE "%[1]s_job"; COMMENT ON ROLE "%[1]s_job" IS 'theirs'; DROP OWNED BY "%[1]s_headgate"`, b.name))
	b.fails(cli.ExitConflict, b.create(), `role "`+b.job()+`" exists already`)
	r := b.run(b.abandon()...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "left, because this command did not make it: database "+b.name)
	require.Contains(t, r.err, "left, because this command did not make it: role "+b.job())
	require.Equal(t, "N_job db", b.here())
	require.Equal(t, nothing, b.rows())
}

// alone waits until the sessions of the test itself have left the database, which a server
// ends a little later than their clients.
func (b *builder) alone() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		return ask(b.t, "postgres", `SELECT count(*) FROM pg_stat_activity WHERE usesysid IS NOT NULL AND datname = '`+b.name+`'`) == "0"
	}, 30*time.Second, 5*time.Millisecond)
}

// A database goes only while nothing is in it that Headgate did not make, and nobody.
func TestDatabaseAbandonLeavesWhatIsSomebodyElses(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	mend := b.stuck(b.create()...)
	for sql, says := range map[string][2]string{
		`CREATE TABLE public.orders (n int)`:                                            {`DROP TABLE public.orders`, "table public.orders"},
		`CREATE SCHEMA theirs`:                                                          {`DROP SCHEMA theirs`, "schema theirs"},
		`CREATE TABLE headgate.theirs ()`:                                               {`DROP TABLE headgate.theirs`, "table headgate.theirs"},
		`CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`:                    {`DROP FUNCTION f()`, "function public.f()"},
		`CREATE TYPE mood AS ENUM ('good')`:                                             {`DROP TYPE mood`, "type public.mood"},
		`SELECT lo_create(4711)`:                                                        {`SELECT lo_unlink(4711)`, "large object 4711"},
		`CREATE VIEW v AS SELECT 1 AS n; CREATE SEQUENCE s`:                             {`DROP VIEW v; DROP SEQUENCE s`, "sequence public.s, view public.v"},
		`CREATE COLLATION theirs (locale = 'C')`:                                        {`DROP COLLATION theirs`, "collation public.theirs"},
		`CREATE OPERATOR public.=== (leftarg = int, rightarg = int, function = int4eq)`: {`DROP OPERATOR public.=== (int, int)`, "operator public.===(integer,integer)"},
		`CREATE FOREIGN DATA WRAPPER theirs`:                                            {`DROP FOREIGN DATA WRAPPER theirs`, "foreign-data wrapper theirs"},
		`CREATE TEXT SEARCH CONFIGURATION theirs (copy = simple)`:                       {`DROP TEXT SEARCH CONFIGURATION theirs`, "text search configuration public.theirs"},
		`CREATE PUBLICATION everything`:                                                 {`DROP PUBLICATION everything`, "publication everything"},
		`CREATE MATERIALIZED VIEW m AS SELECT 1 AS n; CREATE INDEX mi ON m(n)`:          {`DROP MATERIALIZED VIEW m`, "table public.m"},
	} {
		admin(t, b.name, sql)
		b.alone()
		b.fails(cli.ExitFailed, b.abandon(), "database "+b.name+" has what Headgate did not make: ", says[1], "nothing was removed")
		require.Equal(t, allHere, b.here())
		require.Equal(t, "0 in the catalog, 1 unfinished", b.rows())
		admin(t, b.name, says[0])
	}
	conn, err := pgx.Connect(t.Context(), jobstest.ServerURL(t, b.name))
	require.NoError(t, err)
	b.fails(cli.ExitFailed, b.abandon(), "1 session is connected to database "+b.name, "nothing was removed")
	require.NoError(t, conn.Close(t.Context()))
	b.alone()

	dbname, _ := emptyDatabase(t)
	admin(t, dbname, fmt.Sprintf(`CREATE TABLE theirs (); GRANT SELECT ON theirs TO "%s"`, b.job()))
	b.fails(cli.ExitFailed, b.abandon(), "a role that this intent made is in use", "1 object in database "+dbname)
	admin(t, dbname, `DROP TABLE theirs`)
	b.ok(b.abandon()...)
	require.Empty(t, b.here())
	require.Equal(t, nothing, b.rows())
	mend()
	b.ok(b.create()...)
}

// What was begun goes on with what it was begun with, and everybody is told of it.
func TestDatabaseCreateGoesOn(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	mend := b.stuck(b.create()...)
	r := b.run("database", "list")
	require.Contains(t, r.err, "unfinished: "+b.name+" on server testserver")
	require.Contains(t, ask(t, b.central(), `SELECT error FROM headgate.database_intents`), "the disk is full")
	b.fails(cli.ExitUsage, []string{"database", "create", b.name, "--kind", "dedicated"}, "--kind shared --dbname "+b.name, "run that again, or that with --abandon")
	b.fails(cli.ExitUsage, []string{"database", "adopt", b.name}, "`headgate database create "+b.name)
	b.fails(cli.ExitConflict, []string{"database", "create", "other", "--server", jobstest.Server, "--kind", "shared", "--dbname", b.name}, "is being made already, as "+b.name)
	add := b.with("HEADGATE_JOB_URL", b.server.address(b.job(), "planted", b.name)).with("HEADGATE_OWNER_URL", b.server.address(b.owner(), "planted", b.name))
	add.fails(cli.ExitNotPermitted, []string{"database", "add", b.name, "--server", jobstest.Server, "--kind", "shared"}, "the server refuses it")

	foreign := b.with("HEADGATE_KEY", catalog.NewKey("other").Reveal())
	foreign.fails(cli.ExitUsage, []string{"database", "create", b.name}, "which the ring (other) lacks", "--abandon")
	mend()
	require.Contains(t, b.run("doctor", "--databases", "0", "-o", "json").out, `"key test"`, "the key is in use")
	b.ok("database", "create", b.name)
	require.Equal(t, "1 in the catalog, 0 unfinished", b.rows())

	other := newBuilder(t)
	other.stuck(other.create()...)
	other.with("HEADGATE_KEY", "").ok(other.abandon()...)
	require.Empty(t, other.here(), "no key is needed to remove")
}

// Whatever can be wrong is found before anything is written, and said with the next step.
func TestDatabaseCreateRefuses(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	there := filepath.Join(t.TempDir(), "there")
	require.NoError(t, os.WriteFile(there, []byte("mine"), 0o600))
	for _, test := range []struct {
		code int
		args []string
		says string
	}{
		{cli.ExitUsage, []string{"database", "create", "headgate", "--server", jobstest.Server, "--kind", "shared"}, "which is the group of all job logins"},
		{cli.ExitUsage, []string{"database", "create", "pg", "--server", jobstest.Server, "--kind", "shared"}, "would begin with pg_"},
		{cli.ExitUsage, []string{"database", "create", strings.Repeat("a", 55), "--server", jobstest.Server, "--kind", "shared"}, "it must match [a-z][a-z0-9-]{0,53}"},
		{cli.ExitUsage, []string{"database", "create", "A_B", "--server", jobstest.Server, "--kind", "shared"}, `name "A_B"`},
		{cli.ExitUsage, []string{"database", "create", b.name, "--kind", "shared"}, "--server is missing"},
		{cli.ExitUsage, []string{"database", "create", b.name, "--server", jobstest.Server}, "--kind is missing"},
		{cli.ExitUsage, []string{"database", "create", b.name, "--server", jobstest.Server, "--kind", "both"}, "is not one of shared, dedicated"},
		{cli.ExitUsage, b.create("--dbname", "a=b"), `a name may not hold "="`},
		{cli.ExitUsage, b.create("--dry-run", "--abandon"), "--abandon goes with neither"},
		{cli.ExitUsage, b.create("--app-url-file", there), "exists already: remove it, or name another"},
		{cli.ExitUsage, b.create("--app-url-file", filepath.Join(there, "x")), "cannot be made"},
		{cli.ExitUsage, b.create("--app-url-file", filepath.Dir(there)), "is no regular file"},
		{cli.ExitNotFound, []string{"database", "create", b.name, "--server", "testservr", "--kind", "shared"}, "did you mean testserver?"},
		{cli.ExitUsage, []string{"database", "adopt", b.name, "--server", jobstest.Server, "--kind", "shared"}, "server testserver has no database"},
	} {
		b.fails(test.code, test.args, test.says)
		require.Equal(t, nothing, b.rows())
		require.Empty(t, b.here())
	}
	b.with("HEADGATE_ADMIN_URL", "").fails(cli.ExitUsage, b.create(), "set HEADGATE_ADMIN_URL, or give --admin-url-file FILE")
	b.with("HEADGATE_ADMIN_URL", b.server.address(b.admin, "planted-wrong", "postgres")).fails(cli.ExitNotPermitted, b.create(), "the administrator's login", "the server refuses it")
	text, err := os.ReadFile(there)
	require.NoError(t, err)
	require.Equal(t, "mine", string(text))
}

// An administrator who lacks a right is told which, and what is told helps.
func TestDatabaseCreateSaysWhatTheAdministratorLacks(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	admin(t, "postgres", fmt.Sprintf(`ALTER ROLE "%s" NOCREATEDB NOCREATEROLE`, b.admin), fmt.Sprintf(`REVOKE headgate_job FROM "%s"`, b.admin))
	advice := func(args []string) string {
		said := b.fails(cli.ExitNotPermitted, args, "the administrator's login")
		_, sql, found := strings.Cut(said, " run ")
		require.True(t, found, said)
		sql, _, _ = strings.Cut(sql, ", or")
		return sql
	}
	admin(t, "postgres", advice(b.create()))
	admin(t, "postgres", fmt.Sprintf(`ALTER ROLE "%s" NOCREATEDB`, b.admin))
	admin(t, "postgres", advice(b.create()))
	if ask(t, "postgres", `SELECT current_setting('server_version_num')::int >= 160000`) == "true" {
		require.Equal(t, nothing, b.rows())
		admin(t, "postgres", advice(b.create()))
	}
	b.ok(b.create()...)
}

// What --dry-run prints does the same when it is typed by hand.
func TestDatabaseCreateDryRun(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	dry := &commandLine{t: t}
	text := dry.ok(b.create("--dry-run")...)
	require.Contains(t, text, "-- as administrator, in any database\n")
	require.Contains(t, text, fmt.Sprintf("CREATE ROLE %q LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '…';", b.job()))
	require.Contains(t, text, "CREATE TABLE headgate.ledger")
	var plan []provision.Statement
	require.NoError(t, json.Unmarshal([]byte(dry.ok(b.create("--dry-run", "-o", "json")...)), &plan))
	require.Empty(t, b.here())

	var conn *pgx.Conn
	var at provision.Statement
	for _, s := range plan {
		if conn == nil || s.As != at.As || s.Database != at.Database {
			user, password := s.As, "planted-by-hand"
			if user == "administrator" {
				user, password = b.admin, adminPassword
			}
			cfg, err := pgx.ParseConfig(jobstest.ServerURL(t, "postgres"))
			require.NoError(t, err)
			cfg.User, cfg.Password = user, password
			if s.Database != "" {
				cfg.Database = s.Database
			}
			next, err := pgx.ConnectConfig(t.Context(), cfg)
			require.NoError(t, err, s)
			defer func() { _ = next.Close(context.Background()) }()
			conn = next
		}
		at = s
		sql := strings.ReplaceAll(s.SQL, "PASSWORD '…'", "PASSWORD 'planted-by-hand'")
		_, err := conn.Exec(t.Context(), strings.ReplaceAll(sql, "(database_id) VALUES ('…')", "(database_id) VALUES ('"+uuid.NewString()+"')"))
		require.NoError(t, err, s.SQL)
	}
	require.Equal(t, allHere, b.here())
	require.Equal(t, b.owner(), ask(t, b.name, `SELECT tableowner FROM pg_tables WHERE tablename = 'ledger'`))
	require.Equal(t, b.app(), ask(t, b.name, `SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()`))
}

// Two who make the same database at once: one does, the other waits and hears of it.
func TestDatabaseCreateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	results := make(chan result, 2)
	for range 2 {
		go func() { results <- b.run(b.create()...) }()
	}
	one, two := <-results, <-results
	if one.code != cli.ExitOK {
		one, two = two, one
	}
	require.Equal(t, cli.ExitOK, one.code, one.err)
	require.Equal(t, cli.ExitConflict, two.code, two.err)
	require.Contains(t, two.err, "is in the catalog already")
	require.Equal(t, allHere, b.here())
}
