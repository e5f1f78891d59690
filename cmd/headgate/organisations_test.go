package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// An application's table of organisations is made equal to the catalog by a job about its
// database, now or by a schedule; `job show` says what differed.
func TestOrganisations(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("shop", jobstest.DatabaseOpts{Observed: "nobody is kept apart here", Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL)`})
	c.ok("tenant", "add", "acme", "--org-id", "7", "--name", "Acme Ltd", "--database", "shop")
	c.ok("tenant", "add", "beta", "--org-id", "8", "--name", "Beta", "--database", "shop")
	require.NoError(t, db.Pool.QueryRow(t.Context(), `INSERT INTO organisations VALUES (8, 'Old'), (9, 'Nobody') RETURNING 1`).Scan(new(int)))
	work(env)

	c.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.organisations", "--tenant", "acme", "--args", `{"table": "public.organisations"}`}, "give --database instead of --tenant")
	c.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.organisations", "--database", "shop", "--args", `{"table": "organisations"}`}, `table "organisations": want schema.name`)
	c.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.organisations", "--database", "shop", "--args", `{"table": "public.organisations", "ids": "x"}`}, "unknown argument (did you mean id?)")
	uid := enqueued(t, c.ok("job", "enqueue", "headgate.organisations", "--database", "shop", "--args", `{"table": "public.organisations"}`, "-o", "json"))
	require.Equal(t, "succeeded", string(env.Wait(uid).State))
	shown := c.ok("job", "show", uid, "-o", "json")
	for _, line := range []string{"the catalog has 2 tenants here, the table had 2 rows", "missing 1, added 1: acme (org_id 7)", "different 1, changed 1: beta (org_id 8)", `too many 1, removed 0: 9 (\"Nobody\")`} {
		require.Contains(t, shown, line)
	}
	c.ok("schedule", "create", "organisations", "--database", "shop", "--kind", "headgate.organisations", "--cron", "@hourly", "--args", `{"table": "public.organisations"}`)
	c.ok("schedule", "trigger", "organisations", "--database", "shop")
	require.Contains(t, c.ok("schedule", "list"), "headgate.organisations")
}
