package worker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// variation is a default that somebody has set for a database, central or a tenant's.
type variation struct{ name, value string }

// variations are met by every run of the chaos from outside, each by some databases.
var variations = []variation{
	{"datestyle", "SQL, DMY"}, {"intervalstyle", "sql_standard"}, {"bytea_output", "escape"}, {"extra_float_digits", "0"},
	{"timezone", "Pacific/Kiritimati"}, {"lock_timeout", "8s"}, {"statement_timeout", "30s"}, {"idle_in_transaction_session_timeout", "20s"},
	{"transform_null_equals", "on"}, {"plan_cache_mode", "force_generic_plan"}, {"default_transaction_deferrable", "on"}, {"client_encoding", "LATIN1"},
	{"default_transaction_isolation", "repeatable read"}, {"default_transaction_isolation", "serializable"}, {"standard_conforming_strings", "off"},
}

// encodings are those of which a tenant's database has one; "" is UTF8.
var encodings = []string{"", "LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"}

// vary gives each database a third of the variations, by chance.
func vary(t *testing.T, env *jobstest.Env, tenants []bankTenant, chance *rand.Rand) {
	t.Helper()
	var central string
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT current_database()`).Scan(&central))
	databases := []string{central}
	for _, bt := range tenants {
		if name := bt.db.Job.Database; !slices.Contains(databases, name) {
			databases = append(databases, name)
		}
	}
	for _, name := range databases {
		said := ""
		for _, v := range variations {
			if chance.IntN(3) > 0 || name == central && v.name == "client_encoding" { // which an application's pool is refused with
				continue
			}
			said += fmt.Sprintf(" %s=%q", v.name, v.value)
			_, err := env.Pool.Exec(context.Background(), fmt.Sprintf(`ALTER DATABASE %s SET %s TO '%s'`, pgx.Identifier{name}.Sanitize(), v.name, v.value))
			require.NoError(t, err)
		}
		t.Logf("database %s:%s", name, said)
	}
}

// outsider does by chance what people, time and networks do to jobs while workers
// die: cancels them, lets tenants rest, lets a month pass for one that rests, and ends
// sessions.
type outsider struct {
	env     *jobstest.Env
	tenants []bankTenant
	chance  *rand.Rand

	cancelled map[string]bool // by UID: the answer was that it is cancelled
	aged      map[int]bool    // tenants for whom a month has passed
	resting   map[int]int     // tenants that are paused, and for how many more steps
	counts    map[string]int
}

// maxRunning is the limit of the tenants that have one: the first two, for whom no
// month passes, since their ledger's times tell what ran at once.
const maxRunning, limited = 2, 2

func (o *outsider) run(t *testing.T, every time.Duration, over *atomic.Bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !over.Load() {
		<-tick.C
		if err := o.step(context.Background()); err != nil {
			t.Errorf("from outside: %v", err)
			break
		}
	}
	for i := range o.resting {
		if _, err := o.env.Admission.Resume(context.Background(), admission.OfTenant, o.tenants[i].tenant.Slug); err != nil {
			t.Errorf("resuming: %v", err)
		}
	}
	t.Logf("from outside: %v", o.counts)
}

func (o *outsider) step(ctx context.Context) error {
	for i, steps := range o.resting {
		if o.resting[i]--; steps > 0 {
			continue
		}
		delete(o.resting, i)
		if _, err := o.env.Admission.Resume(ctx, admission.OfTenant, o.tenants[i].tenant.Slug); err != nil {
			return err
		}
	}
	switch n := o.chance.IntN(20); {
	case n < 12:
		return o.cancel(ctx)
	case n < 15:
		i := o.chance.IntN(len(o.tenants))
		if _, rests := o.resting[i]; rests {
			return nil
		}
		o.resting[i] = 5 + o.chance.IntN(60)
		o.counts["rests"]++
		_, err := o.env.Admission.Pause(ctx, admission.OfTenant, o.tenants[i].tenant.Slug, nil)
		return err
	case n < 17:
		for i := range o.resting {
			if i >= limited {
				return o.month(ctx, i)
			}
		}
		return nil
	}
	return o.endSession(ctx)
}

const anyOpenJob = `
SELECT metadata->>'job_uid' FROM river_job
WHERE kind = 'slow-transfer' AND finalized_at IS NULL ORDER BY NOT (attempted_at IS NOT NULL AND state <> 'running'), random() LIMIT 1`

// cancel cancels a job: one between two attempts, if there is one, else any.
func (o *outsider) cancel(ctx context.Context) error {
	var uid string
	err := o.env.Pool.QueryRow(ctx, anyOpenJob).Scan(&uid)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	result, err := o.env.Client.Cancel(ctx, uid, &jobs.CancelOpts{Actor: "chaos"})
	switch {
	case errors.Is(err, jobs.ErrJobFinished):
		return nil
	case err != nil:
		return err
	}
	o.counts["cancels answered "+string(result.State)]++
	o.cancelled[uid] = o.cancelled[uid] || result.State == "cancelled"
	return nil
}

// monthPasses are statements by which a month passes for a tenant, but for what is
// happening just now. The ledger forgets as by its own rule.
var monthPasses = struct{ ledger, forget, waiting, running string }{
	`UPDATE headgate.ledger SET begun_at = begun_at - interval '31 days', done_at = done_at - interval '31 days' WHERE org_id = $1 AND begun_at < now() - interval '10 seconds'`,
	`DELETE FROM headgate.ledger WHERE org_id = $1 AND begun_at < now() - interval '30 days' AND state <> 'claimed'`,
	`UPDATE river_job SET metadata = jsonb_set(metadata, '{open_since}', to_jsonb((metadata->>'open_since')::bigint - 31 * 86400)) WHERE metadata->>'tenant' = $1 AND metadata ? 'open_since' AND finalized_at IS NULL`,
	`UPDATE river_job SET attempted_at = attempted_at - interval '31 days' WHERE metadata->>'tenant' = $1 AND state = 'running' AND attempted_at < now() - interval '10 seconds'`,
}

// month lets a month pass for a tenant that rests: first for its jobs, then its ledger.
func (o *outsider) month(ctx context.Context, i int) error {
	o.counts["months"]++
	o.aged[i] = true
	bt := o.tenants[i]
	for _, sql := range []string{monthPasses.waiting, monthPasses.running} {
		if err := committed(ctx, o.env.Pool, sql, bt.tenant.ID); err != nil {
			return fmt.Errorf("a month passes: %w", err)
		}
	}
	for _, sql := range []string{monthPasses.ledger, monthPasses.forget} {
		if err := committed(ctx, bt.db.Pool, sql, bt.tenant.OrgID); err != nil {
			return fmt.Errorf("a month passes: %w", err)
		}
	}
	return nil
}

// endOne leaves the central sessions of a worker that has only just started alone:
// without them a worker does not start, and says so.
const endOne = `
SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity
    WHERE datname = $1 AND (usename = $2 OR split_part(application_name, '/', 1) IN (SELECT worker FROM headgate.workers WHERE beats > 4 AND worker LIKE 'victim-%')) ORDER BY random() LIMIT 1) s`

// endSession ends a session of a victim's, in a tenant's database or the central one.
func (o *outsider) endSession(ctx context.Context) error {
	name, role := o.env.Pool.Config().ConnConfig.Database, ""
	if o.chance.IntN(3) > 0 {
		bt := o.tenants[o.chance.IntN(len(o.tenants))]
		name, role = bt.db.Job.Database, bt.db.Job.User
	}
	var n int
	err := o.env.Pool.QueryRow(ctx, endOne, name, role).Scan(&n)
	o.counts["sessions ended"] += n
	return err
}

// runFromOutside is run with an outsider beside the faults, and each final state
// compared with the tenants' databases.
func (c chaos) runFromOutside(t *testing.T, every time.Duration) {
	t.Helper()
	ctx, seed := context.Background(), seedOf(t)
	chance, of := rand.New(rand.NewPCG(seed, 3)), make([]string, 6)
	for i := range of {
		of[i] = encodings[chance.IntN(len(encodings))]
	}
	t.Logf("encodings of the tenants' databases: %q", of)
	env, tenants := newBankOf(t, of)
	vary(t, env, tenants, chance)
	_, err := env.Catalog.SetServer(ctx, jobstest.Server, catalog.ServerChange{Budget: new(150)})
	require.NoError(t, err)
	for _, bt := range tenants[:limited] {
		_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.tenant_limits (tenant_id, max_running) VALUES ($1, $2)`, bt.tenant.ID, maxRunning)
		require.NoError(t, err)
	}
	c.named = true
	cfg := withQueue(env.Config(), "survivor")
	cfg.Logger = quietLogger()
	env.Work(ptr(beatEvery(cfg, c.beat)), func(w *worker.Worker) { registerVictimKinds(w, func(string) {}) })

	var struck, over atomic.Bool
	accepted, gone := make(chan map[string]order, 1), make(chan struct{})
	go func() { accepted <- c.openLoop(t, env, tenants, rand.New(rand.NewPCG(seed, 2)), &struck) }()
	o := &outsider{env: env, tenants: tenants, chance: rand.New(rand.NewPCG(seed, 4)),
		cancelled: map[string]bool{}, aged: map[int]bool{}, resting: map[int]int{}, counts: map[string]int{}}
	go func() {
		defer close(gone)
		o.run(t, every, &over)
	}()
	c.strike(t, env, rand.New(rand.NewPCG(seed, 1)), accepted, &struck)
	list := <-accepted
	over.Store(true)
	<-gone
	waitUntilDone(t, env, c.settle)
	o.judge(t, list)
}

