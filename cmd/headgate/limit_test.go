package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// The shapes in JSON of limits, pauses and explanations, and what their verbs say.
func TestLimitShapes(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	c.set("USER", "ana")
	env.Database("db", jobstestShared)
	c.ok("tenant", "add", "acme", "--database", "db", "--plan", "free")
	for _, noun := range []string{"limit", "pause"} {
		require.Equal(t, "[]\n", c.ok(noun, "list", "-o", "json"))
		require.Contains(t, c.run(noun, "list").err, "headgate "+noun)
	}
	golden(t, "limit_set", c.ok("limit", "set", "plan", "free", "--max-running", "2", "--rate", "100/1h", "-o", "json"))
	c.ok("limit", "set", "tenant", "acme", "--weight", "3")
	c.ok("limit", "set", "kind", "headgate.vacuum", "--max-running", "5", "--per-tenant", "1")
	c.ok("limit", "set", "queue", "bulk", "--max-running", "50")
	golden(t, "limit_list", c.ok("limit", "list", "-o", "json"))
	golden(t, "limit_list_tenant", c.ok("limit", "list", "--tenant", "acme", "-o", "json"))
	require.Regexp(t, `(?m)^acme +rate +100/1h0m0s +plan free$`, c.ok("limit", "list", "--tenant", "acme"))
	golden(t, "limit_clear", c.ok("limit", "clear", "kind", "headgate.vacuum", "--per-tenant", "-o", "json"))

	golden(t, "pause", c.ok("pause", "tenant", "acme", "--note", "unpaid", "--until", "2h", "-o", "json"))
	require.Contains(t, c.ok("pause", "tenant", "acme", "--note", "paid tomorrow"), "paid tomorrow")
	c.ok("pause", "server", jobstest.Server, "--until", "24h")
	require.Regexp(t, `(?m)^tenant +acme +ana .* paid tomorrow$`, c.ok("pause", "list"))
	golden(t, "pause_list", c.ok("pause", "list", "-o", "json"))

	uid := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	golden(t, "job_explain", c.ok("job", "explain", uid, "-o", "json"))
	golden(t, "tenant_explain", c.ok("tenant", "explain", "acme", "-o", "json"))
	require.Contains(t, c.ok("tenant", "explain", "acme"), "tenant acme is paused by ana since ")
	golden(t, "resume", c.ok("resume", "tenant", "acme", "-o", "json"))
}

