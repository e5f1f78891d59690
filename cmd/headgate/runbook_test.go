package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// runbookCommands are the commands of docs/runbook.md, each once, in the order of the page.
func runbookCommands(t *testing.T) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "runbook.md"))
	require.NoError(t, err)
	for _, found := range regexp.MustCompile("`headgate ([^`]+)`").FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(commands, found[1]) {
			commands = append(commands, found[1])
		}
	}
	require.Greater(t, len(commands), 25)
	return commands
}

// Every command of the runbook does what it says against a real setup: with the page's
// placeholders filled in, and with what a command that the page only names needs.
func TestTheRunbooksCommands(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
	env.Tenant("acme", "db")
	c = c.with("HEADGATE_JOB_URL", loginURL(db.Job))
	job := func(sql string, more ...string) string {
		return enqueued(t, c.ok(append([]string{"job", "enqueue", "headgate.sql", "--tenant", "acme", "--max-attempts", "1", "--args", `{"sql": "` + sql + `"}`, "-o", "json"}, more...)...))
	}
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "headgate.sql", "--args", `{"sql": "INSERT INTO notes VALUES (2)"}`, "--cron", "0 3 * * *", "--zone", "UTC")
	c.ok("schedule", "trigger", "nightly", "--tenant", "acme")
	discarded, succeeded := job(`SELECT 'x'::int`), job(`INSERT INTO notes VALUES (1)`)
	stays := func(args ...string) {
		t.Helper()
		w := c.start(append(args, "--reports", t.TempDir())...)
		w.err.await(t, "msg=ready")
		for _, uid := range []string{discarded, succeeded} {
			env.WaitFor(uid, func(jobs.Outcome) bool { return true })
		}
		require.Equal(t, cli.ExitOK, w.end())
	}
	stays("serve")
	waits := job(`INSERT INTO notes VALUES (3)`, "--queue", "elsewhere") // which nobody works

	server := strings.NewReplacer("NAME", jobstest.Server, "N", "7", "WHY", "maintenance")
	ofSchedule := strings.NewReplacer("NAME", "nightly", "SLUG", "acme", "TIME", "03:00")
	ofJob := func(uid string) *strings.Replacer { return strings.NewReplacer("JOB", uid) }
	plain := strings.NewReplacer("KIND", "headgate.sql")
	fill := map[string]struct {
		with *strings.Replacer
		more []string // what the page does not say, because it only names the command
	}{
		"job cancel JOB": {with: ofJob(waits)}, "job explain JOB": {with: ofJob(waits)}, "job show JOB": {with: ofJob(discarded)},
		"job retry JOB": {with: ofJob(discarded)}, "job rerun JOB": {with: ofJob(succeeded)},
		"job list --state discarded --kind KIND": {with: plain}, "job list --state discarded": {}, "job list --state waiting --oldest --limit 5": {},
		"database list": {}, "database protect NAME": {with: strings.NewReplacer("NAME", "db")}, "server list": {}, "worker list": {},
		"server set NAME --budget N": {with: server}, "pause server NAME --note WHY": {with: server},
		"limit set tenant SLUG --max-running N":     {with: strings.NewReplacer("SLUG", "acme", "N", "3")},
		"schedule why NAME --tenant SLUG --at TIME": {with: ofSchedule},
		"schedule why NAME --tenant SLUG":           {with: ofSchedule},
		"schedule list":                             {},
		"schedule list --failing":                   {},
		"schedule resume":                           {more: []string{"nightly", "--tenant", "acme"}},
		"schedule edit":                             {more: []string{"nightly", "--tenant", "acme", "--cron", "0 4 * * *"}},
		"schedule backfill":                         {more: []string{"nightly", "--tenant", "acme", "--from", "2026-11-01T00:00:00Z", "--to", "2026-11-02T00:00:00Z"}},
		"doctor":                                    {}, "doctor --open-for 10s": {}, "doctor --all": {},
		"job list --state scheduled": {}, "database login NAME": {with: strings.NewReplacer("NAME", "db")},
		"serve": {}, "worker": {}, "serve --watch-schedule NAME": {with: ofSchedule},
	}
	commands := runbookCommands(t)
	for _, text := range commands {
		known, is := fill[text]
		require.True(t, is, "this test does not know how to run `headgate %s`", text)
		args := strings.Fields(text)
		if known.with != nil {
			args = strings.Fields(known.with.Replace(text))
		}
		args = append(args, known.more...)
		switch args[0] {
		case "serve":
			stays(args...)
			continue
		case "doctor": // it may find something
			require.Contains(t, []int{cli.ExitOK, cli.ExitFailed}, c.run(args...).code, args)
			continue
		case "worker":
			if len(args) == 1 {
				stays(args...)
				continue
			}
		}
		if r := c.run(args...); r.code != cli.ExitOK {
			require.Failf(t, "it is refused", "headgate %s: %d %s%s", strings.Join(args, " "), r.code, r.out, r.err)
		}
	}
	for text := range fill {
		require.Contains(t, commands, text, "the page has it no more")
	}
	require.Equal(t, cli.ExitUsage, c.run("schedule", "why", "--tenant", "acme").code, "the control: a command that lacks something is refused")
}