// final is how a job ended, in the queue, the history and its tenant's database.
type final struct {
	uid, state, told string
	class            jobs.Class
	effects          int
	done             bool // its ledger says so
}

const finalStates = `
SELECT j.metadata->>'job_uid', j.state::text, coalesce(o.state, ''), coalesce(o.class, '')
FROM river_job j
LEFT JOIN LATERAL (SELECT state, class FROM headgate.outcomes o WHERE o.job_uid = (j.metadata->>'job_uid')::uuid AND o.state <> 'snoozed' AND o.state <> 'failed'
                   ORDER BY ended_at DESC, id DESC LIMIT 1) o ON true
WHERE j.kind = 'slow-transfer'`

// finals collects them.
func (o *outsider) finals(t *testing.T) map[string]*final {
	t.Helper()
	ctx := context.Background()
	all := map[string]*final{}
	rows, err := o.env.Pool.Query(ctx, finalStates)
	require.NoError(t, err)
	var f final
	_, err = pgx.ForEachRow(rows, []any{&f.uid, &f.state, &f.told, &f.class}, func() error { all[f.uid] = ptr(f); return nil })
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, bt := range o.tenants {
		if seen[bt.db.ID] {
			continue
		}
		seen[bt.db.ID] = true
		for _, sql := range []string{`SELECT job_uid::text, true FROM transfers`, `SELECT job_uid::text, false FROM headgate.ledger WHERE state = 'done' AND step = ''`} {
			rows, err := bt.db.Pool.Query(ctx, sql)
			require.NoError(t, err)
			var uid string
			var effect bool
			_, err = pgx.ForEachRow(rows, []any{&uid, &effect}, func() error {
				if f := all[uid]; f != nil && effect {
					f.effects++
				} else if f != nil {
					f.done = true
				}
				return nil
			})
			require.NoError(t, err)
		}
	}
	return all
}

