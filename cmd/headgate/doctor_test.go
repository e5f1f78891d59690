package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// examined runs doctor and returns what it found, worst first.
func examined(t *testing.T, c *commandLine, code int, args ...string) []doctor.Finding {
	t.Helper()
	r := c.run(append([]string{"doctor", "-o", "json"}, args...)...)
	require.Equal(t, code, r.code, "%s%s", r.out, r.err)
	var found []doctor.Finding
	require.NoError(t, json.Unmarshal([]byte(r.out), &found))
	for _, f := range found {
		require.NotEmpty(t, f.Says)
		if f.State != doctor.StateOK {
			require.True(t, f.Next != "" || f.Check == "reachable", "%+v says no next step", f)
		}
	}
	return found
}

func finds(t *testing.T, found []doctor.Finding, on, check, state string) doctor.Finding {
	t.Helper()
	i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.On == on && f.Check == check })
	require.GreaterOrEqual(t, i, 0, "nothing on %s, %s: %+v", on, check, found)
	require.Equal(t, state, found[i].State, "%+v", found[i])
	return found[i]
}

// What is well is said to be well, and a sample stays within its bound.
func TestDoctor(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	for _, name := range []string{"one", "two", "three"} {
		env.Database(name, jobstest.DatabaseOpts{})
	}
	env.Tenant("acme", "two")
	env.Tenant("bolt", "two")
	found := examined(t, c, cli.ExitOK)
	for on, checks := range map[string][]string{
		"central":                   {"reachable", "schema", "clock", "snapshots", "pooler", "listen"},
		"keys":                      {"key test"},
		"server " + jobstest.Server: {"reachable", "pooler"},
		"database one":              {"job login", "owner login", "isolation"},
		"database two":              {"job login", "owner login", "isolation"},
	} {
		for _, check := range checks {
			finds(t, found, on, check, doctor.StateOK)
		}
	}
	finds(t, found, "central", "durability", doctor.StateWarn) // the tests' server does without fsync

	found = examined(t, c, cli.ExitOK, "--databases", "1")
	finds(t, found, "database two", "job login", doctor.StateOK) // it has the most tenants
	require.Contains(t, finds(t, found, "sample", "databases", doctor.StateOK).Says, "1 of 3")
	require.False(t, slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.On == "database one" || f.On == "database three" }))

	found = examined(t, c, cli.ExitOK, "--tenant", "bolt")
	require.False(t, slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.On == "database one" }))
	require.NotEmpty(t, c.ok("doctor"), "a table for people")
	c.fails(cli.ExitNotFound, []string{"doctor", "--server", "nowhere"}, "headgate server list")
	c.fails(cli.ExitNotFound, []string{"doctor", "--tenant", "nobody"}, "nobody")
}

