//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// scissors cuts the first COMMIT of each job as it was planned.
type scissors struct {
	mu   sync.Mutex
	plan map[string]fate // guarded by mu: by job UID; what is done is taken out
	done map[fate]int    // guarded by mu
}

var uidText = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

func (s *scissors) decide(l *link, sql string) fate {
	if !strings.EqualFold(strings.TrimRight(sql, "; "), "commit") {
		return pass
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, uid := range uidText.FindAllString(string(l.args), -1) {
		if f, ok := s.plan[uid]; ok {
			delete(s.plan, uid)
			s.done[f]++
			return f
		}
	}
	return pass
}

// ending is how one job went, from the history.
type ending struct {
	uid       string
	succeeded int
	recovered int
	attempts  int
	failed    int
	classes   string // of the attempts that did not succeed
}

// endings are the history's account of every job of a kind.
func endings(t *testing.T, env *jobstest.Env, kind string) map[string]ending {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `
SELECT job_uid::text, count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE recovered), max(attempt),
       count(*) FILTER (WHERE state NOT IN ('succeeded', 'snoozed')),
       coalesce(string_agg(DISTINCT class, ',' ORDER BY class) FILTER (WHERE state <> 'succeeded'), '')
FROM headgate.outcomes WHERE kind = $1 GROUP BY 1`, kind)
	require.NoError(t, err)
	list := map[string]ending{}
	for rows.Next() {
		var e ending
		require.NoError(t, rows.Scan(&e.uid, &e.succeeded, &e.recovered, &e.attempts, &e.failed, &e.classes))
		list[e.uid] = e
	}
	require.NoError(t, rows.Err())
	return list
}

// A thousand commits are cut: each job ends as its commit did, at once, with its
// effect once. Commits that never reached the server have not happened, and are
// done again. Without the ledger every lost reply doubles the effect.
func TestFaultsCutCommits(t *testing.T) {
	t.Parallel()
	cuts, nevers, bares := 1000, 200, 50
	if testing.Short() {
		cuts, nevers, bares = 50, 20, 10
	}
	chance := rand.New(rand.NewPCG(seedOf(t), 3))
	env := jobstest.New(t)
	knife := &scissors{plan: map[string]fate{}, done: map[fate]int{}}
	wire := newProxy(t, jobstest.ServerURL(t, "postgres"), knife.decide)
	// pgx sends a cancel request after a broken connection. On a busy machine it
	// overtakes a COMMIT that was just sent, which then rolls back: right, but
	// here each job's end is foretold.
	wire.deaf.Store(true)
	tenants := newTenants(t, env, "cut", 8, wire.before(t, "proxied"))

	list, planned := map[string]order{}, map[string]fate{}
	for i := range cuts + nevers + bares {
		var args jobs.Args = SlowTransfer{Transfer: upward(i)}
		f := []fate{cutReply, cutSent}[chance.IntN(2)]
		switch {
		case i >= cuts+nevers:
			args = BareTransfer{Transfer: Transfer{From: 6, To: 7, Amount: 1}}
		case i >= cuts:
			f = cutNever
		}
		uid := accept(t, env, tenants, i, args, list)
		knife.plan[uid], planned[uid] = f, f
	}
	cfg := withQueue(env.Config(), victimQueue)
	cfg.Queues[victimQueue] = 16
	cfg.Logger = quietLogger()
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	waitUntilDone(t, env, 5*time.Minute)

	require.Empty(t, knife.plan, "commits that were not cut")
	recovered, again := 0, 0
	for uid, e := range endings(t, env, "slow-transfer") {
		require.Equal(t, 1, e.succeeded, "job %s: %+v", uid, e)
		require.Zero(t, e.failed, "job %s: %+v", uid, e)
		require.Equal(t, 1, e.attempts, "an attempt was used: job %s: %+v", uid, e)
		switch {
		case e.recovered == 1 && planned[uid] != cutNever:
			require.Empty(t, e.classes, "job %s (%s): %+v", uid, planned[uid], e)
			recovered++
		case e.recovered == 0 && planned[uid] == cutNever:
			require.Equal(t, string(jobs.ClassInterrupted), e.classes, "job %s (%s): %+v", uid, planned[uid], e)
			again++
		default:
			t.Errorf("job %s (%s): %+v", uid, planned[uid], e)
		}
	}
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	bareDoubled, _, _ := audit(t, tenants, list, "bare-transfer")
	t.Logf("commits: %d replies lost, %d cut when sent, %d never sent; %d resolved within the attempt, %d done again; %d doubled, %d missing of %d; without the ledger %d of %d doubled",
		knife.done[cutReply], knife.done[cutSent], knife.done[cutNever], recovered, again, doubled, missing, of, bareDoubled, bares)
	require.Zero(t, doubled)
	require.Zero(t, missing)
	require.Equal(t, cuts+nevers, of)
	require.Equal(t, nevers, again)
	require.Equal(t, cuts, recovered)
	replay(t, tenants, list)
	require.Equal(t, bares, bareDoubled, "the control: each lost reply must double an effect without the ledger")
}

