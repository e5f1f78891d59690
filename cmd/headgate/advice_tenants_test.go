package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
)

// ofTenant is what explain says of tenant acme with a code.
func (a *adviser) ofTenant(code explain.Code) (explain.Fact, bool) {
	a.t.Helper()
	var shown explain.TenantExplanation
	require.NoError(a.t, json.Unmarshal([]byte(a.ok("tenant", "explain", "acme", "-o", "json")), &shown))
	i := slices.IndexFunc(shown.Facts, func(f explain.Fact) bool { return f.Code == code })
	if i < 0 {
		return explain.Fact{}, false
	}
	return shown.Facts[i], true
}

var aReport = []string{"job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`}

// What stops a tenant's work is told of its job and of the tenant, with the command that
// helps. The command is run as it is printed, and then nothing of that kind stops the work:
// the job is due, and the next one is accepted.
func TestWhatExplainAdvisesOfTenantsHelps(t *testing.T) {
	t.Parallel()
	const pauseInRiver = `INSERT INTO river_queue (name, paused_at, updated_at) VALUES ('default', now(), now()) ON CONFLICT (name) DO UPDATE SET paused_at = now()`
	beta := []string{"feature", "set", "beta", "--type", "boolean"}
	gate := []string{"feature", "require", "beta", "--kind", "headgate.report"}
	for name, c := range map[string]struct {
		code    explain.Code
		set     [][]string
		sql     string
		refuses string // what a request and a retry are told; "" if they are accepted
	}{
		"suspended":                     {code: explain.CodeTenantStatus, set: [][]string{{"tenant", "suspend", "acme", "--reason", "invoice 4711"}}, refuses: "is suspended (invoice 4711) and takes no work"},
		"archived":                      {code: explain.CodeTenantStatus, set: [][]string{{"tenant", "archive", "acme", "--waiting", "hold"}}, refuses: "is archived and takes no work"},
		"new":                           {code: explain.CodeTenantStatus, sql: `UPDATE headgate.tenants SET status = 'provisioning'`, refuses: "is provisioning and takes no work"},
		"a feature that nobody gave it": {code: explain.CodeFeatureOff, set: [][]string{beta, gate}, refuses: "`headgate tenant feature acme beta=true`"},
		"a feature that it has lost": {code: explain.CodeFeatureOff, set: [][]string{append(beta, "--default", "true"), gate, {"tenant", "feature", "acme", "beta=false"}},
			refuses: "`headgate tenant feature acme beta=true`"},
		"kinds of its own":    {code: explain.CodeKindRefused, set: [][]string{{"tenant", "set", "acme", "--kind", "other.kind"}}, refuses: "`headgate tenant set acme --kind other.kind --kind headgate.report`"},
		"kinds of its plan":   {code: explain.CodeKindRefused, set: [][]string{{"plan", "set", "free", "--kind", "odd.kind<x>"}}, refuses: "`headgate tenant set acme --kind 'odd.kind<x>' --kind headgate.report`"},
		"its server is down":  {code: explain.CodeServerState, sql: `UPDATE headgate.servers SET state = 'down', state_reason = 'disk', state_by = 'ana', state_since = now()`},
		"its queue in River":  {code: explain.CodePausedQueue, sql: pauseInRiver},
		"its database is off": {code: explain.CodeDatabaseState, set: [][]string{{"database", "detach", "db", "--reason", "restore"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAdviser(t)
			a.alive()
			uid := a.enqueue()
			for _, args := range c.set {
				a.ok(args...)
			}
			if c.sql != "" {
				a.sql(c.sql)
			}
			fact, stopped := a.has(uid, c.code)
			require.True(t, stopped, "%v", a.facts(uid))
			whole, stopped := a.ofTenant(c.code)
			require.True(t, stopped)
			require.Equal(t, fact, whole)
			if c.refuses != "" {
				a.fails(cli.ExitNotPermitted, aReport, c.refuses)
				a.fails(cli.ExitNotPermitted, []string{"job", "retry", uid}, c.refuses)
			}
			do := command(t, fact.Next)
			a.ok(do...)
			for _, look := range []func() (explain.Fact, bool){func() (explain.Fact, bool) { return a.has(uid, c.code) }, func() (explain.Fact, bool) { return a.ofTenant(c.code) }} {
				still, stopped := look()
				require.False(t, stopped, "%v, after %v", still, do)
			}
			_, due := a.has(uid, explain.CodeDue)
			require.True(t, due)
			a.ok("job", "retry", uid)
			a.ok(aReport...)
		})
	}
}

// A list of kinds that is too long for a sentence is shown by the command that the sentence
// names.
func TestTheAdviceAboutManyKindsHelps(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	a.alive()
	uid := a.enqueue()
	var kinds []string
	for i := range 21 {
		kinds = append(kinds, "--kind", fmt.Sprintf("kind%d", i))
	}
	a.ok(append([]string{"plan", "set", "free"}, kinds...)...)
	fact, stopped := a.has(uid, explain.CodeKindRefused)
	require.True(t, stopped)
	require.Contains(t, fact.Next, "beside the 21 kinds that it has")
	require.Contains(t, a.ok(advice(t, fact.Next, 0, nil)...), "kind0, kind1, ")
	do := append(append(advice(t, fact.Next, 1, nil), kinds...), "--kind", "headgate.report")
	a.ok(do...)
	_, stopped = a.has(uid, explain.CodeKindRefused)
	require.False(t, stopped)
	a.ok(aReport...)
}

// Of a removed tenant explain says that serve cancels its jobs, and serve does.
func TestJobsOfARemovedTenantAreCancelledAsAdvised(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	a.alive()
	uid := a.enqueue()
	a.ok("tenant", "remove", "acme", "--reason", "contract ended", "--yes")
	fact, stopped := a.has(uid, explain.CodeTenantStatus)
	require.True(t, stopped, "%v", a.facts(uid))
	server := a.start(append(command(t, fact.Next), "--reports", t.TempDir())...)
	require.Equal(t, jobs.Cancelled, a.env.Wait(uid).State)
	_, stopped = a.has(uid, explain.CodeTenantStatus)
	require.False(t, stopped)
	require.Contains(t, a.ok("job", "explain", uid), "contract ended")
	require.Equal(t, cli.ExitOK, server.end(), server.err.String())
}

// Of a suspended tenant explain says how its waiting jobs are cancelled instead, and then that
// they are.
func TestJobsOfASuspendedTenantAreCancelledAsAdvised(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	a.alive()
	uid := a.enqueue()
	a.ok("tenant", "suspend", "acme", "--reason", "invoice 4711")
	fact, _ := a.has(uid, explain.CodeTenantStatus)
	_, or, there := strings.Cut(fact.Next, "; or ")
	require.True(t, there, fact)
	a.ok(command(t, or)...)
	fact, _ = a.has(uid, explain.CodeTenantStatus)
	require.Contains(t, fact.Fact, "its waiting jobs are being cancelled")
	require.Contains(t, a.ok("tenant", "show", "acme"), "invoice 4711", "the reason stays")
	_, until, there := strings.Cut(fact.Next, "until then ")
	require.True(t, there, fact)
	server := a.start(append(command(t, until), "--reports", t.TempDir())...)
	require.Equal(t, jobs.Cancelled, a.env.Wait(uid).State)
	require.Equal(t, cli.ExitOK, server.end(), server.err.String())
}

// An attempt shows by which features it went, as they were then.
func TestJobShowTellsTheFeatures(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	uid := a.enqueue()
	a.sql(`INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at, features)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, n, CASE n WHEN 3 THEN 'succeeded' ELSE 'failed' END, now(), now() + n * interval '1 second',
       (ARRAY['{"beta": true, "seats": 5}', '{"beta": true, "seats": 5}', '{"beta": false, "seats": null}'])[n]::jsonb
FROM river_job, generate_series(1, 3) n`)
	r := a.run("job", "show", uid)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, `attempt 1 went by these features: {"beta": true, "seats": 5}`)
	require.NotContains(t, r.err, "attempt 2 went by")
	require.Contains(t, r.err, `attempt 3 went by these features: {"beta": false, "seats": null}`)
	var shown jobs.Record
	require.NoError(t, json.Unmarshal([]byte(a.ok("job", "show", uid, "-o", "json")), &shown))
	require.JSONEq(t, `{"beta": false, "seats": null}`, string(shown.Last().Features))
}
