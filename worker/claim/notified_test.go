package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// listening listens to the notifications of the queues from now on.
func (f *fleet) listening() *pgxpool.Conn {
	f.t.Helper()
	ctx := context.Background()
	conn, err := f.pool.Acquire(ctx)
	require.NoError(f.t, err)
	f.t.Cleanup(conn.Release)
	var schema string
	require.NoError(f.t, conn.QueryRow(ctx, `SELECT current_schema()`).Scan(&schema))
	_, err = conn.Exec(ctx, `LISTEN `+pgx.Identifier{schema + ".river_insert"}.Sanitize())
	require.NoError(f.t, err)
	return conn
}

// notified says whether a transaction that is over has notified the queue. Postgres hands
// notifications over in the order of their commits, so one of our own comes last.
func (f *fleet) notified(conn *pgxpool.Conn) (notified bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	f.exec(`SELECT pg_notify(current_schema() || '.river_insert', 'last')`)
	for {
		n, err := conn.Conn().WaitForNotification(ctx)
		require.NoError(f.t, err)
		if n.Payload == "last" {
			return notified
		}
		notified = true
	}
}

// A process that waits for a limit is woken by the process that frees something.
func TestWhoWaitsForALimitIsWoken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.queue_limits VALUES ('default', 1)`)
	f.exec(addJobs, 1, "a", 1, 1)
	f.exec(addJobs, 1, "b", 1, 1)
	has, waits := f.process(5, "a"), f.process(5, "b")
	jobs := has.claim(ctx, 5)
	require.Len(t, jobs, 1)
	listener := f.listening()
	require.Empty(t, waits.claim(ctx, 5))
	require.True(t, f.notified(listener), "who begins to wait says so: from now on others ring")
	has.finish(jobs...)
	require.Empty(t, has.claim(ctx, 5))
	require.True(t, f.notified(listener), "nobody told the one who waits")
	require.Len(t, waits.claim(ctx, 5), 1)
}

// Workers are told as soon as a change that frees capacity is committed.
func TestFreedCapacityIsTold(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(addJobs, 1, "a", 1, 1)
	p := f.process(5, "a")
	p.finish(p.claim(ctx, 5)...)
	listener := f.listening()
	require.False(t, f.notified(listener))
	for _, sql := range []string{
		`UPDATE headgate.servers SET connection_budget = 500`,
		`UPDATE headgate.servers SET state = 'down'`,
		`UPDATE headgate.servers SET state = 'open'`,
		`INSERT INTO headgate.queue_limits VALUES ('default', 1)`,
		`UPDATE headgate.queue_limits SET max_running = 9`,
		`DELETE FROM headgate.queue_limits`,
		`INSERT INTO headgate.kind_limits VALUES ('a', 1)`,
		`DELETE FROM headgate.kind_limits`,
		`INSERT INTO headgate.pauses (scope, target) VALUES ('kind', 'a')`,
		`DELETE FROM headgate.pauses`,
		`INSERT INTO headgate.pauses (scope, target) SELECT 'tenant', id::text FROM headgate.tenants`,
		`DELETE FROM headgate.pauses`,
		`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 1 FROM headgate.tenants`,
		`DELETE FROM headgate.tenant_limits`,
		`INSERT INTO headgate.plan_limits (plan, max_running) VALUES ('', 5)`,
		`DELETE FROM headgate.plan_limits`,
		`UPDATE headgate.tenants SET status = 'suspended'`,
		`UPDATE headgate.tenants SET status = 'active'`,
		`UPDATE headgate.workers SET ended_at = now()`,
	} {
		f.exec(sql)
		require.True(t, f.notified(listener), sql)
	}
	f.exec(`UPDATE headgate.servers SET hosts = hosts`)
	require.False(t, f.notified(listener), "what frees no capacity is not told")
}

// A tenant's new plan, with its limits, counts from the next claim on, and so does a
// new database, also for lanes that are awake.
func TestANewPlanCounts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 2)
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.plan_limits (plan, max_running) VALUES ('small', 1)`)
	f.exec(addJobs, 50, "a", 1, 1)
	p := f.process(20, "a")
	p.finish(p.claim(ctx, 5)...)
	f.exec(`UPDATE headgate.tenants SET plan = 'small'`)
	jobs := p.claim(ctx, 5)
	require.Len(t, jobs, 1)
	p.finish(jobs...)
	f.exec(`UPDATE headgate.tenants SET plan = ''`)
	p.finish(p.claim(ctx, 5)...)
	f.exec(`UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'd2') WHERE org_id = 1`)
	f.exec(`UPDATE headgate.servers s SET state = 'down' FROM headgate.databases d WHERE d.server_id = s.id AND d.name = 'd2'`)
	require.Empty(t, p.claim(ctx, 5), "its database is behind a server that is down")
	f.exec(`UPDATE headgate.databases SET server_id = (SELECT server_id FROM headgate.databases WHERE name = 'd1') WHERE name = 'd2'`)
	require.Len(t, p.claim(ctx, 5), 5, "the database has moved to a server that is up")
}

// A paused server's jobs wait, and nobody else's.
func TestAPausedServer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 2)
	ctx := context.Background()
	f.exec(addJobs, 10, "a", 1, 2)
	f.exec(`INSERT INTO headgate.pauses (scope, target) SELECT 'server', id::text FROM headgate.servers WHERE name = 's1'`)
	p := f.process(20, "a")
	all := p.claim(ctx, 20)
	require.Len(t, all, 5)
	for _, job := range all {
		require.Equal(t, "s2", f.servers[tenantOf(job)])
	}
	f.exec(`UPDATE headgate.pauses SET until = now()`)
	require.Len(t, p.claim(ctx, 20), 5, "the pause is over by itself")
}

// An owner that was idle for a day has its burst and no more.
func TestTokensAreNotSavedUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	ctx := context.Background()
	f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, rate, rate_period) SELECT id, 2, '2 hours' FROM headgate.tenants`)
	f.exec(`INSERT INTO headgate.lane_rates SELECT id::text, now() - interval '1 day' FROM headgate.tenants`)
	f.exec(addJobs, 40, "a", 1, 1)
	p := f.process(20, "a")
	got := 0
	for range 4 {
		f.exec(`UPDATE headgate.lanes SET active = true, wake_at = NULL`) // as if its time had come
		all := p.claim(ctx, 1)
		p.finish(all...)
		got += len(all)
	}
	require.Equal(t, 2, got, "a burst of two, one after the other")
}

// The death of a worker that drains is nobody's fault: a deployment that kills what
// does not end in time makes no suspects.
func TestADrainingWorkersDeathBlamesNobody(t *testing.T) {
	t.Parallel()
	for _, draining := range []bool{true, false} {
		f := newFleet(t, 1, 1)
		f.exec(addJobs, 2, "a", 1, 1)
		dead := f.process(5, "a")
		require.Len(t, dead.claim(context.Background(), 5), 2)
		f.exec(`UPDATE headgate.workers SET draining = $1`, draining)
		reaped := f.passes(f.keeper(f.process(5, "b"), beat), time.Now(), 0, 6)
		require.Equal(t, []string{dead.lease.Incarnation()}, reaped)
		require.Equal(t, 2, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt = 0`))
		require.Equal(t, map[bool]int{true: 0, false: 2}[draining], f.number(`SELECT count(*) FROM headgate.suspects`))
	}
}