// COMMIT hangs because a synchronous standby is away. Its connection is lost
// meanwhile, or the attempt's time is up, and the cancel request that would end
// the wait is lost too (a statement timeout does not end it: Postgres takes that
// off before it commits). What becomes of it is open, so the job waits and uses
// no attempt. When the standby is not asked for any more, each has ended once.
func TestFaultsHangingCommits(t *testing.T) {
	t.Parallel()
	const n = 10
	ctx := context.Background()
	server := startPostgres(t, localpg.Config{})
	env := jobstest.New(t)
	knife := &scissors{plan: map[string]fate{}, done: map[fate]int{}}
	wire := newProxy(t, server.URL(""), knife.decide)
	wire.deaf.Store(true)
	tenants := newTenants(t, env, "sync", 2*n, &jobstest.Postgres{Name: "sync", URL: server.URL, Via: wire.port})
	standby := func(name string) {
		_, err := tenants[0].db.Pool.Exec(ctx, `ALTER SYSTEM SET synchronous_standby_names = '`+name+`'`)
		require.NoError(t, err)
		_, err = tenants[0].db.Pool.Exec(ctx, `SELECT pg_reload_conf()`)
		require.NoError(t, err)
	}
	t.Cleanup(func() { standby("") })
	standby("absent")

	list, late := map[string]order{}, map[string]bool{}
	for i := range 2 * n {
		args := SlowTransfer{Transfer: Transfer{From: 1, To: 2, Amount: 1}} // each in its own tenant: none waits for another
		if i >= n {
			opts := enqueueTo(victimQueue)
			opts.Timeout = 6 * time.Second
			late[acceptWith(t, env, tenants, i, args, list, opts)] = true
			continue
		}
		knife.plan[accept(t, env, tenants, i, args, list)] = cutSent
	}
	cfg := withQueue(env.Config(), victimQueue)
	cfg.Queues[victimQueue], cfg.LockTimeout, cfg.Logger = 2*n, 300*time.Millisecond, quietLogger()
	env.Work(&cfg, func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })
	asked := map[string]bool{} // told "not decided yet"
	for uid := range list {
		env.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed && o.Class == jobs.ClassConflict })
		asked[uid] = true
	}
	var open int
	require.NoError(t, tenants[0].db.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&open))
	require.Equal(t, 2*n, open, "commits that hang")
	standby("")
	waitUntilDone(t, env, time.Minute)

	require.Equal(t, n, knife.done[cutSent])
	for uid, e := range endings(t, env, "slow-transfer") {
		require.Equal(t, 1, e.succeeded, "job %s: %+v", uid, e)
		require.Zero(t, e.failed, "job %s: %+v", uid, e)
		require.Equal(t, 1, e.attempts, "an attempt was used: job %s: %+v", uid, e)
		require.Equal(t, 1, e.recovered, "job %s: %+v", uid, e)
	}
	doubled, missing, of := audit(t, tenants, list, "slow-transfer")
	t.Logf("%d commits hung, %d of them until the attempt's time was up; %d jobs were told that it is not decided yet, and then found done; %d doubled, %d missing of %d",
		open, len(late), len(asked), doubled, missing, of)
	require.Zero(t, doubled)
	require.Zero(t, missing)
	replay(t, tenants, list)
}

// newTenants makes n tenants in one shared database on a server.
func newTenants(t *testing.T, env *jobstest.Env, name string, n int, on *jobstest.Postgres) (tenants []bankTenant) {
	t.Helper()
	db := env.Database(name, jobstest.DatabaseOpts{Schema: schema, On: on})
	for i := range n {
		tenant := env.Tenant(fmt.Sprintf("%s-%d", name, i), name)
		open(t, db, tenant.OrgID, 10)
		tenants = append(tenants, bankTenant{tenant, db})
	}
	return tenants
}

// startPostgres runs a server of the test's own.
func startPostgres(t *testing.T, cfg localpg.Config) *localpg.Server {
	t.Helper()
	server, err := localpg.Start(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return server
}