// Slips are told in one sentence with the nearest name; what may come later is
// taken with a warning.
func TestLimitSlips(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.ok("pause", "kind", "headgate.report")
	for _, test := range []struct {
		code int
		args []string
		says []string
	}{
		{cli.ExitNotFound, []string{"pause", "tenant", "acmee"}, []string{"did you mean acme?", "`headgate tenant list`"}},
		{cli.ExitNotFound, []string{"pause", "server", jobstest.Server + "x"}, []string{"did you mean " + jobstest.Server + "?", "`headgate server list`"}},
		{cli.ExitNotFound, []string{"limit", "set", "tenant", "akme", "--weight", "2"}, []string{"did you mean acme?"}},
		{cli.ExitNotFound, []string{"limit", "list", "--tenant", "akme"}, []string{"did you mean acme?"}},
		{cli.ExitNotFound, []string{"tenant", "explain", "akme"}, []string{"did you mean acme?"}},
		{cli.ExitNotFound, []string{"limit", "clear", "tenant", "acme"}, []string{`no limit is set for tenant "acme"`}},
		{cli.ExitNotFound, []string{"resume", "kind", "headgate.reprot"}, []string{"is not paused", "did you mean headgate.report?", "`headgate pause list`"}},
		{cli.ExitUsage, []string{"pause", "tenants", "acme"}, []string{`"tenants" is not one of tenant, kind, queue, server`, "did you mean tenant?"}},
		{cli.ExitUsage, []string{"pause", "tenant"}, []string{"NAME is missing"}},
		{cli.ExitUsage, []string{"pause", "kind", "aa", "--until", "soon"}, []string{"--until", `"soon"`, "2h"}},
		{cli.ExitUsage, []string{"pause", "kind", "aa", "--until", "-2h"}, []string{"--until", "not ahead"}},
		{cli.ExitUsage, []string{"pause", "kind", "aa", "--until", "2020-01-01T00:00:00Z"}, []string{`until "2020-01-01T00:00:00Z": it is past`}},
		{cli.ExitUsage, []string{"limit", "set", "tenant", "acme"}, []string{"nothing is given to set"}},
		{cli.ExitUsage, []string{"limit", "set", "tenant", "acme", "--max-running", "0"}, []string{"--max-running is 0: give 1 to 100000"}},
		{cli.ExitUsage, []string{"limit", "set", "tenant", "acme", "--weight", "5000"}, []string{`weight "5000": give 0.001 to 1000`}},
		{cli.ExitUsage, []string{"limit", "set", "tenant", "acme", "--rate", "100"}, []string{`rate "100": write NUMBER/PERIOD, as in 100/1h`}},
		{cli.ExitUsage, []string{"limit", "set", "tenant", "acme", "--rate", "1/2d"}, []string{`rate "1/2d": its period is not understood`}},
		{cli.ExitUsage, []string{"limit", "set", "kind", "kk", "--weight", "2"}, []string{"weight: a kind has none; tenants and plans have"}},
		{cli.ExitUsage, []string{"limit", "set", "server", "s"}, []string{`"server" is not one of tenant, plan, kind, queue`}},
		{cli.ExitUsage, []string{"limit", "list", "--scope", "kinds"}, []string{"did you mean kind?"}},
		{cli.ExitUsage, []string{"server", "set", jobstest.Server, "--budget", "0"}, []string{"--budget is 0: give 1 to 10000"}},
	} {
		c.fails(test.code, test.args, test.says...)
	}
	for _, args := range [][]string{
		{"pause", "kind", "headgate.reprot"}, {"pause", "queue", "bluk"}, {"limit", "set", "plan", "fre", "--weight", "2"}, {"limit", "set", "queue", "q", "--max-running", "2"},
	} {
		r := c.run(args...)
		require.Zero(t, r.code, r.err)
		require.Contains(t, r.err, "warning: no "+args[indexOfScope(args)])
	}
	require.Contains(t, c.run("pause", "queue", "bluk").err, "did you mean bulk?")
	require.Empty(t, c.run("pause", "queue", "bulk").err)
	require.Empty(t, c.run("pause", "kind", "headgate.purge").err)
}

func indexOfScope(args []string) int {
	if args[0] == "limit" {
		return 2
	}
	return 1
}