// judge asserts that what is said of each job is true.
func (o *outsider) judge(t *testing.T, list map[string]order) {
	t.Helper()
	all, counts := o.finals(t), map[string]int{}
	for uid, order := range list {
		f, wrong := all[uid], ""
		if order.kind != (SlowTransfer{}).Kind() {
			continue
		}
		switch {
		case f == nil:
			wrong = "lost"
		case f.effects > 1:
			wrong = "doubled"
		case f.state == "completed":
			counts["succeeded"]++
			if f.effects != 1 || f.told != "succeeded" || !f.done && !o.aged[order.tenant] {
				wrong = "succeeded without its effect"
			}
		case f.state == "cancelled" && f.class == jobs.ClassUnsafe:
			counts["unsafe"]++
			if !o.aged[order.tenant] {
				wrong = "unsafe without a month"
			}
		case f.state == "cancelled":
			counts["cancelled"]++
			if f.effects != 0 || f.done || f.told != "cancelled" {
				wrong = "cancelled with its effect"
			}
		default:
			wrong = "ended as nobody asked"
		}
		if f != nil && o.cancelled[uid] && f.effects > 0 {
			wrong = "answered to be cancelled, with its effect"
		}
		if wrong != "" {
			counts["wrong"]++
			t.Errorf("job %s of tenant %d: %s: %+v", uid, order.tenant, wrong, f)
		}
	}
	var attempts int
	require.NoError(t, o.env.Pool.QueryRow(context.Background(), `SELECT max(attempt) FROM headgate.outcomes WHERE kind = 'slow-transfer'`).Scan(&attempts))
	most := o.overlap(t, list)
	t.Logf("%d jobs: %v; attempts used %d; at most %d of a limit of %d at once", len(all), counts, attempts-1, most, maxRunning)
	require.Equal(t, 1, attempts, "a fault used an attempt")
	require.NotZero(t, counts["cancelled"])
	require.LessOrEqual(t, most, maxRunning)
}

