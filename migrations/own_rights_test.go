package migrations_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

// selectAllRights is every right on schema headgate and what is in it, one a line.
const selectAllRights = `
SELECT array_agg(right_text ORDER BY right_text) FROM (
    SELECT format('%s %s %s %s', what, CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN owner THEN 'OWNER' ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable)
    FROM (SELECT 'schema' AS what, nspowner AS owner, coalesce(nspacl, acldefault('n', nspowner)) AS acl FROM pg_namespace WHERE nspname = 'headgate'
          UNION ALL SELECT c.relname, relowner, coalesce(relacl, acldefault('r', relowner)) FROM pg_class c WHERE relnamespace = 'headgate'::regnamespace AND relkind = 'r'
          UNION ALL SELECT c.relname || '.' || t.attname, relowner, attacl FROM pg_class c JOIN pg_attribute t ON attrelid = c.oid WHERE relnamespace = 'headgate'::regnamespace
          UNION ALL SELECT p.oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p WHERE pronamespace = 'headgate'::regnamespace) o
    CROSS JOIN LATERAL aclexplode(acl) a) r (right_text)`

// ownDatabase is an empty database with an owner, in whose name the connection works.
func ownDatabase(t *testing.T) (conn *pgx.Conn, owner string) {
	t.Helper()
	ctx := context.Background()
	name := jobstest.EmptyDatabase(t)
	conn, err := pgx.Connect(ctx, jobstest.ServerURL(t, name))
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(ctx, fmt.Sprintf(`RESET ROLE; DROP OWNED BY %[1]s_owner CASCADE; DROP OWNED BY %[1]s_other CASCADE; ALTER DATABASE %[1]s OWNER TO CURRENT_USER; DROP ROLE %[1]s_owner, %[1]s_other`, name))
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	_, err = conn.Exec(ctx, migrations.ServerSQL+fmt.Sprintf(`; CREATE ROLE %[1]s_owner; CREATE ROLE %[1]s_other; ALTER DATABASE %[1]s OWNER TO %[1]s_owner; SET ROLE %[1]s_owner`, name))
	require.NoError(t, err)
	return conn, name
}

func rightsOf(t *testing.T, conn *pgx.Conn) (all []string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), selectAllRights).Scan(&all))
	require.NotEmpty(t, all)
	return all
}

// What default privileges give on new tables, functions and schemas, or take from their
// owner, makes no difference to Headgate's own.
func TestDefaultPrivilegesGiveNothingOfHeadgates(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	clean, _ := ownDatabase(t)
	_, err := migrations.UpTenant(ctx, clean, identity(uuid.NewString()), nil)
	require.NoError(t, err)
	want := rightsOf(t, clean)
	require.NotContains(t, fmt.Sprint(want), "PUBLIC")

	for name, sql := range map[string]string{
		"to PUBLIC":                  `GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC`,
		"to a role, with grant":      `GRANT SELECT, UPDATE ON TABLES TO %[1]s_other WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO %[1]s_other WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT USAGE, CREATE ON SCHEMAS TO %[1]s_other`,
		"to the group of job logins": `GRANT ALL ON TABLES TO headgate_job WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO headgate_job WITH GRANT OPTION; ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO headgate_job`,
		"less to the owner itself":   `REVOKE DELETE, TRUNCATE ON TABLES FROM %[1]s_owner; ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM %[1]s_owner; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, owner := ownDatabase(t)
			_, err := conn.Exec(ctx, fmt.Sprintf(`ALTER DEFAULT PRIVILEGES `+sql+`/* %[1]s */`, owner))
			require.NoError(t, err)
			id := identity(uuid.NewString())
			_, err = migrations.UpTenant(ctx, conn, id, nil)
			require.NoError(t, err)
			require.Equal(t, want, rightsOf(t, conn))
			_, err = conn.Exec(ctx, `CREATE TABLE control ()`)
			require.NoError(t, err)
			var given bool
			require.NoError(t, conn.QueryRow(ctx, `SELECT relacl IS NOT NULL FROM pg_class WHERE relname = 'control'`).Scan(&given))
			require.True(t, given, "the default privileges are in force, also after the installation")

			_, err = conn.Exec(ctx, fmt.Sprintf(`GRANT SELECT ON headgate.ledger TO %s_other`, owner)) // a person's decision
			require.NoError(t, err)
			decided := rightsOf(t, conn)
			_, err = migrations.UpTenant(ctx, conn, id, nil)
			require.NoError(t, err)
			require.Equal(t, decided, rightsOf(t, conn))
		})
	}
}

// An upgrade asks for no right to make schemas.
func TestUpTenantNeedsCreateOnlyOnce(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn, owner := ownDatabase(t)
	id := identity(uuid.NewString())
	_, err := migrations.UpTenant(ctx, conn, id, nil)
	require.NoError(t, err)
	_, err = conn.Exec(ctx, fmt.Sprintf(`REVOKE CREATE ON DATABASE %[1]s FROM %[1]s_owner`, owner))
	require.NoError(t, err)
	_, err = migrations.UpTenant(ctx, conn, id, nil)
	require.NoError(t, err)
}

// What a person is shown is what is run.
func TestTenantSQLIsWhatUpTenantRuns(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	done, _ := ownDatabase(t)
	id := identity(uuid.NewString())
	_, err := migrations.UpTenant(ctx, done, id, nil)
	require.NoError(t, err)
	shown, _ := ownDatabase(t)
	_, err = shown.Exec(ctx, migrations.TenantSQL(id.DatabaseID))
	require.NoError(t, err)
	require.Equal(t, rightsOf(t, done), rightsOf(t, shown))
	applied, err := migrations.UpTenant(ctx, shown, id, nil)
	require.NoError(t, err)
	require.Empty(t, applied)
}
