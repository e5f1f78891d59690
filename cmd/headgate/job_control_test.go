package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// One job through all that a person can do to it.
func TestJobControl(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated"})
	env.Tenant("acme", "db")
	field := func(out, name string) any {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(out), &fields), out)
		return fields[name]
	}
	uid, _ := field(c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "n", "query": "SELECT 1"}`, "-o", "json"), "uid").(string)

	require.Contains(t, c.ok("job", "explain", uid), "no worker")
	require.Equal(t, "cancelled", field(c.ok("job", "cancel", uid, "--reason", "a slip", "-o", "json"), "state"))
	require.Contains(t, c.ok("job", "show", uid), "a slip")
	c.fails(cli.ExitConflict, []string{"job", "cancel", uid}, "cancelled")
	require.Equal(t, "cancelled", field(c.ok("job", "retry", uid, "-o", "json"), "was"))
	again, _ := field(c.ok("job", "rerun", uid, "-o", "json"), "uid").(string)
	require.NotEqual(t, uid, again)
	require.JSONEq(t, `[]`, c.ok("worker", "list", "-o", "json"))
	c.fails(cli.ExitUsage, []string{"job", "cancel", "77777"}, `job "77777": give the job's UID`)

	cmd, output := c.process("worker", "--reports", t.TempDir())
	require.NoError(t, cmd.Start())
	output.await(t, "ready")
	env.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Succeeded }) // its cancelled outcome is there already
	env.Wait(again)
	require.Contains(t, c.ok("worker", "list"), "alive")
	c.fails(cli.ExitConflict, []string{"job", "retry", uid}, "job rerun")
}
