package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/explain"
)

// adviser takes what explain says to do at its word.
type adviser struct {
	*commandLine
	env *jobstest.Env
}

func newAdviser(t *testing.T) *adviser {
	t.Helper()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "free")
	return &adviser{c, env}
}

func (a *adviser) sql(text string, args ...any) {
	a.t.Helper()
	_, err := a.env.Pool.Exec(context.Background(), text, args...)
	require.NoError(a.t, err, text)
}

func (a *adviser) enqueue() string {
	return enqueued(a.t, a.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
}

// alive is a worker that lives and takes all, as far as the rows say.
func (a *adviser) alive() {
	a.sql(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'w', 'here', 7, '{headgate.report}', '{default}')`, uuid.NewString())
}

func (a *adviser) facts(uid string) (facts []explain.Fact) {
	a.t.Helper()
	var shown []explain.Fact
	require.NoError(a.t, json.Unmarshal([]byte(a.ok("job", "explain", uid, "-o", "json")), &shown))
	return shown
}

func (a *adviser) has(uid string, code explain.Code) (explain.Fact, bool) {
	facts := a.facts(uid)
	i := slices.IndexFunc(facts, func(f explain.Fact) bool { return f.Code == code })
	if i < 0 {
		return explain.Fact{}, false
	}
	return facts[i], true
}

// command is the first that a sentence names, with a number for N.
func command(t *testing.T, sentence string) []string {
	t.Helper()
	found := advised.FindStringSubmatch(sentence)
	require.NotNil(t, found, "%q names no command", sentence)
	words := strings.Fields(found[1])
	for i, word := range words {
		words[i] = strings.Trim(word, "'") // as a shell does
		if number, more, _ := strings.Cut(word, "/"); number == "N" {
			words[i] = strings.TrimSuffix("100/"+more, "/")
		}
	}
	return words
}

// What explain says to do about a job that waits is done as it stands there, and then
// nothing of that kind stops the job any more.
func TestWhatExplainAdvisesHelps(t *testing.T) {
	t.Parallel()
	held := func(servers, owners string) string {
		return `INSERT INTO headgate.hands (incarnation, hand, waiting) SELECT w.incarnation, replace(replace('{"queues": {"default": 2}, "owners": ` + owners + `, "servers": ` + servers + `}', 'ACME', t.id::text), 'SERVER', d.server_id::text)::jsonb, false
FROM headgate.workers w, headgate.tenants t, headgate.databases d`
	}
	busy := held(`{"SERVER": {"jobs": 2, "conns": 2}}`, `{"ACME": {"headgate.report": 2}}`)
	for code, c := range map[explain.Code]struct {
		set [][]string
		sql []string
	}{
		explain.CodePausedTenant:    {set: [][]string{{"pause", "tenant", "acme"}}},
		explain.CodePausedKind:      {set: [][]string{{"pause", "kind", "headgate.report"}}},
		explain.CodePausedQueue:     {set: [][]string{{"pause", "queue", "default"}}},
		explain.CodePausedServer:    {set: [][]string{{"pause", "server", jobstest.Server}}},
		explain.CodeServerState:     {set: [][]string{{"server", "drain", jobstest.Server, "--reason", "disks"}}},
		explain.CodeDatabaseState:   {set: [][]string{{"database", "detach", "db", "--reason", "restore"}}},
		explain.CodeTenantLimit:     {set: [][]string{{"limit", "set", "plan", "free", "--max-running", "2"}}, sql: []string{busy}},
		explain.CodeKindLimit:       {set: [][]string{{"limit", "set", "kind", "headgate.report", "--max-running", "2"}}, sql: []string{busy}},
		explain.CodeKindTenantLimit: {set: [][]string{{"limit", "set", "kind", "headgate.report", "--per-tenant", "2"}}, sql: []string{busy}},
		explain.CodeQueueLimit:      {set: [][]string{{"limit", "set", "queue", "default", "--max-running", "2"}}, sql: []string{busy}},
		explain.CodeServerBudget:    {set: [][]string{{"server", "set", jobstest.Server, "--budget", "2"}}, sql: []string{busy}},
		explain.CodeRate: {set: [][]string{{"limit", "set", "plan", "free", "--rate", "1/1h"}},
			sql: []string{`INSERT INTO headgate.lane_rates SELECT id::text, now() + interval '59 minutes' FROM headgate.tenants`}},
		explain.CodeNotDue: {sql: []string{`UPDATE river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour'`}},
		explain.CodePutOff: {sql: []string{`UPDATE river_job SET state = 'scheduled', scheduled_at = now() + interval '1 hour'`,
			`INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'snoozed', now(), now() FROM river_job`}},
		explain.CodeRetryDue: {sql: []string{`UPDATE river_job SET state = 'retryable', attempt = 1, scheduled_at = now() + interval '1 hour'`}},
	} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			a := newAdviser(t)
			a.alive()
			uid := a.enqueue()
			_, stopped := a.has(uid, code)
			require.False(t, stopped, "before anything stops it")
			for _, args := range c.set {
				a.ok(args...)
			}
			for _, sql := range c.sql {
				a.sql(sql)
			}
			fact, stopped := a.has(uid, code)
			require.True(t, stopped, "%v", a.facts(uid))
			do := command(t, fact.Next)
			a.ok(do...)
			_, stopped = a.has(uid, code)
			require.False(t, stopped, "%v, after %v", a.facts(uid), do)
		})
	}
}

