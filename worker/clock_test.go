package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// shadowClock puts functions of the same names in front of the database's own:
// every statement that asks for the time without naming pg_catalog gets what
// the test says.
const shadowClock = `
CREATE SCHEMA skew;
CREATE TABLE skew.clock (by interval NOT NULL);
INSERT INTO skew.clock VALUES ('0');
CREATE FUNCTION skew.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT pg_catalog.now() + by FROM skew.clock';
CREATE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + by FROM skew.clock';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = skew, pg_catalog, public', current_database()); END $$`

// The central database's clock goes two hours ahead, two hours back, to and fro,
// while jobs run, wait, are snoozed and are tried again: no worker is taken
// for dead, nothing runs twice, and nothing waits for a clock.
func TestTheDatabasesClockJumps(t *testing.T) {
	t.Parallel()
	env := jobstest.NewOn(t, jobstest.Direct(t)) // a pooler would keep sessions of the old search_path
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	open(t, db, acme.OrgID, 10)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, shadowClock)
	require.NoError(t, err)
	env.Pool.Reset() // to connections with the new search_path
	for i := range 2 {
		cfg := beatEvery(env.Config(), quickBeat)
		cfg.ID, cfg.ClockSlack, cfg.Queues = fmt.Sprintf("w%d", i), 6*time.Second, map[string]int{"default": 2}
		cfg.PollOnly = true // else a worker's sessions have a search_path of their own, and the true clock
		env.Work(&cfg, func(w *worker.Worker) {
			registerVictimKinds(w, func(string) {})
			worker.InTx(w, end)
		})
	}
	// Rows of a queue that no keeper looks after: the control.
	result, err := env.Client.Enqueue(ctx, "acme", Ending{}, enqueueTo("nobody"))
	require.NoError(t, err)

	var uids []string
	waiting := 0
	for _, jump := range []string{"2 hours", "-2 hours", "0", "3 hours", "-1 hour", "-26 hours", "0"} {
		for i := range 20 {
			var args jobs.Args = SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}, MS: 60}
			if i%5 == 4 {
				args = Ending{How: []string{"fail twice", "snooze once"}[i/5%2]}
			}
			result, err := env.Client.Enqueue(ctx, "acme", args, nil)
			require.NoError(t, err)
			uids = append(uids, result.UID)
		}
		var ahead int
		_, err = env.Pool.Exec(ctx, `UPDATE skew.clock SET by = $1::text::interval`, jump)
		require.NoError(t, err)
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE queue = 'default' AND finalized_at IS NULL AND scheduled_at > now() + interval '30 minutes'`).Scan(&ahead))
		waiting += ahead
		for _, uid := range uids[len(uids)-20:] {
			got := env.Wait(uid)
			require.Equal(t, jobs.Succeeded, got.State, got.Message)
		}
	}
	t.Logf("%d jobs lay in the future after a jump", waiting)
	require.GreaterOrEqual(t, waiting, 30, "too few jobs were waiting when the clock went back")

	var doubled, transfers, lost int
	require.NoError(t, db.Pool.QueryRow(ctx, `
SELECT count(*) - count(DISTINCT job_uid), count(DISTINCT job_uid) FROM transfers`).Scan(&doubled, &transfers))
	require.Zero(t, doubled)
	require.Equal(t, len(uids), transfers)
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM headgate.outcomes WHERE class IN ('lost_worker', 'interrupted')`).Scan(&lost))
	require.Zero(t, lost, "a live worker was taken for dead")
	var attempts int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT max(attempt) FROM headgate.outcomes WHERE kind = 'slow-transfer'`).Scan(&attempts))
	require.Equal(t, 1, attempts)
	var stalled bool
	_, err = env.Pool.Exec(ctx, `UPDATE skew.clock SET by = '-2 hours'`)
	require.NoError(t, err)
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT scheduled_at > now() + interval '1 hour' FROM river_job WHERE metadata->>'job_uid' = $1`, result.UID).Scan(&stalled))
	require.True(t, stalled, "the control does not wait for the clock, so this test proves nothing")
}