// What the pages say of jobs that wait longest is what doctor's reader sees: the first job of
// the list is the oldest.
func TestOldestJobsFirst(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	var uids []string
	for range 5 {
		job, err := env.Client.Enqueue(context.Background(), "acme", Charge{}, nil)
		require.NoError(t, err)
		uids = append(uids, job.UID)
	}
	place := strings.Index
	first := c.run("job", "list", "--state", "waiting", "--oldest", "--limit", "3")
	require.Equal(t, cli.ExitOK, first.code)
	require.Less(t, place(first.out, uids[0]), place(first.out, uids[1]))
	require.NotContains(t, first.out, uids[3])
	_, after, more := strings.Cut(first.err, "--after ")
	require.True(t, more, first.err)
	second := c.ok("job", "list", "--state", "waiting", "--oldest", "--after", strings.Fields(after)[0])
	require.Contains(t, second, uids[4])
	require.NotContains(t, second, uids[2])
	c.fails(cli.ExitUsage, []string{"job", "list", "--after", strings.Fields(after)[0]}, "give what next of the page before was")
}

// A server's list says that databases on it do not work, the databases' list says which and
// why, and the workers' list says whose claims fail.
func TestListsTellWhatFails(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Database("well", jobstestShared)
	require.NotContains(t, c.run("server", "list").err, "database list")
	admin(t, env.Pool.Config().ConnConfig.Database,
		`INSERT INTO headgate.breakers (scope, id, until, cause, class) SELECT 'database', id, '2099-01-01Z', 'no space left', 'disk_full' FROM headgate.databases WHERE name = 'db'`,
		`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, claims) VALUES (gen_random_uuid(), 'w1', 'here', 7, '{}', '{default}',
    '{"failing": [{"queue": "default", "since": "2026-01-02T03:04:05Z", "times": 12, "error": "claims wait for session 77 of ana"}]}')`)
	servers := c.run("server", "list")
	require.Regexp(t, `closed +1\n`, servers.out)
	require.Contains(t, servers.err, "`headgate database list` names them")
	databases := c.run("database", "list")
	require.Regexp(t, `(?m)^db .* open \(disk_full\)$`, databases.out)
	require.Regexp(t, `(?m)^well .* closed$`, databases.out)
	require.Regexp(t, `db: open \(disk_full\) since .*: no space left`, databases.err)
	workers := c.run("worker", "list")
	require.Contains(t, workers.out, "default fail since 2026-01-02 03:04:05 UTC")
	require.Contains(t, workers.err, "w1: 12 claims of queue default have failed in a row: claims wait for session 77 of ana")
}

// Somebody who has locked the queue is named, with what an administrator runs; the workers
// are listed all the same.
func TestWorkersAreListedBesideALockedQueue(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	central := env.Pool.Config().ConnConfig.Database
	admin(t, central, `INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, claims) VALUES (gen_random_uuid(), 'w1', 'here', 7, '{}', '{default}',
    '{"failing": [{"queue": "default", "since": "2026-01-02T03:04:05Z", "times": 12, "error": "claims wait"}]}')`)
	ctx := context.Background()
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(ctx) })
	var pid int
	require.NoError(t, tx.QueryRow(ctx, `SELECT pg_backend_pid() FROM (SELECT set_config('application_name', 'a-report', true)) a`).Scan(&pid))
	_, err = tx.Exec(ctx, `LOCK TABLE river_job IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)

	named := fmt.Sprintf(`table river_job is locked by session %d of \w+ \(a-report, .*since 2.*SELECT pg_terminate_backend\(%d\)`, pid, pid)
	workers := c.run("worker", "list")
	require.Equal(t, cli.ExitOK, workers.code, workers.err)
	require.Regexp(t, `(?m)^w1 +alive +here +7 +- +default fail since`, workers.out)
	require.Regexp(t, `how many jobs run is not known: .*55P03.*`+named, workers.err)
	require.Contains(t, workers.err, "12 claims of queue default have failed in a row")
	require.Regexp(t, `(?s)"running": null.*"running_unknown": ".*`+named, c.ok("worker", "list", "-o", "json"))
	told := c.run("doctor", "--databases", "0")
	require.Regexp(t, named, told.out)
	require.Contains(t, told.out, "claims of queue default fail on worker w1")

	require.NoError(t, tx.Rollback(ctx))
	workers = c.run("worker", "list")
	require.Regexp(t, `(?m)^w1 +alive +here +7 +0 +default`, workers.out)
	require.NotContains(t, workers.err, "locked")
}