// The same of jobs that have ended: each may be done again in the way that is named.
func TestWhatExplainAdvisesOfEndedJobsHelps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state, class, sql string
		again             string // the verb
	}{
		"completed":  {state: "completed", again: "rerun"},
		"discarded":  {state: "discarded", class: "job_error", again: "retry"},
		"cancelled":  {state: "cancelled", again: "retry"},
		"quarantine": {state: "discarded", class: "quarantined", again: "retry"},
		"unsafe":     {state: "discarded", class: "unsafe", again: "rerun"},
		"tombstone":  {state: "cancelled", sql: `UPDATE river_job SET metadata = metadata || jsonb_build_object('tombstone_uid', gen_random_uuid())`, again: "rerun"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdviser(t)
			uid := a.enqueue()
			a.sql(`UPDATE river_job SET state = $1::text::river_job_state, finalized_at = now(), attempt = 1`, c.state)
			a.sql(`INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, class, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, CASE $1 WHEN 'completed' THEN 'succeeded' ELSE $1 END, $2, now(), now() FROM river_job`, c.state, c.class)
			if c.sql != "" {
				a.sql(c.sql)
			}
			do := command(t, a.facts(uid)[0].Next)
			require.Equal(t, []string{"job", c.again, uid}, do)
			again := enqueuedOr(a.ok(append(do, "-o", "json")...), uid)
			_, due := a.has(again, explain.CodeDue)
			require.True(t, due, "%v", a.facts(again))
		})
	}
}

func enqueuedOr(out, uid string) string {
	var fields struct{ UID string }
	if json.Unmarshal([]byte(out), &fields) != nil || fields.UID == "" {
		return uid
	}
	return fields.UID
}

// No worker: the command that is named runs the job.
func TestTheWorkerThatIsAdvisedDoesTheWork(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	uid := a.enqueue()
	side := enqueued(t, a.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--queue", "side", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	fact, none := a.has(uid, explain.CodeNoWorker)
	require.True(t, none)
	one := a.start(append(command(t, fact.Next), "--reports", t.TempDir())...)
	a.env.Wait(uid)
	fact, none = a.has(side, explain.CodeNoWorkerQueue)
	require.True(t, none, "%v", a.facts(side))
	two := a.start(append(command(t, fact.Next), "--reports", t.TempDir())...)
	a.env.Wait(side)
	require.Equal(t, cli.ExitOK, one.end(), one.err.String())
	require.Equal(t, cli.ExitOK, two.end(), two.err.String())
	a.sql(`UPDATE headgate.workers SET ended_at = NULL, beat_at = now() - interval '1 hour'`)
	uid = a.enqueue()
	fact, none = a.has(uid, explain.CodeWorkersSilent)
	require.True(t, none)
	told := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "workers", doctor.StateFail)
	require.Contains(t, told.Says, "0 of 2 workers gave a sign of life lately")
	require.Equal(t, []string{"worker"}, command(t, fact.Next), "as of a job that no worker ever looked for")
	three := a.start(append(command(t, told.Next), "--reports", t.TempDir())...)
	require.Equal(t, jobs.Succeeded, a.env.Wait(uid).State)
	_, none = a.has(uid, explain.CodeWorkersSilent)
	require.False(t, none)
	require.NotContains(t, a.run("doctor").out, "gave a sign of life lately")
	require.Equal(t, cli.ExitOK, three.end(), three.err.String())
}

