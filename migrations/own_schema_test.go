package migrations_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/migrations"
)

// asOther does something as another role of the database, and works as the owner again.
func asOther(t *testing.T, conn *pgx.Conn, name, sql string) {
	t.Helper()
	run(t, conn, fmt.Sprintf(`RESET ROLE; GRANT CREATE ON DATABASE %[1]s TO %[1]s_other; SET ROLE %[1]s_other; `+sql+`; SET ROLE %[1]s_owner/* %[1]s */`, name))
}

// asRoot does something as the administrator, and works as the owner again.
func asRoot(t *testing.T, conn *pgx.Conn, name, sql string) {
	t.Helper()
	run(t, conn, fmt.Sprintf(`RESET ROLE; `+sql+`; SET ROLE %[1]s_owner/* %[1]s */`, name))
}

// A schema headgate that another role has a hand in is refused, and nothing is written there.
// What the sentence advises makes the installation succeed.
func TestASchemaOfOthersIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, c := range map[string]struct{ made, says, next, mended string }{
		"the application's schema": {
			`RESET ROLE; GRANT %[1]s_other TO %[1]s_owner; SET ROLE %[1]s_other; CREATE SCHEMA headgate; GRANT CREATE, USAGE ON SCHEMA headgate TO %[1]s_owner`,
			`schema headgate belongs to role %[1]s_other and not to the owner login %[1]s_owner`, `ALTER SCHEMA headgate RENAME TO`, `ALTER SCHEMA headgate RENAME TO headgate_of_app`,
		},
		"an administrator's schema": {
			`RESET ROLE; CREATE SCHEMA headgate; GRANT CREATE, USAGE ON SCHEMA headgate TO %[1]s_owner`,
			`schema headgate belongs to role `, `ALTER SCHEMA headgate OWNER TO %[1]s_owner`, `ALTER SCHEMA headgate OWNER TO %[1]s_owner`,
		},
		"a table": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; GRANT CREATE, USAGE ON SCHEMA headgate TO %[1]s_other; SET ROLE %[1]s_other; CREATE TABLE headgate.identity (database_id uuid); RESET ROLE; REVOKE CREATE ON SCHEMA headgate FROM %[1]s_other`,
			`table headgate.identity belongs to role %[1]s_other`, `move it away or drop it`, `DROP TABLE headgate.identity`,
		},
		"a view of an installed look": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE VIEW headgate.migrations AS SELECT 15 AS version, 'x' AS name, 1 AS serves; ALTER VIEW headgate.migrations OWNER TO %[1]s_other`,
			`view headgate.migrations belongs to role %[1]s_other`, `move it away or drop it`, `ALTER VIEW headgate.migrations SET SCHEMA public`,
		},
		"a function": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE FUNCTION headgate.begin_job(text) RETURNS text LANGUAGE sql AS 'SELECT $1'; ALTER FUNCTION headgate.begin_job OWNER TO %[1]s_other`,
			`function headgate.begin_job(pg_catalog.text) belongs to role %[1]s_other`, `ALTER FUNCTION headgate.begin_job(pg_catalog.text) OWNER TO %[1]s_owner`, `DROP FUNCTION headgate.begin_job(text)`,
		},
		"a type": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE TYPE headgate.mood AS ENUM ('good'); ALTER TYPE headgate.mood OWNER TO %[1]s_other`,
			`type headgate.mood belongs to role %[1]s_other`, `ALTER TYPE headgate.mood OWNER TO %[1]s_owner`, `ALTER TYPE headgate.mood OWNER TO %[1]s_owner`,
		},
		"a sequence": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE SEQUENCE headgate.numbers; ALTER SEQUENCE headgate.numbers OWNER TO %[1]s_other`,
			`sequence headgate.numbers belongs to role %[1]s_other`, `ALTER SEQUENCE headgate.numbers OWNER TO %[1]s_owner`, `ALTER SEQUENCE headgate.numbers OWNER TO %[1]s_owner`,
		},
		"an operator": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE OPERATOR headgate.=== (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8eq)`,
			`operator headgate.===(bigint,bigint) belongs to role `, `OWNER TO %[1]s_owner`, `ALTER OPERATOR headgate.===(bigint,bigint) OWNER TO %[1]s_owner`,
		},
		"default privileges of another role": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; ALTER DEFAULT PRIVILEGES FOR ROLE %[1]s_other IN SCHEMA headgate GRANT SELECT ON TABLES TO PUBLIC`,
			`default acl for role %[1]s_other in schema headgate on tables belongs to role %[1]s_other`, `REVOKE ALL ON`, `ALTER DEFAULT PRIVILEGES FOR ROLE %[1]s_other IN SCHEMA headgate REVOKE ALL ON TABLES FROM PUBLIC`,
		},
		"an extension": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; CREATE EXTENSION dict_int SCHEMA headgate`,
			`extension dict_int belongs to role `, `ALTER EXTENSION dict_int SET SCHEMA public`, `ALTER EXTENSION dict_int SET SCHEMA public`,
		},
		"a right to make things there": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; GRANT CREATE ON SCHEMA headgate TO %[1]s_other`,
			`%[1]s_other may make functions and tables in schema headgate`, `REVOKE CREATE ON SCHEMA headgate FROM %[1]s_other`, `REVOKE CREATE ON SCHEMA headgate FROM %[1]s_other`,
		},
		"everybody's right to make things there": {
			`RESET ROLE; CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; GRANT ALL ON SCHEMA headgate TO PUBLIC`,
			`PUBLIC may make functions and tables in schema headgate`, `REVOKE CREATE ON SCHEMA headgate FROM PUBLIC`, `REVOKE CREATE ON SCHEMA headgate FROM PUBLIC`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, database := ownDatabase(t)
			as := func(sql string) string { return fmt.Sprintf(sql+`/* %[1]s */`, database) }
			text := func(s string) string { return fmt.Sprintf(s+"%.0[1]s", database) }
			asOther(t, conn, database, c.made)
			const inside = `SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = 'headgate'::regnamespace`
			before := value[int](t, conn, inside)

			_, err := migrations.UpTenant(ctx, conn, identity(uuid.NewString()), nil)
			require.ErrorIs(t, err, migrations.ErrForeignSchema)
			require.ErrorContains(t, err, text(c.says))
			require.ErrorContains(t, err, text(c.next))
			require.ErrorContains(t, err, "nothing was written")
			require.Equal(t, before, value[int](t, conn, inside))

			asRoot(t, conn, database, as(c.mended))
			_, err = migrations.UpTenant(ctx, conn, identity(uuid.NewString()), nil)
			require.NoError(t, err)
			things, err := migrations.ForeignThings(ctx, conn, "")
			require.NoError(t, err)
			require.Empty(t, things)
		})
	}
}

// The damage without the refusal: the owner of the schema, with no right on Headgate's table
// and function, takes the function away and puts another in its place.
func TestTheOwnerOfTheSchemaControlsWhatIsInIt(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn, database := ownDatabase(t)
	id := identity(uuid.NewString())
	_, err := migrations.UpTenant(ctx, conn, id, nil)
	require.NoError(t, err)
	asRoot(t, conn, database, `ALTER SCHEMA headgate OWNER TO %[1]s_other`)
	things, err := migrations.ForeignThings(ctx, conn, "")
	require.NoError(t, err)
	require.Len(t, things, 1)
	require.Contains(t, things[0].Says, "schema headgate belongs to role "+database+"_other")

	asOther(t, conn, database, `DROP FUNCTION headgate.whoami; GRANT USAGE ON SCHEMA headgate TO PUBLIC; CREATE FUNCTION headgate.whoami(OUT database_id uuid, OUT version int, OUT serves int) LANGUAGE sql AS 'SELECT NULL::uuid, 99, 1'`)
	require.Equal(t, 99, value[int](t, conn, `SELECT version FROM headgate.whoami()`), "the control: the damage is done")
	asRoot(t, conn, database, `SELECT 1`)
	things, err = migrations.ForeignThings(ctx, conn, "")
	require.NoError(t, err)
	require.Len(t, things, 2)

	_, err = migrations.UpTenant(ctx, conn, id, nil)
	require.ErrorIs(t, err, migrations.ErrForeignSchema)
	require.ErrorContains(t, err, "(and 1 more)")
	require.ErrorIs(t, migrations.Succeed(ctx, conn, id.DatabaseID, identity(uuid.NewString())), migrations.ErrForeignSchema)
	run(t, conn, `RESET ROLE`)
	require.Equal(t, id.DatabaseID, value[string](t, conn, `SELECT database_id::text FROM headgate.identity`), "nothing was written")
}

// A schema that an administrator has made for the owner login is the login's, whatever others
// may read there.
func TestASchemaMadeForTheOwnerIsTaken(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn, database := ownDatabase(t)
	asRoot(t, conn, database, `CREATE SCHEMA headgate AUTHORIZATION %[1]s_owner; GRANT USAGE ON SCHEMA headgate TO PUBLIC; REVOKE CREATE ON DATABASE %[1]s FROM %[1]s_owner`)
	_, err := migrations.UpTenant(ctx, conn, identity(uuid.NewString()), nil)
	require.NoError(t, err)
}
