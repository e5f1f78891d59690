package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// things is the number of things in schema headgate of a database.
func (s *site) things(t *testing.T) string {
	t.Helper()
	return ask(t, s.dbname, `SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('headgate')`)
}

// A database whose application has a schema headgate of its own is not taken in: not by
// add, not by install, not by reattach. What the sentence says helps.
func TestASchemaOfTheApplicationIsNotTaken(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	app := s.dbname + "_app"
	t.Cleanup(func() { admin(t, "postgres", "DROP ROLE IF EXISTS "+app) }) // behind the site's own, which drops the database
	admin(t, s.dbname, "CREATE ROLE "+app, "CREATE SCHEMA headgate AUTHORIZATION "+app, fmt.Sprintf("GRANT ALL ON SCHEMA headgate TO %s", s.owner),
		fmt.Sprintf("GRANT %s TO %s", app, s.owner)) // as an owner login has the rights of the application's role
	t.Cleanup(func() { admin(t, "postgres", "DROP DATABASE IF EXISTS "+s.dbname+" WITH (FORCE)") })
	c = s.logins(c)
	says := fmt.Sprintf("schema headgate belongs to role %s and not to the owner login %s", app, s.owner)
	c.fails(cli.ExitConflict, addDB, says, "nothing was written", "ALTER SCHEMA headgate RENAME TO")
	c.fails(cli.ExitConflict, append(addDB, "--take-over"), says)
	require.Equal(t, "0", s.things(t))
	require.Equal(t, "[]\n", c.ok("database", "list", "-o", "json"))

	// The view is read with the rights of whoever looks: it must not be looked into.
	admin(t, s.dbname, "CREATE TABLE public.trap (n int)", "GRANT ALL ON public.trap TO PUBLIC", "SET ROLE "+app+`;
		CREATE FUNCTION headgate.spring() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.trap VALUES (1); RETURN gen_random_uuid(); END $$;
		CREATE VIEW headgate.identity AS SELECT headgate.spring() AS database_id`)
	c.fails(cli.ExitConflict, addDB, says)
	require.Equal(t, "0", ask(t, s.dbname, "SELECT count(*) FROM trap"))

	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated"})
	c.fails(cli.ExitConflict, []string{"database", "reattach", "acme-db", "--dbname", s.dbname, "--adopt"}, says)
	require.Equal(t, "0", ask(t, s.dbname, "SELECT count(*) FROM trap"), "the control below shows that it is a trap")
	ask(t, s.dbname, "SELECT count(database_id) FROM headgate.identity")
	require.Equal(t, "1", ask(t, s.dbname, "SELECT count(*) FROM trap"))

	admin(t, s.dbname, "ALTER SCHEMA headgate RENAME TO headgate_of_app")
	c.ok(append([]string{"database", "add", "other"}, addDB[3:]...)...)
	require.Equal(t, s.owner, ask(t, s.dbname, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'headgate'"))
}

// A schema that an administrator has made for the owner login is taken.
func TestASchemaMadeForTheOwnerLoginIsTaken(t *testing.T) {
	t.Parallel()
	c, _, s := prepared(t)
	admin(t, s.dbname, "CREATE SCHEMA headgate AUTHORIZATION "+s.owner)
	s.logins(c).ok(addDB...)
}

// doctor names what another role has got in schema headgate, and an installation refuses it,
// until what is advised is done.
func TestASchemaThatAnotherRoleGetsIsFound(t *testing.T) {
	t.Parallel()
	c, _, s := prepared(t)
	s.logins(c).ok(addDB...)
	app := s.dbname + "_app"
	t.Cleanup(func() { admin(t, "postgres", "DROP ROLE IF EXISTS "+app) })
	t.Cleanup(func() { admin(t, "postgres", "DROP DATABASE IF EXISTS "+s.dbname+" WITH (FORCE)") })
	admin(t, s.dbname, "CREATE ROLE "+app)
	for change, advised := range map[string]string{
		"ALTER SCHEMA headgate OWNER TO " + app:                                 "ALTER SCHEMA headgate OWNER TO " + s.owner,
		"ALTER TABLE headgate.fence OWNER TO " + app:                            "ALTER TABLE headgate.fence OWNER TO " + s.owner,
		"ALTER FUNCTION headgate.whoami OWNER TO " + app:                        "ALTER FUNCTION headgate.whoami() OWNER TO " + s.owner,
		"GRANT CREATE ON SCHEMA headgate TO " + app:                             "REVOKE CREATE ON SCHEMA headgate FROM " + app,
		"CREATE SEQUENCE headgate.s; ALTER SEQUENCE headgate.s OWNER TO " + app: "ALTER SEQUENCE headgate.s OWNER TO " + s.owner,
	} {
		admin(t, s.dbname, change)
		told := finds(t, examined(t, c, cli.ExitFailed), "database acme-db", "ownership", doctor.StateFail)
		require.Contains(t, told.Next, advised, change)
		r := c.run("database", "install", "acme-db")
		require.Equal(t, cli.ExitConflict, r.code, change)
		require.Contains(t, r.err, strings.Split(told.Says, ",")[0])
		admin(t, s.dbname, advised)
		for _, f := range examined(t, c, cli.ExitOK) {
			require.NotEqual(t, "ownership", f.Check, change)
		}
	}
	c.ok("database", "install", "acme-db")
}
