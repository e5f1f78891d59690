package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
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

// Doctor holds each table of organisations that a schedule keeps against the catalog, and
// writes nothing. What it advises makes the table equal.
func TestDoctorComparesOrganisations(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("shop", jobstest.DatabaseOpts{Observed: "nobody is kept apart here", Schema: `
		CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, org_key text);
		CREATE TABLE others (org_id bigint PRIMARY KEY, name text NOT NULL)`})
	acme, bolt := env.Tenant("acme", "shop"), env.Tenant("bolt", "shop")
	c.ok("schedule", "create", "organisations", "--database", "shop", "--kind", "headgate.organisations", "--cron", "@yearly", "--args", `{"table": "public.organisations", "key": "org_key", "report_only": true}`)
	rows := func() string {
		return ask(t, db.Job.Database, `SELECT coalesce(string_agg(org_id || ' ' || coalesce(org_key, ''), ', ' ORDER BY org_id), '') FROM organisations`)
	}
	right := fmt.Sprintf("%d %s, %d %s", acme.OrgID, acme.OrgKey, bolt.OrgID, bolt.OrgKey)
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO organisations SELECT $1, $2, 'another key' UNION ALL SELECT 77, 'Nobody', ''`, acme.OrgID, acme.Name)
	require.NoError(t, err)
	before := rows()
	work(env)
	c.ok("schedule", "pause", "organisations", "--database", "shop")
	told := finds(t, examined(t, c, cli.ExitOK), "database shop", "organisations", doctor.StateWarn)
	require.Contains(t, told.Says, fmt.Sprintf(`missing 1: bolt (org_id %d); different 1: acme (org_id %d); too many 1: 77 ("Nobody")`, bolt.OrgID, acme.OrgID))
	require.Equal(t, before, rows())

	args := `{"table":"public.organisations","key":"org_key"}`
	last := env.Wait(enqueued(t, c.ok(append(advice(t, told.Next, 0, map[string]string{"'" + args + "'": args}), "-o", "json")...)))
	require.Equal(t, "succeeded", string(last.State), last.Message)
	require.Equal(t, right+", 77 ", rows())
	told = finds(t, examined(t, c, cli.ExitOK), "database shop", "organisations", doctor.StateWarn)
	require.Contains(t, told.Says, `table public.organisations differs from the catalog: too many 1: 77 ("Nobody")`)
	_, err = db.Pool.Exec(t.Context(), `DELETE FROM organisations WHERE org_id = 77`)
	require.NoError(t, err)
	finds(t, examined(t, c, cli.ExitOK), "database shop", "organisations", doctor.StateOK)

	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE organisations IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	told = finds(t, examined(t, c, cli.ExitOK), "database shop", "organisations", doctor.StateWarn)
	require.Contains(t, told.Says, "could not be compared with the catalog", "a table that somebody keeps locked does not keep doctor")
}
