package main

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/explain"
)

// Where the workers that live cannot take the job, the command that is named starts one that
// does. Of queue default the command was one that is refused: `headgate worker --queue default=10`.
func TestTheWorkerThatIsAdvisedBesideOthersDoesTheWork(t *testing.T) {
	t.Parallel()
	for code, sql := range map[explain.Code]string{
		explain.CodeAllDraining: `UPDATE headgate.workers SET draining = true`,
		explain.CodeNoWorkerForTwo: `WITH w AS (UPDATE headgate.workers SET queues = '{other}')
INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES (gen_random_uuid(), 'w2', 'here', 8, '{other.kind}', '{default}')`,
		explain.CodeNoWorkerQueue: `UPDATE headgate.workers SET queues = '{other}'`,
	} {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			a := newAdviser(t)
			a.alive()
			uid := a.enqueue()
			a.sql(sql)
			fact, stopped := a.has(uid, code)
			require.True(t, stopped, "%v", a.facts(uid))
			if code == explain.CodeNoWorkerQueue {
				told := finds(t, examined(t, a.commandLine, cli.ExitFailed), "central", "queue default", doctor.StateFail)
				require.Equal(t, command(t, fact.Next), command(t, told.Next), "doctor says the same")
			}
			w := a.start(append(command(t, fact.Next), "--reports", t.TempDir())...)
			require.Equal(t, jobs.Succeeded, a.env.Wait(uid).State)
			_, stopped = a.has(uid, code)
			require.False(t, stopped)
			require.Equal(t, cli.ExitOK, w.end(), w.err.String())
		})
	}
}

// A row that a forgotten session has locked is free after the statement that is named.
func TestTheSessionThatExplainNamesIsEnded(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	a.alive()
	uid := a.enqueue()
	tx, err := a.env.Pool.Begin(context.Background())
	require.NoError(t, err)
	defer func() { require.Error(t, tx.Rollback(context.Background()), "its session has been ended") }()
	_, err = tx.Exec(context.Background(), `SELECT FROM river_job FOR UPDATE`)
	require.NoError(t, err)
	for _, look := range []func() (explain.Fact, bool){func() (explain.Fact, bool) { return a.has(uid, explain.CodeRowLocked) }, func() (explain.Fact, bool) { return a.ofTenant(explain.CodeRowLocked) }} {
		require.Eventually(t, func() bool { _, locked := look(); return locked }, time.Minute, 20*time.Millisecond, "locks younger than a second may be our own")
	}
	fact, _ := a.has(uid, explain.CodeRowLocked)
	admin(t, "postgres", regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`).FindString(fact.Next))
	require.Eventually(t, func() bool { _, locked := a.has(uid, explain.CodeRowLocked); return !locked }, time.Minute, 20*time.Millisecond)
	_, locked := a.ofTenant(explain.CodeRowLocked)
	require.False(t, locked)
}

// A database that is only observed is enforced by the command that doctor names, and the
// warning is gone.
func TestAnObservedDatabaseIsEnforcedAsAdvised(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("seen", jobstest.DatabaseOpts{Observed: "before the policies"})
	told := finds(t, examined(t, c, cli.ExitOK), "database seen", "isolation", doctor.StateWarn)
	require.Contains(t, told.Says, "before the policies")
	c.ok(command(t, told.Next)...)
	finds(t, examined(t, c, cli.ExitOK), "database seen", "isolation", doctor.StateOK)
}
