package claim_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
)

// A limit, a pause, a suspension or a move that commits while a claim makes the
// tenant's first lane, and so has woken no lane, holds from the next sweep on.
func TestASweepFindsLanesWithAnOldCopy(t *testing.T) {
	t.Parallel()
	for what, want := range map[string]int{
		`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 1 FROM headgate.tenants`:                                                      2, // of two tenants
		`INSERT INTO headgate.plan_limits (plan, max_running) SELECT DISTINCT plan, 1 FROM headgate.tenants`:                                                  2, // of two tenants
		`INSERT INTO headgate.pauses (scope, target) SELECT 'tenant', id::text FROM headgate.tenants`:                                                         0,
		`WITH f AS (INSERT INTO headgate.features (name, type) VALUES ('x', 'boolean')) INSERT INTO headgate.feature_gates (feature, kind) VALUES ('x', 'a')`: 0,
		`UPDATE headgate.plans SET kinds = '{}'`:           0,
		`UPDATE headgate.tenants SET status = 'suspended'`: 0,
		`UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'd2') WHERE slug = 't1'`:                 20,
		`UPDATE headgate.databases SET server_id = (SELECT server_id FROM headgate.databases WHERE name = 'd2') WHERE name IN ('d1', 'd2')`: 20,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, 2)
			p := f.process(50, "a")
			ctx := context.Background()
			open := f.hold(what)
			f.exec(addJobs, 60, "a", 1, 2)
			p.finish(p.claim(ctx, 5)...) // not committed yet
			require.NoError(t, open.Commit(ctx))
			_, err := claim.SweepLanes(f.keeper(p, time.Second), ctx)
			require.NoError(t, err)
			require.Len(t, p.claim(ctx, 20), want)
			require.Zero(t, f.number(`
SELECT count(*) FROM headgate.lanes l JOIN headgate.tenants t ON t.id::text = l.lane JOIN headgate.databases d ON d.id = t.database_id
WHERE d.server_id <> l.server_id OR d.id <> l.database_id`))
		})
	}
}

// What comes to a queue that nobody serves costs the claims of others nothing after a
// sweep, and is found by the first worker that serves it.
func TestAQueueThatNobodyServesHasNoWakeups(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	p := f.process(10, "a")
	k := f.keeper(p, time.Second)
	ctx := context.Background()
	strangers := func(n int) {
		f.exec(`DO $$ BEGIN FOR i IN 1..` + strconv.Itoa(n) + ` LOOP
    INSERT INTO river_job (kind, args, max_attempts, queue, metadata) SELECT 'a', '{}', 25, 'others', jsonb_build_object('tenant', id) FROM headgate.tenants;
END LOOP; END $$`)
	}
	wakeups := `SELECT count(*) FROM headgate.wakeups`
	strangers(50)
	require.Equal(t, 100, f.number(wakeups))
	sweep := func() {
		_, err := claim.SweepLanes(k, ctx)
		require.NoError(t, err)
	}
	sweep()
	require.Zero(t, f.number(wakeups), "the sweep takes away what nobody consumes")
	strangers(50)
	require.Zero(t, f.number(wakeups), "and from then on there are none")
	f.exec(`UPDATE river_job SET state = 'retryable' WHERE queue = 'others'`)
	f.exec(`UPDATE river_job SET state = 'available' WHERE queue = 'others'`)
	require.Zero(t, f.number(wakeups))
	sweep()
	require.Zero(t, f.number(wakeups))
	f.exec(addJobs, 2, "a", 1, 2)
	require.Len(t, p.claim(ctx, 10), 2, "others go on")

	late := f.process(200, "a")
	f.exec(`UPDATE headgate.workers SET queues = '{others}' WHERE incarnation = $1`, late.lease.Incarnation())
	require.Len(t, late.beside("others").claim(ctx, 200), 200, "a worker that begins to serve it finds all")
	strangers(1)
	require.Equal(t, 2, f.number(wakeups))
	sweep()
	require.Equal(t, 2, f.number(wakeups))
}

// A tenant that has used slots which nobody else wanted, and rested, waits no longer
// beside another's backlog than one that has used next to nothing.
func TestWhatNobodyElseWantedIsNotHeldAgainstATenant(t *testing.T) {
	t.Parallel()
	before := map[float64]int{}
	for _, used := range []float64{0.2, 60, 180} {
		f := newFleet(t, 2, 1)
		ctx := context.Background()
		p := f.process(20, "a")
		clock := time.Now()
		claim.SetClock(p.lease, func() time.Time { return clock })
		f.exec(addJobs, 20, "a", 1, 1)
		jobs := p.claim(ctx, 20)
		require.Len(t, jobs, 20)
		clock = clock.Add(time.Duration(used / 20 * float64(time.Second))) // nobody else has anything to do
		p.finish(jobs...)
		for range 3 {
			p.claim(ctx, 20) // the worker is idle
			clock = clock.Add(50 * time.Millisecond)
		}
		f.exec(addJobs, 20_000, "a", 2, 2)
		f.exec(`ANALYZE river_job`)
		f.exec(addJobs, 1, "a", 1, 1)
		first := f.tenant(1)
		for found := false; !found; {
			jobs := p.claim(ctx, 20)
			require.NotEmpty(t, jobs)
			for _, job := range jobs {
				if tenantOf(job) == first {
					found = true
				} else if !found {
					before[used]++
				}
			}
			clock = clock.Add(5 * time.Millisecond)
			p.finish(jobs...)
		}
		t.Logf("after %.1f worker-seconds alone the next job waited behind %d jobs of 5 ms", used, before[used])
		require.Less(t, before[used], 100)
	}
}
