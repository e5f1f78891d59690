package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// advice is the nth command that a sentence names, with values for words in capitals.
func advice(t *testing.T, sentence string, nth int, values map[string]string) []string {
	t.Helper()
	found := advised.FindAllStringSubmatch(sentence, -1)
	require.Greater(t, len(found), nth, sentence)
	words := strings.Fields(found[nth][1])
	for i, word := range words {
		if value, ok := values[word]; ok {
			words[i] = value
		}
	}
	return words
}

// accident is a tenant whose database is not where the catalog has it any more.
func accident(t *testing.T) (*adviser, *jobstest.Database) {
	t.Helper()
	if jobstest.Bounced() {
		t.Skip("a pooler answers for databases that are not there in words of its own")
	}
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{})
	c.ok("tenant", "add", "acme", "--database", "db")
	c.secrets = append(c.secrets, db.Job.Password.Reveal(), db.Owner.Password.Reveal())
	finds(t, examined(t, c, cli.ExitOK), "database db", "job login", doctor.StateOK)
	return &adviser{c, env}, db
}

// broken is what doctor says of the job login, and mended that it is gone.
func (a *adviser) broken() doctor.Finding {
	a.t.Helper()
	return finds(a.t, examined(a.t, a.commandLine, cli.ExitFailed), "database db", "job login", doctor.StateFail)
}

func (a *adviser) mended() {
	a.t.Helper()
	found := examined(a.t, a.commandLine, cli.ExitOK)
	for _, login := range []string{"job login", "owner login"} {
		finds(a.t, found, "database db", login, doctor.StateOK)
	}
	w := a.start("worker", "--reports", a.t.TempDir())
	require.Equal(a.t, jobs.Succeeded, a.env.Wait(a.enqueue()).State)
	require.Equal(a.t, cli.ExitOK, w.end(), w.err.String())
}

func identOf(name string) string { return pgx.Identifier{name}.Sanitize() }

// F6: nothing took a database in that was dropped and made anew.
func TestADatabaseThatWasMadeAnewIsTakenIn(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	admin(t, "postgres", "DROP DATABASE "+identOf(db.Job.Database)+" WITH (FORCE)")
	require.Contains(t, a.broken().Next, "`headgate database reattach db --dbname DBNAME` if it was renamed")
	admin(t, "postgres", "CREATE DATABASE "+identOf(db.Job.Database)+" OWNER "+identOf(db.Owner.User))
	told := a.broken()
	do := advice(t, told.Next, 0, nil)
	a.fails(cli.ExitConflict, do[:len(do)-1], "bears no identity: if it was made anew")
	require.NotContains(t, a.run(do[:len(do)-1]...).err, "belongs to another")
	a.ok(do...)
	a.mended()
}

// F6: nothing took a database in that was renamed on its server.
func TestADatabaseThatWasRenamedIsTakenIn(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	was, is := db.Job.Database, db.Job.Database+"_new"
	rename := func(from, to string) {
		admin(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+from+"'", "ALTER DATABASE "+identOf(from)+" RENAME TO "+identOf(to))
	}
	db.Pool.Close()
	rename(was, is)
	t.Cleanup(func() { rename(is, was) })
	renamed := db.Job
	renamed.Database = is
	a.with("HEADGATE_JOB_URL", loginURL(renamed)).fails(cli.ExitUsage, []string{"database", "login", "db"}, "`headgate database reattach db --dbname "+is+"` if it was renamed")
	a.ok(advice(t, a.broken().Next, 0, map[string]string{"DBNAME": is})...)
	a.mended()
}

// gone is a host at which nobody answers.
func gone(t *testing.T, env *jobstest.Env) (server catalog.Server, host string) {
	t.Helper()
	server, err := env.Catalog.Hosting().Server(t.Context(), jobstest.Server)
	require.NoError(t, err)
	host = "127.0.0.9"
	if server.Transport == address.Socket {
		host = t.TempDir()
	}
	_, err = env.Catalog.Hosting().ReplaceHost(t.Context(), catalog.HostReplacement{Server: server.Name, Old: server.Hosts[0], New: host})
	require.NoError(t, err)
	return server, host
}

// F6: nothing led a server's addresses to its other host name.
func TestAServerThatGotAnotherHostIsReached(t *testing.T) {
	t.Parallel()
	a, _ := accident(t)
	server, host := gone(t, a.env)
	told := a.broken()
	require.Contains(t, told.Next, host)
	do := advice(t, told.Next, 0, map[string]string{"NEW": server.Hosts[0]})
	require.Contains(t, a.ok(append(do, "--dry-run", "-o", "json")...), `"addresses": 2`)
	a.ok(do...)
	a.mended()
}

// F6: a server with a typo stood in every list for ever.
func TestAServerThatWasEnteredByMistakeIsRemoved(t *testing.T) {
	t.Parallel()
	a, _ := accident(t)
	a.ok("server", "add", "typo", "--host", "db1.internl")
	told := finds(t, examined(t, a.commandLine, cli.ExitOK), "server typo", "databases", doctor.StateOK)
	a.ok(command(t, told.Says)...)
	require.NotContains(t, a.ok("server", "list"), "typo")

	a.ok("server", "add", "close", "--host", "db1.internl")
	r := a.with("HEADGATE_JOB_URL", "host=db1.internal user=j password=planted-j dbname=x").with("HEADGATE_OWNER_URL", "host=db1.internal user=o password=planted-o dbname=x").
		run("database", "add", "x", "--server", "close", "--kind", "shared")
	require.Equal(t, cli.ExitUsage, r.code, r.err)
	a.ok(command(t, r.err)...)
	a.ok("server", "host", "remove", "close", "db1.internl")
	require.Contains(t, a.ok("server", "show", "close"), "db1.internal")
}