// overlap is how many jobs of a limited tenant were at work at once, by the times that
// their own database has written, without those whose worker was lost or stopped.
func (o *outsider) overlap(t *testing.T, list map[string]order) (most int) {
	t.Helper()
	ctx := context.Background()
	rows, err := o.env.Pool.Query(ctx, `
SELECT metadata->>'job_uid', (args->>'ms')::int FROM river_job j
WHERE kind = 'slow-transfer' AND NOT EXISTS (SELECT FROM headgate.outcomes o WHERE o.job_uid = (j.metadata->>'job_uid')::uuid AND o.state = 'snoozed')`)
	require.NoError(t, err)
	took := map[string]int{}
	var uid string
	var ms int
	_, err = pgx.ForEachRow(rows, []any{&uid, &ms}, func() error { took[uid] = ms; return nil })
	require.NoError(t, err)
	for _, bt := range o.tenants[:limited] {
		type edge struct {
			at    time.Time
			delta int
		}
		var edges []edge
		rows, err := bt.db.Pool.Query(ctx, `SELECT t.job_uid::text, t.at, l.done_at FROM transfers t JOIN headgate.ledger l USING (org_id, job_uid) WHERE org_id = $1`, bt.tenant.OrgID)
		require.NoError(t, err)
		var from, until time.Time
		_, err = pgx.ForEachRow(rows, []any{&uid, &from, &until}, func() error {
			if ms, ok := took[uid]; ok && list[uid].kind == (SlowTransfer{}).Kind() {
				edges = append(edges, edge{from.Add(-time.Duration(ms) * time.Millisecond), 1}, edge{until, -1})
			}
			return nil
		})
		require.NoError(t, err)
		slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
		now := 0
		for _, e := range edges {
			now += e.delta
			most = max(most, now)
		}
	}
	return most
}

// People cancel, tenants rest, months pass and sessions end while workers are killed
// and stopped: what is said of each job in the end is true by its ledger. The full
// size is TestFaultsChaosFromOutside.
func TestWhatIsSaidOfEachJobIsTrue(t *testing.T) {
	t.Parallel()
	chaos{
		beat: quickBeat, workers: 3, survivor: true,
		jobs: 160, pace: 40 * time.Millisecond,
		faults: 10, every: 450 * time.Millisecond, stopShare: 0.4, stopFor: 3 * time.Second,
		settle: time.Minute,
	}.runFromOutside(t, 80*time.Millisecond)
}