// A queue that River's UI or another River client has paused is shown with the other pauses,
// and ended by the same command, which ends both.
func TestAQueueThatIsPausedInRiver(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	c.set("USER", "ana")
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	ctx := t.Context()
	pause := func(name string) {
		_, err := env.Pool.Exec(ctx, `INSERT INTO river_queue (name, paused_at, updated_at) VALUES ($1, now(), now()) ON CONFLICT (name) DO UPDATE SET paused_at = now()`, name)
		require.NoError(t, err)
	}
	pause("default")
	require.Regexp(t, `(?m)^queue +default +River .* by its UI or another client$`, c.ok("pause", "list"))
	uid := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	why := c.ok("job", "explain", uid)
	require.Contains(t, why, "queue default is paused in River")
	require.Contains(t, why, "headgate resume queue default")
	told := finds(t, examined(t, c, cli.ExitFailed), "central", "queue default", doctor.StateWarn) // no worker runs
	require.Contains(t, told.Says, "it is paused in River since ")
	require.Contains(t, told.Next, "headgate resume queue default")

	listener, err := pgx.Connect(ctx, env.URL)
	require.NoError(t, err)
	defer func() { _ = listener.Close(context.WithoutCancel(ctx)) }()
	_, err = listener.Exec(ctx, `LISTEN "public.river_control"`)
	require.NoError(t, err)
	require.Regexp(t, `^queue default is not paused any more; it was paused by River since 2\S+ \S+ \S+: by its UI or another client\n$`, c.ok("resume", "queue", "default"))
	heard, err := listener.WaitForNotification(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"action": "resume", "queue": "default"}`, heard.Payload)
	require.NotContains(t, c.ok("job", "explain", uid), "paused")
	require.False(t, slices.ContainsFunc(examined(t, c, cli.ExitFailed), func(f doctor.Finding) bool { return f.Check == "queue default" }))
	c.fails(cli.ExitNotFound, []string{"resume", "queue", "default"}, "is not paused")

	pause("default")
	pause("bulk")
	c.ok("pause", "queue", "default", "--note", "audit")
	require.Equal(t, 2, strings.Count(c.ok("pause", "list"), "default"), "both are shown")
	require.Contains(t, c.ok("resume", "queue", "default"), "audit")
	require.NotContains(t, c.ok("pause", "list"), "default", "both are ended")
	c.fails(cli.ExitNotFound, []string{"resume", "queue", "blk"}, "did you mean bulk?")
	c.ok("resume", "queue", "bulk")
}

// serve works default and bulk, each with its slots, unless it is told otherwise.
func TestBulkSlots(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]map[string]int{
		"":                                    {"default": 20, "bulk": 10},
		"--slots 5":                           {"default": 5, "bulk": 10},
		"--bulk-slots 3":                      {"default": 20, "bulk": 3},
		"--bulk-slots 0":                      {"default": 20},
		"--slots 0 --bulk-slots 3":            {"bulk": 3},
		"--queue bulk=2":                      {"default": 20, "bulk": 2},
		"--bulk-slots 0 --queue bulk=2":       {"default": 20, "bulk": 2},
		"--slots 0 --queue side=2":            {"side": 2},
		"--queue side=2":                      {"default": 20, "bulk": 10, "side": 2},
		"--bulk-slots 4 --queue bulk=2":       nil,
		"--bulk-slots -1":                     nil,
		"--slots 0":                           nil,
		"--slots 0 --bulk-slots 0":            nil,
		"--slots 0 --bulk-slots 0 --queue x=": nil,
	} {
		app := cli.New("headgate", nil, nil, nil, nil)
		var got map[string]int
		var err error
		stay := staying{}
		cmd := versionCommand(app)
		stay.flags(cmd)
		if err = cmd.ParseFlags(strings.Fields(args)); err != nil { // no whole number
			require.Nil(t, want, args)
			continue
		}
		got, err = stay.queueSlots()
		if want == nil {
			require.Error(t, err, args)
			require.Equal(t, cli.ExitUsage, cli.ExitCode(err), args)
			continue
		}
		require.NoError(t, err, args)
		require.Equal(t, want, got, args)
	}
}

// Maintenance goes to bulk, and is done although default is full.
func TestMaintenanceIsBulk(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "db")
	c.set("HEADGATE_BULK_SLOTS", "1")
	serving := c.start("worker", "--reports", t.TempDir(), "--slots", "1")
	serving.err.await(t, "ready")
	slow := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "slow", "query": "SELECT pg_sleep(600)"}`, "-o", "json"))
	(&waiter{t, env.Pool}).until(`SELECT count(*) FROM river_job WHERE state = 'running' AND kind = 'headgate.report'`)
	analyze := enqueued(t, c.ok("job", "enqueue", "headgate.analyze", "--database", "db", "-o", "json"))
	require.Equal(t, jobs.Succeeded, env.Wait(analyze).State)
	var state, queue string
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT max(state::text) FILTER (WHERE metadata->>'job_uid' = $1), max(queue) FILTER (WHERE metadata->>'job_uid' = $2) FROM river_job`, slow, analyze).Scan(&state, &queue))
	require.Equal(t, "bulk", queue)
	require.Equal(t, "running", state)
	c.ok("job", "cancel", slow)
	require.Equal(t, cli.ExitOK, serving.end(), serving.err.String())
}