// Each thing that is wrong is found, in its own place, with what to do.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	ctx := context.Background()
	wrong := env.Database("wrong", jobstest.DatabaseOpts{})
	changed := wrong.Job
	changed.Password = address.NewSecret("planted-wrong")
	require.NoError(t, env.Catalog.Logins().Set(ctx, "wrong", jobs.LoginJob, changed))
	c.secrets = append(c.secrets, "planted-wrong")
	powerful := env.Database("powerful", jobstest.DatabaseOpts{})
	admin(t, "postgres", "ALTER ROLE "+powerful.Job.User+" BYPASSRLS")
	crippled := env.Database("crippled", jobstest.DatabaseOpts{})
	_, err := crippled.Pool.Exec(ctx, `REVOKE EXECUTE ON FUNCTION headgate.begin_job FROM headgate_job`)
	require.NoError(t, err)
	barred := env.Database("barred", jobstest.DatabaseOpts{})
	_, err = barred.Pool.Exec(ctx, `REVOKE USAGE ON SCHEMA headgate FROM headgate_job`)
	require.NoError(t, err)
	env.Database("unguarded", jobstest.DatabaseOpts{Schema: `CREATE TABLE invoices (org_id bigint, n int); GRANT ALL ON invoices TO headgate_job`})
	other := env.Database("other", jobstest.DatabaseOpts{})
	swapped := env.Database("swapped", jobstest.DatabaseOpts{})
	_, err = swapped.Pool.Exec(ctx, `UPDATE headgate.identity SET database_id = $1`, other.ID)
	require.NoError(t, err)

	found := examined(t, c, cli.ExitFailed)
	require.Contains(t, finds(t, found, "database wrong", "job login", doctor.StateFail).Next, "headgate database login wrong")
	finds(t, found, "database wrong", "owner login", doctor.StateOK)
	require.Contains(t, finds(t, found, "database powerful", "isolation", doctor.StateFail).Says, "passes row-level security by")
	require.Contains(t, finds(t, found, "database unguarded", "isolation", doctor.StateFail).Says, "invoices")
	require.Contains(t, finds(t, found, "database swapped", "job login", doctor.StateFail).Says, "another database")
	finds(t, found, "server "+jobstest.Server, "reachable", doctor.StateOK)
	for name, db := range map[string]*jobstest.Database{"database crippled": crippled, "database barred": barred} {
		check := map[bool]string{true: "functions", false: "job login"}[db == crippled]
		told := finds(t, found, name, check, doctor.StateFail)
		grant := regexp.MustCompile(`GRANT .*`).FindString(told.Next)
		admin(t, db.Job.Database, grant) // the advice is carried out
	}
	found = examined(t, c, cli.ExitFailed)
	finds(t, found, "database barred", "job login", doctor.StateOK)
	require.False(t, slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.On == "database crippled" && f.Check == "functions" }))

	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, `CREATE TEMP TABLE forgotten ()`)
	require.NoError(t, err)
	held := finds(t, examined(t, c, cli.ExitFailed, "--open-for", "1ms"), "central", "snapshots", doctor.StateWarn)
	require.Contains(t, held.Says, "has been in a transaction since")

	foreign := c.with("HEADGATE_KEY", catalog.NewKey("other").Reveal())
	found = examined(t, foreign, cli.ExitFailed, "--databases", "0")
	require.Contains(t, finds(t, found, "keys", "key test", doctor.StateFail).Says, "lacks it")

	gone := c.with("DATABASE_URL", "postgres://u:p@127.0.0.1:1/none")
	found = examined(t, gone, cli.ExitFailed)
	finds(t, found, "central", "reachable", doctor.StateFail)
}

// A pooler that nobody has told of is found, in the centre and before a server.
func TestDoctorDetectsAPooler(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("one", jobstest.DatabaseOpts{})
	if !jobstest.Bounced() { // then the other way round: one that is not there
		c.ok("server", "set", jobstest.Server, "--pooler", "session")
		found := examined(t, c, cli.ExitOK)
		require.Contains(t, finds(t, found, "server "+jobstest.Server, "pooler", doctor.StateWarn).Next, "--pooler none")
		return
	}
	c.ok("server", "set", jobstest.Server, "--pooler", "none")
	found := examined(t, c.with("HEADGATE_CENTRAL_POOLER", "none"), cli.ExitFailed)
	require.Contains(t, finds(t, found, "server "+jobstest.Server, "pooler", doctor.StateFail).Next, "headgate server set testserver --pooler transaction")
	require.Contains(t, finds(t, found, "central", "pooler", doctor.StateFail).Next, "--central-pooler transaction")
}

// A server that refuses each login of its only database answers all the same.
func TestAServerThatRefusesIsReachable(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("one", jobstest.DatabaseOpts{})
	for login, a := range map[jobs.Login]address.Address{jobs.LoginJob: db.Job, jobs.LoginOwner: db.Owner} {
		a.Password = address.NewSecret("planted-wrong")
		require.NoError(t, env.Catalog.Logins().Set(context.Background(), "one", login, a))
	}
	c.secrets = append(c.secrets, "planted-wrong")
	found := examined(t, c, cli.ExitFailed)
	finds(t, found, "database one", "job login", doctor.StateFail)
	finds(t, found, "server "+jobstest.Server, "reachable", doctor.StateOK)
}