// F6: nothing took a database in that was moved to another server.
func TestADatabaseThatWasMovedIsTakenIn(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	server, _ := gone(t, a.env)
	_, err := a.env.Catalog.AddServer(t.Context(), catalog.ServerParams{Name: "second", Hosts: server.Hosts, Transport: server.Transport})
	require.NoError(t, err)
	do := advice(t, a.broken().Next, 1, map[string]string{"SERVER": "second"})
	there := a.with("HEADGATE_JOB_URL", loginURL(db.Job)).with("HEADGATE_OWNER_URL", loginURL(db.Owner))
	there.ok(do...)
	a.mended()
	a.ok("server", "remove", server.Name)
}

// Another database is taken for this one on no account while an entry has it, and else when
// somebody says so.
func TestAnotherDatabaseIsNotTakenIn(t *testing.T) {
	t.Parallel()
	a, db := accident(t)
	other := a.env.Database("other", jobstest.DatabaseOpts{})
	to := func(d *jobstest.Database) *commandLine {
		return a.with("HEADGATE_JOB_URL", loginURL(d.Job)).with("HEADGATE_OWNER_URL", loginURL(d.Owner))
	}
	reattach := []string{"database", "reattach", "db"}
	to(other).fails(cli.ExitConflict, append(reattach, "--adopt"), "bears the identity of database other of this catalog")
	_, err := other.Pool.Exec(t.Context(), `ALTER SCHEMA headgate OWNER TO current_user`)
	require.NoError(t, err)
	r := to(other).run("database", "reattach", "db") // what would take the schema from its owner is not advised
	require.Equal(t, cli.ExitConflict, r.code, r.err)
	require.Contains(t, r.err, "is database other of this catalog, so its rows are that one's tenants'; give the name that db has now")
	require.NotContains(t, r.err, "ALTER")
	_, err = other.Pool.Exec(t.Context(), `ALTER SCHEMA headgate OWNER TO `+pgx.Identifier{other.Owner.User}.Sanitize())
	require.NoError(t, err)
	a.ok("database", "remove", "other")
	to(other).fails(cli.ExitConflict, reattach, "which this catalog does not have", "`headgate database reattach db --adopt`")
	require.Equal(t, db.ID, ask(t, db.Job.Database, "SELECT database_id FROM headgate.identity"))
	require.Contains(t, to(other).ok("database", "reattach", "db", "--adopt", "--dry-run", "-o", "json"), `"tenants": 1`)
	require.Equal(t, other.ID, ask(t, other.Job.Database, "SELECT database_id FROM headgate.identity"))
	to(other).ok("database", "reattach", "db", "--adopt")
	require.Equal(t, db.ID, ask(t, other.Job.Database, "SELECT database_id FROM headgate.identity"))
	a.mended()
}

// The verbs of a day on which nothing went wrong.
func TestServersDatabasesAndRegionsAreChanged(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	for i := range 3 {
		c.ok("tenant", "add", fmt.Sprintf("t%d", i))
	}
	c.ok("region", "add", "eu", "--note", "Europe")
	c.ok("server", "set", jobstest.Server, "--region", "eu")
	require.Contains(t, c.ok("region", "list"), "Europe")
	c.fails(cli.ExitConflict, []string{"region", "remove", "eu"}, "server "+jobstest.Server+" is in it")
	require.JSONEq(t, `{"databases": 1, "tenants": 3, "dry_run": true}`, c.ok("server", "drain", jobstest.Server, "--dry-run", "-o", "json"))
	r := c.run("server", "drain", jobstest.Server, "--reason", "new disks")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "the jobs of 3 tenants in 1 database wait; `headgate server resume "+jobstest.Server+"` opens it")
	told := finds(t, examined(t, c, cli.ExitOK), "server "+jobstest.Server, "state", doctor.StateWarn)
	require.Contains(t, told.Says, "new disks")
	c.ok(command(t, told.Next)...)
	require.False(t, slices.ContainsFunc(examined(t, c, cli.ExitOK), func(f doctor.Finding) bool { return f.Check == "state" }))
	c.ok("database", "detach", "db", "--reason", "restore")
	require.Contains(t, c.run("database", "list").err, "db: detached since")
	told = finds(t, examined(t, c, cli.ExitOK), "database db", "job login", doctor.StateWarn)
	c.ok(command(t, told.Next)...)
	finds(t, examined(t, c, cli.ExitOK), "database db", "job login", doctor.StateOK)
	c.ok("server", "rename", jobstest.Server, "eu-1")
	c.fails(cli.ExitConflict, []string{"server", "remove", "eu-1"}, "database db lies there")
	c.ok("database", "rename", "db", "shared-1")
	c.ok("database", "set", "shared-1", "--max-tenants", "3", "--plan", "", "--plan", "free")
	c.fails(cli.ExitConflict, []string{"tenant", "add", "t3"}, "the fullest is shared-1 with 3 of 3 tenants")
	var shown catalog.Database
	require.NoError(t, json.Unmarshal([]byte(c.ok("database", "show", "shared-1", "-o", "json")), &shown))
	require.Equal(t, []any{3, []string{"", "free"}}, []any{*shown.MaxTenants, shown.Plans})
	c.fails(cli.ExitUsage, []string{"database", "detach", "shared-1"}, "--reason is missing")
	c.fails(cli.ExitConflict, []string{"database", "remove", "shared-1"}, "3 tenants live there")
	c.fails(cli.ExitUsage, []string{"server", "set", "eu-1", "--budget", "0"}, "--budget is 0")
}
