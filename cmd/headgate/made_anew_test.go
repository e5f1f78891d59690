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

// statementsOf are the statements that stand behind the colon of a sentence.
func statementsOf(t *testing.T, sentence, before string) []string {
	t.Helper()
	_, tail, found := strings.Cut(sentence, before)
	require.True(t, found, sentence)
	_, sql, found := strings.Cut(tail, ": ")
	require.True(t, found, sentence)
	return strings.Split(sql, "; ")
}

// A database that `database create` made and somebody dropped is made anew by what doctor
// prints. It is as closed as before, and doctor warns of one that is not.
func TestADroppedDatabaseIsMadeAnewAsCreateMakesIt(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	other := b.env.Database("other", jobstest.DatabaseOpts{})
	b.ok(b.create()...)
	b.ok("tenant", "add", "acme", "--database", b.name)
	on := "database " + b.name
	state := func() string {
		return ask(t, b.name, fmt.Sprintf(`SELECT pg_get_userbyid(datdba) || ' ' || has_database_privilege('%s', datname, 'CONNECT') || ' ' || has_database_privilege('%s', datname, 'CONNECT') FROM pg_database WHERE datname = current_database()`, b.job(), other.Job.User))
	}
	made := state()
	require.Equal(t, b.app()+" true false", made)

	admin(t, "postgres", fmt.Sprintf(`DROP DATABASE "%s" WITH (FORCE)`, b.name))
	b.fails(cli.ExitConflict, b.create(), "`headgate database reattach "+b.name+" --adopt` takes it in")
	told := finds(t, examined(t, b.commandLine, cli.ExitFailed), on, "job login", doctor.StateFail)
	for _, sql := range statementsOf(t, told.Next, "to make it anew an administrator runs") {
		admin(t, "postgres", sql)
	}
	execute(t, b.env.Pool.Config().ConnString(), `INSERT INTO headgate.breakers (scope, id, until, class, cause) SELECT 'database', id, now(), 'wrong_database', 'gone' FROM headgate.databases WHERE name = '`+b.name+`'`)
	require.Contains(t, b.ok("database", "list"), "half-open (wrong_database)")
	r := b.run("database", "reattach", b.name, "--adopt")
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "`headgate database restored "+b.name+" --to TIME`")
	require.Equal(t, made, state())
	require.NotContains(t, b.ok("database", "list"), "half-open")

	warned := func() (found []doctor.Finding) {
		for _, f := range examined(t, b.commandLine, cli.ExitOK) {
			if f.On == on && f.Check == "connect" { // the other database is open, as a plain CREATE DATABASE makes it
				found = append(found, f)
			}
		}
		return found
	}
	require.Empty(t, warned())
	admin(t, "postgres", fmt.Sprintf(`GRANT CONNECT ON DATABASE "%s" TO PUBLIC`, b.name))
	require.Equal(t, b.app()+" true true", state(), "the control: another database's job login gets in")
	open := finds(t, warned(), on, "connect", doctor.StateWarn)
	for _, sql := range statementsOf(t, open.Next, "have the database's owner run") {
		admin(t, "postgres", sql)
	}
	require.Equal(t, made, state())
	require.Empty(t, warned())
}

// A database that somebody made anew by a plain CREATE DATABASE gets its owner and is closed by
// what doctor prints.
func TestADatabaseMadeAnewByHandIsClosed(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	b.ok(b.create()...)
	admin(t, "postgres", fmt.Sprintf(`DROP DATABASE "%s" WITH (FORCE)`, b.name), fmt.Sprintf(`CREATE DATABASE "%s" TEMPLATE template0`, b.name))
	told := finds(t, examined(t, b.commandLine, cli.ExitFailed), "database "+b.name, "job login", doctor.StateFail)
	for _, sql := range statementsOf(t, told.Next, "an administrator first runs there") {
		admin(t, "postgres", sql)
	}
	b.ok("database", "reattach", b.name, "--adopt")
	require.Equal(t, b.app()+" false", ask(t, b.name, `SELECT pg_get_userbyid(datdba) || ' ' || has_database_privilege('headgate_job', datname, 'CONNECT') FROM pg_database WHERE datname = current_database()`))
}
