package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// Whatever somebody has written into the queue, the commands answer, and say what
// stands there.
func TestOddRowsAreShown(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated"})
	acme := env.Tenant("acme", "db")
	columns := map[string][2]string{ // by column: its literal, and what the table shows
		"scheduled_at": {`'infinity'`, "infinity"},
		"created_at":   {`'-infinity'`, "-infinity"},
		"attempted_at": {`'infinity'`, ""},
		"attempt":      {`'-32768'`, "-32768"},
		"tags":         {`'{{a,NULL},{b,c}}'`, "a, b, c"},
		"args":         {`'[null]'`, "[null]"},
		"errors":       {`'{NULL}'`, ""},
		"attempted_by": {`'{{a,b}}'`, ""},
		"metadata":     {`jsonb_build_object('job_uid', repeat('-', 36), 'tenant', repeat('-', 36))`, ""},
		"id":           {`-7`, "ffffffff-ffff-8fff-89"},
	}
	_, err := env.Pool.Exec(context.Background(), fmt.Sprintf(`INSERT INTO river_job (kind, args, max_attempts, state, metadata) VALUES ('plain', '{}', 3, 'scheduled', jsonb_build_object('tenant', '%s'))`, acme.ID))
	require.NoError(t, err)
	for column, odd := range columns {
		row := map[string]string{"metadata": fmt.Sprintf(`jsonb_build_object('tenant', '%s')`, acme.ID)}
		row[column] = odd[0]
		names, values := "kind, args, max_attempts, state", "'odd', '{}', 3, 'scheduled'"
		if column == "args" {
			names, values = "kind, max_attempts, state", "'odd', 3, 'scheduled'"
		}
		for name, value := range row {
			names, values = names+", "+name, values+", "+value
		}
		var id int64
		require.NoError(t, env.Pool.QueryRow(context.Background(), fmt.Sprintf(`INSERT INTO river_job (%s) VALUES (%s) RETURNING id`, names, values)).Scan(&id), column)
		uid := env.UIDOf(id)
		for _, output := range cli.Formats {
			require.NotEmpty(t, c.ok("job", "list", "-o", output), "%s as %s", column, output)
			require.NotEmpty(t, c.ok("job", "show", "-o", output, "--", uid), "%s as %s", column, output)
			require.NotEmpty(t, c.ok("job", "explain", "-o", output, "--", uid), "%s as %s", column, output)
		}
		require.Contains(t, c.ok("job", "show", "--", uid), odd[1], column)
		require.NotEmpty(t, c.ok("job", "list", "--tenant", "acme"))
		require.NotEmpty(t, c.ok("tenant", "explain", "acme"))
	}
	for _, output := range cli.Formats {
		list := c.ok("job", "list", "-o", output)
		require.Contains(t, list, "infinity", output)
		if output == "json" {
			require.Contains(t, list, `"scheduled_at": "infinity"`)
			require.Contains(t, list, `"enqueued_at": "-infinity"`)
			require.True(t, json.Valid([]byte(list)))
		}
	}
	var found []struct{ UID string }
	require.NoError(t, json.Unmarshal([]byte(c.ok("job", "list", "-o", "json")), &found))
	require.Len(t, found, len(columns)+1)
	for _, job := range found {
		require.Contains(t, c.ok("job", "cancel", "--", job.UID), "cancell") // or cancelling, where an attempt began
	}
}

// A worker whose claims fail is a failure; one of an older version does not say.
func TestDoctorSeesClaimsFail(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	work := func(name, claims string) {
		_, err := env.Pool.Exec(context.Background(),
			`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues, claims) VALUES (gen_random_uuid(), $1, '', 1, '{}', '{}', $2)`, name, claims)
		require.NoError(t, err)
	}
	work("older", `{"claims": 3}`)
	work("unlucky", `{"failing": [{"queue": "default", "since": "2026-11-28T18:00:00Z", "times": 1, "error": "once"}]}`)
	require.Equal(t, "no worker's claims fail", finds(t, examined(t, c, cli.ExitOK), "central", "claims", doctor.StateOK).Says)
	work("broken", `{"failing": [{"queue": "bulk", "since": "2026-11-28T18:00:00Z", "times": 7, "error": "no such table"}]}`)
	found := finds(t, examined(t, c, cli.ExitFailed), "central", "claims", doctor.StateFail)
	require.Equal(t, "claims of queue bulk fail on worker broken since 2026-11-28 18:00:00 UTC, 7 in a row: no such table", found.Says)
	require.Contains(t, found.Next, "`headgate worker list` shows whose claims fail and why")
	require.Contains(t, c.run("worker", "list").err, "broken: 7 claims of queue bulk have failed in a row: no such table") // the advice holds
}
