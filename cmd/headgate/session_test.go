package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

// A database whose logins' settings are hostile is added all the same; what its jobs
// must know of its encoding is said, there and by doctor.
func TestDatabaseAddWhateverItsSettings(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	admin(t, "postgres", migrations.ServerSQL)
	shortest := "1ms"
	if jobstest.Bounced() {
		shortest = "500ms" // what pins a session there is a statement itself
	}
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		s := newSite(t, c)
		s.grant(t)
		admin(t, "postgres", "DROP DATABASE "+s.dbname,
			fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0 ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C'", s.dbname, s.owner, encoding))
		for _, setting := range []string{
			"statement_timeout = '" + shortest + "'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '" + shortest + "'", "standard_conforming_strings = off",
			"default_transaction_isolation = serializable", "DateStyle = SQL, DMY", "client_encoding = LATIN1", "row_security = off", "search_path = ''",
		} {
			admin(t, "postgres", "ALTER ROLE "+s.owner+" SET "+setting, "ALTER ROLE "+s.job+" SET "+setting)
		}
		name := map[string]string{"LATIN1": "latin", "SQL_ASCII": "ascii"}[encoding]
		r := s.logins(c).run("database", "add", name, "--server", jobstest.Server, "--kind", "dedicated")
		require.Zero(t, r.code, r.err)
		require.Contains(t, r.err, "warning: the database's encoding is "+encoding)
	}
	found := examined(t, c, cli.ExitOK)
	require.Contains(t, finds(t, found, "database latin", "encoding", doctor.StateWarn).Says, "refuses what LATIN1 lacks")
	require.Contains(t, finds(t, found, "database ascii", "encoding", doctor.StateWarn).Says, "checks none of them")
}

// The two defaults that Headgate leaves as they are keep jobs from their work, and
// doctor names them.
func TestDoctorNamesTheBrakes(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	for setting, says := range map[string]string{
		"default_transaction_read_only = on": "jobs that write wait", "session_replication_role = replica": "no trigger fires",
	} {
		db := env.Database(setting[:7], jobstest.DatabaseOpts{On: jobstest.Direct(t)})
		admin(t, "postgres", "ALTER ROLE "+db.Job.User+" SET "+setting)
		require.Contains(t, finds(t, examined(t, c, cli.ExitFailed), "database "+setting[:7], "settings", doctor.StateFail).Says, says)
		admin(t, "postgres", "ALTER ROLE "+db.Job.User+" RESET ALL")
	}
	examined(t, c, cli.ExitOK)
}

// The whole command line works at a centre whose login has hostile settings, and says
// where the queue is when a login does not find it.
func TestTheCentreWhateverItsLogin(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("one", jobstest.DatabaseOpts{})
	env.Tenant("acme", "one")
	c = c.with("DATABASE_URL", env.URL).with("HEADGATE_CENTRAL_POOLER", "none") // past a pooler, whose sessions nobody can set
	database := env.Pool.Config().ConnConfig.Database
	for _, setting := range []string{
		"statement_timeout = '1ms'", "lock_timeout = '1ms'", "default_transaction_isolation = serializable", "DateStyle = SQL, DMY",
		"client_encoding = LATIN1", "standard_conforming_strings = off", "bytea_output = escape", "IntervalStyle = sql_standard",
	} {
		admin(t, "postgres", "ALTER DATABASE "+database+" SET "+setting)
	}
	c.ok("migrate", "up")
	var job struct{ UID string }
	require.NoError(t, json.Unmarshal([]byte(c.ok("job", "enqueue", "note", "--tenant", "acme", "--args", `{"text":"Zoë"}`, "-o", "json")), &job))
	require.Contains(t, c.ok("job", "show", job.UID), "Zoë")
	require.Contains(t, c.ok("job", "list"), "note")
	c.ok("job", "cancel", job.UID)
	c.ok("doctor")

	admin(t, "postgres", "ALTER DATABASE "+database+" RESET ALL")
	admin(t, database, "CREATE SCHEMA app", "CREATE TABLE app.river_job (LIKE public.river_job)")
	admin(t, "postgres", "ALTER DATABASE "+database+" SET search_path = app, public")
	for _, args := range [][]string{{"migrate", "up"}, {"job", "list"}, {"serve"}, {"worker"}, {"job", "enqueue", "note", "--tenant", "acme"}} {
		c.fails(cli.ExitSchema, args, "the queue is in schema public of the central database", "another one in schema app", "SET search_path = \"public\", and connect again")
	}
	require.Contains(t, finds(t, examined(t, c, cli.ExitFailed), "central", "queue", doctor.StateFail).Says, "the queue is in schema public")
}

// Bytes of another encoding on the command line are refused, and not replaced.
func TestArgsOnTheCommandLineAreUTF8(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("one", jobstest.DatabaseOpts{})
	env.Tenant("acme", "one")
	for _, kind := range []string{"note", "headgate.report"} {
		c.fails(cli.ExitUsage, []string{"job", "enqueue", kind, "--tenant", "acme", "--args", `{"name": "r` + "\xe9" + `", "query": "SELECT 1"}`},
			"--args: ", "is not valid UTF-8 (0xe9, at byte 11)")
		c.fails(cli.ExitUsage, []string{"job", "enqueue", kind, "--tenant", "acme", "--args", `{"name": "\ud83d", "query": "SELECT 1"}`}, `args hold \ud83d, which is half of a character`)
	}
}
