package main

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// examined runs doctor and returns what it found, worst first.
func examined(t *testing.T, c *cli, code int, args ...string) []finding {
	t.Helper()
	r := c.run(append([]string{"doctor", "-o", "json"}, args...)...)
	require.Equal(t, code, r.code, "%s%s", r.out, r.err)
	var found []finding
	require.NoError(t, json.Unmarshal([]byte(r.out), &found))
	for _, f := range found {
		require.NotEmpty(t, f.Says)
		if f.State != stateOK {
			require.True(t, f.Next != "" || f.Check == "reachable", "%+v says no next step", f)
		}
	}
	return found
}

func finds(t *testing.T, found []finding, on, check, state string) finding {
	t.Helper()
	i := slices.IndexFunc(found, func(f finding) bool { return f.On == on && f.Check == check })
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
	found := examined(t, c, exitOK)
	for on, checks := range map[string][]string{
		"central":                   {"reachable", "schema", "clock", "snapshots", "pooler", "listen"},
		"keys":                      {"key test"},
		"server " + jobstest.Server: {"reachable", "pooler"},
		"database one":              {"job login", "owner login", "isolation"},
		"database two":              {"job login", "owner login", "isolation"},
	} {
		for _, check := range checks {
			finds(t, found, on, check, stateOK)
		}
	}
	finds(t, found, "central", "durability", stateWarn) // the tests' server does without fsync

	found = examined(t, c, exitOK, "--databases", "1")
	finds(t, found, "database two", "job login", stateOK) // it has the most tenants
	require.Contains(t, finds(t, found, "sample", "databases", stateOK).Says, "1 of 3")
	require.False(t, slices.ContainsFunc(found, func(f finding) bool { return f.On == "database one" || f.On == "database three" }))

	found = examined(t, c, exitOK, "--tenant", "bolt")
	require.False(t, slices.ContainsFunc(found, func(f finding) bool { return f.On == "database one" }))
	require.NotEmpty(t, c.ok("doctor"), "a table for people")
	c.fails(exitNotFound, []string{"doctor", "--server", "nowhere"}, "headgate server list")
	c.fails(exitNotFound, []string{"doctor", "--tenant", "nobody"}, "nobody")
}

// Each thing that is wrong is found, in its own place, with what to do.
func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	ctx := context.Background()
	wrong := env.Database("wrong", jobstest.DatabaseOpts{})
	changed := wrong.Job
	changed.Password = address.NewSecret("planted-wrong")
	require.NoError(t, env.Catalog.SetLogin(ctx, "wrong", jobs.LoginJob, changed))
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

	found := examined(t, c, exitFailed)
	require.Contains(t, finds(t, found, "database wrong", "job login", stateFail).Next, "headgate database login wrong")
	finds(t, found, "database wrong", "owner login", stateOK)
	require.Contains(t, finds(t, found, "database powerful", "isolation", stateFail).Says, "passes row-level security by")
	require.Contains(t, finds(t, found, "database unguarded", "isolation", stateWarn).Says, "invoices")
	require.Contains(t, finds(t, found, "database swapped", "job login", stateFail).Says, "another database")
	finds(t, found, "server "+jobstest.Server, "reachable", stateOK)
	for name, db := range map[string]*jobstest.Database{"database crippled": crippled, "database barred": barred} {
		check := map[bool]string{true: "functions", false: "job login"}[db == crippled]
		told := finds(t, found, name, check, stateFail)
		grant := regexp.MustCompile(`GRANT .*`).FindString(told.Next)
		admin(t, db.Job.Database, grant) // the advice is carried out
	}
	found = examined(t, c, exitFailed)
	finds(t, found, "database barred", "job login", stateOK)
	require.False(t, slices.ContainsFunc(found, func(f finding) bool { return f.On == "database crippled" && f.Check == "functions" }))

	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(ctx)) }()
	_, err = tx.Exec(ctx, `CREATE TEMP TABLE forgotten ()`)
	require.NoError(t, err)
	held := finds(t, examined(t, c, exitFailed, "--open-for", "1ms"), "central", "snapshots", stateWarn)
	require.Contains(t, held.Says, "has been in a transaction since")

	foreign := c.with("HEADGATE_KEY", catalog.NewKey("other").Reveal())
	found = examined(t, foreign, exitFailed, "--databases", "0")
	require.Contains(t, finds(t, found, "keys", "key test", stateFail).Says, "lacks it")

	gone := c.with("DATABASE_URL", "postgres://u:p@127.0.0.1:1/none")
	found = examined(t, gone, exitFailed)
	finds(t, found, "central", "reachable", stateFail)
}

// A pooler that nobody has told of is found, in the centre and before a server.
func TestDoctorDetectsAPooler(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("one", jobstest.DatabaseOpts{})
	if !jobstest.Bounced() { // then the other way round: one that is not there
		c.ok("server", "set", jobstest.Server, "--pooler", "session")
		found := examined(t, c, exitOK)
		require.Contains(t, finds(t, found, "server "+jobstest.Server, "pooler", stateWarn).Next, "--pooler none")
		return
	}
	c.ok("server", "set", jobstest.Server, "--pooler", "none")
	found := examined(t, c.with("HEADGATE_CENTRAL_POOLER", "none"), exitFailed)
	require.Contains(t, finds(t, found, "server "+jobstest.Server, "pooler", stateFail).Next, "headgate server set testserver --pooler transaction")
	require.Contains(t, finds(t, found, "central", "pooler", stateFail).Next, "--central-pooler transaction")
}
