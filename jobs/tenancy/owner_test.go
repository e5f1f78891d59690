package tenancy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/impostor"
	"github.com/headgate/headgate/jobs/tenancy"
)

// The application put a view in the table's place between the look and the reading, and a
// function of the application ran with the rights of the owner's login.
func TestAViewThatTakesTheTablesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(1)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.organisations")
	for _, args := range []tenancy.Organisations{{Table: "public.organisations", ReportOnly: true}, plain} {
		app.Swap()
		uid := b.begin(args)
		app.Commit()
		last := b.Wait(uid)
		require.NotEqual(t, jobs.Succeeded, last.State)
		require.Contains(t, last.Message, `"public"."organisations" is not a table`)
		require.Empty(t, app.Ran())
		app.Back()
		require.NotContains(t, b.run(args), "too many")
	}
	app.Do("CREATE VIEW trap AS SELECT * FROM organisations WHERE spy(org_id); GRANT SELECT ON trap TO PUBLIC")
	b.exec("SET ROLE " + b.db.Owner.User + "; SELECT FROM trap; RESET ROLE")
	require.Equal(t, []string{b.db.Owner.User}, app.Ran(), "the control: a view's function runs with the reader's rights")
}

// Types are known by their schema: one of the application's own may have the name of one of
// Postgres's, and casts of the application.
func TestATypeWithANameOfPostgresIsNone(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(1)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.organisations")
	app.Do(`CREATE TYPE public.int8 AS (n pg_catalog.int4);
		CREATE FUNCTION public.text_of(public.int8) RETURNS text LANGUAGE sql AS 'SELECT public.spy(1)::text';
		CREATE CAST (public.int8 AS text) WITH FUNCTION public.text_of(public.int8);
		CREATE TABLE odd (org_id public.int8 PRIMARY KEY, name text NOT NULL); INSERT INTO odd VALUES (ROW(1), 'n'); GRANT ALL ON odd TO PUBLIC`)
	for _, args := range []tenancy.Organisations{{Table: "public.odd", ReportOnly: true}, {Table: "public.odd"}} {
		require.Contains(t, b.refused(args), `"public"."odd" has column org_id of type public.int8`)
		require.Empty(t, app.Ran())
	}
	b.exec("ALTER TYPE public.int8 OWNER TO " + b.db.Owner.User)
	require.Contains(t, b.refused(tenancy.Organisations{Table: "public.odd", ReportOnly: true}), `is of type public.int8, want smallint, integer or bigint`)
	require.Empty(t, app.Ran())
	b.exec("SET ROLE " + b.db.Owner.User + "; SELECT org_id::text FROM odd; RESET ROLE")
	require.Equal(t, []string{b.db.Owner.User}, app.Ran(), "the control: the cast runs with the reader's rights")
}

// A trigger of the application read the key that signs jobs.
func TestATriggerDoesNotRunWithTheOwnersRights(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(1)
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.organisations")
	app.Do(`CREATE TRIGGER spy BEFORE INSERT OR UPDATE OR DELETE ON organisations FOR EACH ROW EXECUTE FUNCTION spy_trigger()`)
	require.Contains(t, b.refused(plain), "trigger spy of public.organisations (public.spy_trigger())")
	require.Contains(t, b.run(tenancy.Organisations{Table: "public.organisations", ReportOnly: true}), "missing 1", "a report writes nothing")
	require.Empty(t, app.Ran())
	_, err := b.db.Pool.Exec(context.Background(), `INSERT INTO headgate.protected (object, mode, reason) VALUES ('public.spy_trigger()', 'function', 'read it')`)
	require.NoError(t, err)
	require.Contains(t, b.run(plain), "added 1")
	require.Equal(t, []string{b.db.Owner.User}, app.Ran(), "the control")
}

// What refers to a row too many is looked for in a table of the application as well.
func TestAViewThatTakesTheReferringTablesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.exec("INSERT INTO organisations VALUES (7, 'Nobody')")
	app := impostor.New(t, b.db.Pool, b.db.Owner.User, "public.orders")
	app.Do("CREATE INDEX odd ON orders ((n + 1))")
	app.Swap()
	uid := b.begin(tenancy.Organisations{Table: "public.organisations", Remove: true})
	app.Commit()
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "removed 0")
	require.Empty(t, app.Ran())
}
