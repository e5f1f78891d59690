package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// living is a builder whose database is there already: an application's, with a role that
// owns it and a table.
func living(t *testing.T) (b *builder, owner string) {
	t.Helper()
	b = newBuilder(t)
	owner = b.name + "_saas"
	t.Cleanup(func() {
		admin(t, "postgres", fmt.Sprintf(`DROP DATABASE IF EXISTS "%s" WITH (FORCE)`, b.name), fmt.Sprintf(`DROP ROLE IF EXISTS "%s"`, owner))
	})
	admin(t, "postgres", fmt.Sprintf(`CREATE ROLE "%s"`, owner), fmt.Sprintf(`CREATE DATABASE "%s" OWNER "%s" TEMPLATE template0`, b.name, owner))
	admin(t, b.name, fmt.Sprintf(`SET ROLE "%s"; CREATE SCHEMA saas; CREATE TABLE saas.orders (org_id bigint); GRANT SELECT ON saas.orders TO PUBLIC`, owner))
	return b, owner
}

func (b *builder) adopt(more ...string) []string {
	return append([]string{"database", "adopt", b.name, "--server", jobstest.Server, "--kind", "shared"}, more...)
}

// tables are the application's own, with their rights.
func (b *builder) tables() string {
	b.t.Helper()
	return ask(b.t, b.name, `SELECT string_agg(c.oid::regclass || ' ' || coalesce(relacl::text, '-') || relowner::regrole || relrowsecurity, ',' ORDER BY 1) FROM pg_class c WHERE relnamespace = 'saas'::regnamespace`)
}

// An application's database gets its logins and its schema, and its tables stay as they are.
func TestDatabaseAdopt(t *testing.T) {
	t.Parallel()
	b, owner := living(t)
	tables := b.tables()
	said := b.fails(cli.ExitNotPermitted, b.adopt(), "may not grant rights on database", owner)
	_, advice, _ := strings.Cut(said, "run ")
	advice, _, _ = strings.Cut(advice, ", or")
	require.Equal(t, "db", b.here())
	admin(t, "postgres", advice)

	plan := b.ok(b.adopt("--dry-run")...)
	for _, sql := range []string{
		fmt.Sprintf(`CREATE ROLE "%s" LOGIN`, b.job()), fmt.Sprintf(`GRANT headgate_job TO "%s"`, b.job()), fmt.Sprintf(`GRANT "%s" TO "%s"`, owner, b.owner()),
		fmt.Sprintf(`SET LOCAL ROLE "%s"`, owner), fmt.Sprintf(`GRANT CONNECT ON DATABASE "%s" TO "%s", "%s"`, b.name, b.owner(), b.job()),
		"CREATE TABLE headgate.ledger", fmt.Sprintf(`REVOKE CREATE ON DATABASE "%s" FROM "%s"`, b.name, b.owner()),
	} {
		require.Contains(t, plan, sql)
	}
	require.NotContains(t, plan, "saas.orders")
	require.Equal(t, "db", b.here())

	b.ok(b.adopt()...)
	require.Equal(t, "N_headgate N_job db", b.here())
	require.Equal(t, tables, b.tables())
	require.Equal(t, "1 in the catalog, 0 unfinished", b.rows())
	require.Equal(t, `"`+b.owner()+`"`, ask(t, b.name, `SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'headgate'`))
	require.Equal(t, "false", ask(t, b.name, fmt.Sprintf(`SELECT datacl::text LIKE '%%%s"=%%C%%' FROM pg_database WHERE datname = current_database()`, b.owner())), "no right to make schemas of its own is left")
	examined(t, b.commandLine, cli.ExitOK)
	w := b.start("worker", "--reports", t.TempDir())
	last := b.env.Wait(enqueued(t, b.ok("job", "enqueue", "headgate.analyze", "--database", b.name, "-o", "json")))
	require.Equal(t, "succeeded", string(last.State), last.Message)
	require.Equal(t, cli.ExitOK, w.end())
	require.Equal(t, "true", ask(t, b.name, `SELECT reltuples >= 0 FROM pg_class WHERE relname = 'orders'`))

	b.fails(cli.ExitConflict, b.adopt(), "is in the catalog already")
	other, _ := setup(t)
	other.secrets = b.secrets
	other.with("HEADGATE_ADMIN_URL", b.server.address(b.admin, adminPassword, "postgres")).
		fails(cli.ExitConflict, []string{"database", "adopt", "again", "--dbname", b.name, "--server", jobstest.Server, "--kind", "shared"}, "has Headgate's schema already", "`headgate database add`")
}

// An adoption that was not finished is taken back, and the application notices nothing.
func TestDatabaseAdoptAbandoned(t *testing.T) {
	t.Parallel()
	b, owner := living(t)
	admin(t, "postgres", fmt.Sprintf(`GRANT "%s" TO "%s" WITH ADMIN OPTION`, owner, b.admin))
	tables, rights := b.tables(), ask(t, b.name, `SELECT datacl FROM pg_database WHERE datname = current_database()`)
	mend := b.stuck(b.adopt()...)
	require.Equal(t, "N_headgate N_job db", b.here())
	abandon := []string{"database", "adopt", b.name, "--abandon"}

	admin(t, b.name, fmt.Sprintf(`SET ROLE "%s"; CREATE TABLE saas.theirs ()`, b.owner()))
	b.fails(cli.ExitFailed, abandon, "own what Headgate did not make: table saas.theirs", "nothing was removed")
	admin(t, b.name, `DROP TABLE saas.theirs; GRANT USAGE ON SCHEMA headgate TO PUBLIC; CREATE VIEW saas.mine AS SELECT database_id FROM headgate.identity`)
	b.fails(cli.ExitFailed, abandon, "something of the application's stands on Headgate's schema", "view saas.mine")
	require.Equal(t, "N_headgate N_job db", b.here())
	require.NotEmpty(t, ask(t, b.name, `SELECT to_regclass('headgate.ledger')`))
	admin(t, b.name, `DROP VIEW saas.mine`)

	b.ok(abandon...)
	require.Equal(t, "db", b.here())
	require.Equal(t, nothing, b.rows())
	require.Equal(t, tables, b.tables())
	require.Empty(t, ask(t, b.name, `SELECT to_regnamespace('headgate')`))
	if rights == "" { // as Postgres writes the same
		rights = ask(t, b.name, `SELECT acldefault('d', datdba) FROM pg_database WHERE datname = current_database()`)
	}
	require.Equal(t, rights, ask(t, b.name, `SELECT datacl FROM pg_database WHERE datname = current_database()`))
	mend()
	b.ok(b.adopt()...)
}

// A database that a superuser owns gives the owner login no rights of that role.
func TestDatabaseAdoptInheritsNothingOfASuperuser(t *testing.T) {
	t.Parallel()
	b, _ := living(t)
	admin(t, "postgres", fmt.Sprintf(`ALTER DATABASE "%s" OWNER TO CURRENT_USER`, b.name), fmt.Sprintf(`ALTER ROLE "%s" SUPERUSER`, b.admin))
	r := b.run(b.adopt()...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "headgate.analyze")
	require.Equal(t, "0", ask(t, "postgres", fmt.Sprintf(`SELECT count(*) FROM pg_auth_members WHERE member = '"%s"'::regrole`, b.owner())))
}
