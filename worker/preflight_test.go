package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// A shared database does no work from the moment when a worker sees that it does not keep
// its tenants apart, also on a connection that stays warm. The jobs wait, use no attempt,
// and go on when that is mended.
func TestAnUnprotectedDatabaseDoesNoWork(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("shared", jobstest.DatabaseOpts{Schema: schema, On: jobstest.Direct(t)})
	env.Tenant("acme", "shared")
	ctx := context.Background()
	other := pgx.Identifier{db.Job.User + "_app"}.Sanitize()
	exec := func(sql string) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	exec(`CREATE ROLE ` + other + `; GRANT SELECT ON transfers TO ` + other)
	t.Cleanup(func() { exec(`DROP OWNED BY ` + other + `; DROP ROLE ` + other) })
	cfg := env.Config()
	cfg.Tenants.ProtectedFor = 20 * time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, escape) })
	run := func() jobs.EnqueueResult {
		t.Helper()
		result, err := env.Client.Enqueue(ctx, "acme", Escape{SQL: `SELECT 1`}, nil)
		require.NoError(t, err)
		return result
	}
	require.Equal(t, jobs.Succeeded, env.Wait(run().UID).State)
	const policy = `CREATE POLICY org ON transfers AS RESTRICTIVE TO headgate_job USING (org_id = (SELECT headgate.current_org()))`
	exec(`DROP POLICY org ON transfers; CREATE POLICY others ON transfers USING (true); ` + policy)
	job := pgx.Identifier{db.Job.User}.Sanitize()
	for name, c := range map[string]struct{ open, mend string }{
		"a policy is dropped":           {`DROP POLICY org ON transfers`, policy},
		"a policy binds nothing":        {`ALTER POLICY org ON transfers USING (true)`, `DROP POLICY org ON transfers; ` + policy},
		"a membership":                  {`GRANT ` + other + ` TO ` + job, `REVOKE ` + other + ` FROM ` + job},
		"row-level security is off":     {`ALTER TABLE transfers DISABLE ROW LEVEL SECURITY`, `ALTER TABLE transfers ENABLE ROW LEVEL SECURITY`},
		"a function with other rights":  {`CREATE FUNCTION everything() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM transfers'`, `DROP FUNCTION everything`},
		"a table without a policy":      {`CREATE TABLE later (org_id bigint); GRANT SELECT ON later TO headgate_job`, `DROP TABLE later`},
		"a view with its owner's right": {`CREATE VIEW all_transfers AS SELECT * FROM transfers; GRANT SELECT ON all_transfers TO headgate_job`, `DROP VIEW all_transfers`},
		"a role that passes by":         {`ALTER ROLE ` + job + ` BYPASSRLS`, `ALTER ROLE ` + job + ` NOBYPASSRLS`},
	} {
		exec(c.open)
		opened := time.Now()
		var waits jobs.EnqueueResult
		for { // what has begun before the worker looked again may succeed
			waits = run()
			held := env.WaitFor(waits.UID, func(jobs.Outcome) bool { return true })
			if held.State == jobs.Succeeded && held.StartedAt.Sub(opened) < time.Second {
				continue
			}
			require.Equal(t, jobs.Snoozed, held.State, "%s: %s", name, held.Message)
			require.Equal(t, jobs.ClassUnprotected, held.Class, "%s: %s", name, held.Message)
			require.Contains(t, held.Message, "`headgate database protect shared`", name)
			break
		}
		exec(c.mend)
		done := env.Wait(waits.UID)
		require.Equal(t, jobs.Succeeded, done.State, "%s: %s", name, done.Message)
		require.Equal(t, 1, done.Attempt, name)
	}

	exec(`ALTER TABLE transfers DISABLE ROW LEVEL SECURITY`)
	_, err := env.Catalog.SetProtection(ctx, catalog.ProtectionChange{Database: "shared", To: catalog.ProtectionObserved})
	require.ErrorContains(t, err, "reason")
	_, err = env.Catalog.SetProtection(ctx, catalog.ProtectionChange{Database: "shared", To: catalog.ProtectionObserved, Reason: "the move of October"})
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, env.Wait(run().UID).State, "what is observed runs")
}