// What doctor says to do about the work is done, and the finding is gone.
func TestWhatDoctorAdvisesOfWorkHelps(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "workers", doctor.StateWarn)
	uid := a.enqueue()
	none := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "workers", doctor.StateFail)
	require.Contains(t, none.Says, "no worker has run for seven days")
	server := a.start(append(command(t, none.Next), "--reports", t.TempDir())...)
	a.env.Wait(uid)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "workers", doctor.StateOK)

	a.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--queue", "side", "--args", `{"name": "x", "query": "SELECT 1"}`)
	unserved := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "queue side", doctor.StateFail)
	require.Contains(t, unserved.Next, "headgate worker --queue side=10")
	side := a.start("worker", "--slots", "0", "--queue", "side=1", "--reports", t.TempDir())
	(&waiter{t, a.env.Pool}).until(`SELECT count(*) FROM headgate.outcomes o JOIN river_job j ON j.id = o.job_id WHERE j.queue = 'side'`)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "queues", doctor.StateOK)
	require.Equal(t, cli.ExitOK, side.end(), side.err.String())

	a.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "own.kind", "--cron", "0 3 * * *", "--args", "{}")
	unknown := finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "kind own.kind", doctor.StateWarn)
	require.Contains(t, unknown.Says, "schedules that name it: 1")
	a.sql(`UPDATE headgate.schedules SET error = 'broken', next_run_at = NULL`)
	broken := finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "schedule errors", doctor.StateWarn)
	require.Contains(t, a.ok(command(t, broken.Next)...), "broken")
	require.Equal(t, cli.ExitOK, server.end(), server.err.String())

	a.sql(`UPDATE headgate.schedules SET error = '', next_run_at = now() - interval '2 minutes', kind = 'headgate.report', args = '{"name": "n", "query": "SELECT 1"}'`)
	overdue := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "schedules", doctor.StateFail)
	server = a.start(append(command(t, overdue.Next), "--reports", t.TempDir())...)
	(&waiter{t, a.env.Pool}).until(`SELECT count(*) FROM headgate.outcomes WHERE schedule = 'nightly' AND state = 'succeeded'`)
	finds(t, examined(t, a.commandLine, cli.ExitOK), "central", "schedules", doctor.StateOK)
	require.Equal(t, cli.ExitOK, server.end(), server.err.String())

	a.sql(`UPDATE headgate.workers SET ended_at = NULL, beat_at = '2026-11-01Z'`)
	silent := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "workers", doctor.StateFail)
	require.Contains(t, silent.Says, "gave a sign of life lately, the last at 2026-11-01 00:00:00 UTC")
	require.Regexp(t, regexp.MustCompile(`silent since 2026-11-01 00:00:00 UTC`), a.ok("worker", "list"))
}

// What is well takes a line for each thing; what is not stands in full.
func TestDoctorIsShort(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	short, full := a.ok("doctor"), a.ok("doctor", "--all")
	require.Contains(t, short, "  ok    reachable, schema, ")
	require.Contains(t, short, "  warn  workers: no worker has run yet\n        next: start one: ")
	require.NotContains(t, short, "answers")
	require.Contains(t, full, "  ok    reachable: PostgreSQL ")
	require.Less(t, len(strings.Split(short, "\n")), 20, strconv.Quote(short))
	require.Contains(t, fmt.Sprint(examined(t, a.commandLine, cli.ExitOK)), "answers")
}
