package tenantdb_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const envAddress = "HEADGATE_TEST_ADDRESS" // an encoded address; makes this binary connect to it

// connectOnce is a process that connects with the environment it was given and
// says what the session looks like.
func connectOnce() error {
	ctx := context.Background()
	a, err := address.Decode([]byte(os.Getenv(envAddress)))
	if err != nil {
		return err
	}
	conn, err := tenantdb.Connect(ctx, tenantdb.Config{}, address.Socket, address.NoPooler, a)
	if err != nil {
		return err
	}
	var session string
	err = conn.QueryRow(ctx, `SELECT concat_ws(' | ', current_user, current_setting('search_path'), current_setting('application_name'), current_setting('timezone'))`).Scan(&session)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprint(os.Stdout, session)
	return conn.Close(ctx)
}

// A stranger's environment changes nothing about a tenant's connection. It is
// tried in another process, since an environment belongs to a whole process.
func TestTheEnvironmentIsIgnored(t *testing.T) {
	t.Parallel()
	db := jobstest.New(t).Database("acme", jobstest.DatabaseOpts{On: jobstest.Direct(t)})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envAddress+"="+string(address.Encode(db.Owner)),
		"PGHOST=/nowhere", "PGPORT=1", "PGUSER=mallory", "PGPASSWORD=wrong", "PGDATABASE=nowhere", "PGPASSFILE=/etc/passwd",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=/etc/passwd", "PGSSLCERT=/etc/passwd", "PGSSLKEY=/etc/shadow", "PGOPTIONS=-c search_path=evil",
		"PGTARGETSESSIONATTRS=standby", "PGAPPNAME=mallory", "PGTZ=Mars/Phobos", "PGREQUIREAUTH=none", "PGCHANNELBINDING=require",
		"PGMINPROTOCOLVERSION=9", "PGCONNECT_TIMEOUT=x")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, db.Owner.User+` | pg_catalog, pg_temp | headgate | UTC`, string(out))
}

// An address is refused when its name resolves to what its transport forbids.
func TestTheResolvedIPIsChecked(t *testing.T) {
	t.Parallel()
	for host, transport := range map[string]address.Transport{
		"localhost":       address.TLS, // loopback, over the transport for other machines
		"169.254.169.254": address.TLS, // a cloud's metadata
		"0.0.0.0":         address.PlainLoopback,
	} {
		_, err := tenantdb.Connect(context.Background(), tenantdb.Config{}, transport, address.NoPooler, address.Address{
			Host: host, Port: 5432, Database: "d", User: "u", Password: address.NewSecret("planted"),
		})
		require.Error(t, err, host)
		require.NotContains(t, err.Error(), "planted")
		require.NotContains(t, err.Error(), "refused\n", host)
		require.Regexp(t, `loopback|link-local|metadata|unspecified|not allowed|may not`, err.Error(), host)
	}
}

// What a new connection learns of the schema behind it: a program that is too old
// for it, a database without one, one of before the identity told its version,
// and one whose login may not ask, each by its class.
func TestSchemasThatDoNotFit(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env := jobstest.New(t)
	pools := tenantdb.New(tenantdb.Config{Logger: env.Log})
	t.Cleanup(pools.Close)
	for name, c := range map[string]struct {
		sql   string
		class jobs.Class
		says  string
	}{
		"newer": {`INSERT INTO headgate.migrations (version, name, serves) VALUES (99, 'far ahead', 99)`, jobs.ClassSchemaNewer, "upgrade headgate"},
		"older": {`
DROP FUNCTION headgate.fill_version, headgate.keep_version CASCADE;
ALTER TABLE headgate.identity DROP COLUMN version, DROP COLUMN serves;
DELETE FROM headgate.migrations WHERE version > 6`, jobs.ClassSchemaOlder, "has schema 6"},
		"none": {`DROP SCHEMA headgate CASCADE`, jobs.ClassWrongDatabase, "no Headgate schema"},
		"not-ours-to-ask": {`
REVOKE SELECT (database_id, version, serves) ON headgate.identity FROM headgate_job;
REVOKE EXECUTE ON FUNCTION headgate.whoami FROM headgate_job`, jobs.ClassNotPermitted, "GRANT headgate_job TO"},
		"no-member":   {`REVOKE USAGE ON SCHEMA headgate FROM headgate_job`, jobs.ClassNotPermitted, "GRANT headgate_job TO"},
		"no-connect":  {`DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC, headgate_job', current_database()); END $$`, jobs.ClassNotPermitted, "GRANT CONNECT ON DATABASE"},
		"no-identity": {`DELETE FROM headgate.identity`, jobs.ClassWrongDatabase, "no identity"},
	} {
		t.Run(name, func(t *testing.T) {
			db := env.Database(name, jobstest.DatabaseOpts{})
			_, err := db.Pool.Exec(ctx, c.sql)
			require.NoError(t, err)
			place, err := env.Catalog.ResolveDatabase(ctx, db.ID, jobs.LoginJob)
			require.NoError(t, err)
			err = pools.With(ctx, place, func(context.Context, *tenantdb.Conn) error { return nil })
			class, _ := tenantdb.Classify(err)
			require.Equal(t, c.class, class, "%v", err)
			require.ErrorContains(t, err, c.says)
		})
	}
}
