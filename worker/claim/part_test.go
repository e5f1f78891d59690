package claim_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/tenantdb"
)

// conns are a process's connections as its claims see them: each server has as many
// as it is allowed, idle but for the running jobs, and wants need more.
type conns struct {
	server  string // the only one
	mu      sync.Mutex
	need    int
	allowed map[string]tenantdb.Share
	closed  int // idle ones, because others waited
}

func (c *conns) SyncAllowance(running map[string]int, bound func(string) (int, bool), closed func()) map[string]tenantdb.Share {
	c.mu.Lock()
	defer c.mu.Unlock()
	shares := map[string]tenantdb.Share{}
	keep, wanted := bound(c.server)
	n := running[c.server]
	have := max(c.allowed[c.server].Conns, n)
	if most := max(keep, n); have > most {
		if wanted {
			c.closed += have - most
		}
		have = most
	}
	shares[c.server] = tenantdb.Share{Conns: have, Busy: n, Need: c.need}
	return shares
}

func (c *conns) RaiseAllowance(shares map[string]tenantdb.Share, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed = shares
}

func (*conns) Lapse() time.Duration { return 300 * time.Millisecond }

func (*conns) ResetBreaker(string, string) {}

// connected is a process with connections that need as many more.
func (f *fleet) connected(need, slots int) (*process, *conns) {
	c := &conns{need: need}
	require.NoError(f.t, f.pool.QueryRow(context.Background(), `SELECT id::text FROM headgate.servers`).Scan(&c.server))
	p := f.process(slots, "a")
	p.lease.Connect(c)
	return p, c
}

// published is what a process has published of the only server.
func (f *fleet) published(p *process) (s struct{ Jobs, Conns, Idle int }) {
	var raw []byte
	require.NoError(f.t, f.pool.QueryRow(context.Background(), `
SELECT s.value FROM headgate.hands, jsonb_each(hand->'servers') s WHERE incarnation = $1`, p.lease.Incarnation()).Scan(&raw))
	require.NoError(f.t, json.Unmarshal(raw, &s))
	return s
}

// A process takes what it needs of a budget, but for one connection of each other
// that lives and has none; when another waits it keeps its part.
func TestAPartOfTheBudget(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 10, 1)
	f.exec(`UPDATE headgate.servers SET connection_budget = 20`)
	ctx := context.Background()
	a, own := f.connected(100, 20)
	b, _ := f.connected(0, 20)
	f.process(20, "a") // lives, and claims nothing
	f.exec(addJobs, 5, "a", 1, 10)
	first := a.claim(ctx, 5)
	require.Equal(t, struct{ Jobs, Conns, Idle int }{5, 18, 13}, f.published(a))
	a.finish(first[1:]...)
	require.Empty(t, a.claim(ctx, 1))
	require.Equal(t, struct{ Jobs, Conns, Idle int }{1, 18, 17}, f.published(a))

	f.exec(addJobs, 40, "a", 1, 10)
	require.Len(t, b.claim(ctx, 20), 2, "its one connection, and the other's that lives: jobs go before keeping")
	require.Empty(t, b.claim(ctx, 18), "it waits")
	a.finish(first[0])
	own.need = 0
	require.Len(t, a.claim(ctx, 20), 10, "its part, while another waits")
	require.Equal(t, 10, f.published(a).Conns)
	require.Len(t, b.claim(ctx, 18), 8)
	require.Equal(t, 8, own.closed)
}

// Of a process that has published nothing for as long as it said, others count its
// running jobs alone, and it does not wait for anything either.
func TestAPartLapses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 10, 1)
	f.exec(`UPDATE headgate.servers SET connection_budget = 20`)
	ctx := context.Background()
	frozen, _ := f.connected(100, 20)
	f.exec(addJobs, 45, "a", 1, 10)
	require.Len(t, frozen.claim(ctx, 5), 5)
	require.Equal(t, struct{ Jobs, Conns, Idle int }{5, 20, 15}, f.published(frozen))
	f.exec(`UPDATE headgate.hands SET hand = hand || '{"wants": ["x"]}'`)

	p, _ := f.connected(0, 20)
	var got []*rivertype.JobRow
	began := time.Now()
	require.Empty(t, p.claim(ctx, 20), "all of the budget is held, as far as is known")
	require.Eventually(t, func() bool {
		got = p.claim(ctx, 20)
		return len(got) > 0
	}, 10*time.Second, 20*time.Millisecond)
	require.Len(t, got, 15, "the running jobs' places stay")
	require.GreaterOrEqual(t, time.Since(began), 800*time.Millisecond, "what it said, and a margin")
	require.Empty(t, p.claim(ctx, 5))

	f.exec(`UPDATE headgate.workers SET reaped_at = now() WHERE incarnation = $1`, frozen.lease.Incarnation())
	require.Len(t, p.claim(ctx, 20), 5)
}

// A row of another that was written again is as good as new, and one of a program
// that says nothing of lapsing counts for as long as its process lives.
func TestAPartIsRenewed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(`UPDATE headgate.servers SET connection_budget = 5`)
	ctx := context.Background()
	p, _ := f.connected(0, 5)
	f.exec(addJobs, 5, "a", 1, 1)
	for _, c := range []struct {
		name, hand string
		renewed    bool
	}{
		{"renewed", `{"servers": {"%s": {"jobs": 0, "conns": 5, "idle": 5}}, "lapse": 100}`, true},
		{"of an older program", `{"servers": {"%s": {"jobs": 0, "conns": 5}}}`, false},
	} {
		f.exec(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES (gen_random_uuid(), $1, '', 1, '{a}', '{default}')`, c.name)
		f.exec(`INSERT INTO headgate.hands (incarnation, hand, waiting)
SELECT incarnation, format($2, (SELECT id FROM headgate.servers))::jsonb, false FROM headgate.workers WHERE worker = $1`, c.name, c.hand)
		began := time.Now()
		for time.Since(began) < 1500*time.Millisecond {
			require.Empty(t, p.claim(ctx, 5), c.name)
			if c.renewed {
				f.exec(`UPDATE headgate.hands SET hand = hand WHERE incarnation = (SELECT incarnation FROM headgate.workers WHERE worker = $1)`, c.name)
			}
		}
		f.exec(`UPDATE headgate.workers SET reaped_at = now() WHERE worker = $1`, c.name)
	}
	require.Len(t, p.claim(ctx, 5), 5)
}

// A process that waited for a server and has nothing to do there any more says so.
func TestNobodyWaitsForNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	f.exec(`UPDATE headgate.servers SET connection_budget = 2`)
	ctx := context.Background()
	a, _ := f.connected(0, 5)
	b, _ := f.connected(0, 5)
	f.exec(addJobs, 3, "a", 1, 1)
	first := a.claim(ctx, 2)
	require.Len(t, first, 2)
	require.Empty(t, b.claim(ctx, 2))
	waits := func() (n int) {
		require.NoError(t, f.pool.QueryRow(ctx, `SELECT count(*) FROM headgate.hands WHERE hand ? 'wants' AND waiting`).Scan(&n))
		return n
	}
	require.Equal(t, 1, waits())
	a.finish(first...)
	rest := a.claim(ctx, 2)
	require.Len(t, rest, 1)
	a.finish(rest...)
	require.Empty(t, a.claim(ctx, 2))
	require.Empty(t, b.claim(ctx, 2))
	require.Zero(t, waits())
}

var _ claim.Connections = (*conns)(nil)

// What a process holds that was declared dead counts for as long as its sessions may
// last, while the process has stopped and not ended: then the central database still has a
// session of its too.
func TestSessionsOfTheDeadCount(t *testing.T) {
	t.Parallel()
	for name, stay := range map[string]time.Duration{"stopped": 3 * time.Second, "killed": time.Hour, "killed later": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 10, 1)
			f.exec(`UPDATE headgate.servers SET connection_budget = 10`)
			ctx := context.Background()
			dead, _ := f.connected(0, 20)
			dead.lease.Sessions("app/12345678", map[string]time.Duration{"a": stay})
			conn := f.session("app/12345678")
			if name == "killed" {
				require.NoError(t, conn.Close(ctx))
				require.Eventually(t, func() bool { // the server has noticed
					return f.number(`SELECT count(*) FROM pg_stat_activity WHERE application_name = 'app/12345678' AND datname = current_database()`) == 0
				}, 20*time.Second, 10*time.Millisecond)
			}
			living, _ := f.connected(0, 20)
			f.exec(addJobs, 30, "a", 1, 10)
			require.Len(t, dead.claim(ctx, 6), 6)
			f.exec(claim.MarkDeadSQL, dead.lease.Incarnation(), 0)
			f.exec(`UPDATE river_job SET state = 'available' WHERE state = 'running'`)
			if name == "killed" {
				require.Len(t, living.claim(ctx, 20), 10)
				return
			}
			first := time.Now()
			require.Len(t, living.claim(ctx, 20), 4, "what the dead may still have is not given away")
			if name == "killed later" {
				require.NoError(t, conn.Close(ctx))
			}
			require.Eventually(t, func() bool { return len(living.try(20)) == 6 }, 30*time.Second, 20*time.Millisecond)
			if name == "stopped" {
				require.GreaterOrEqual(t, time.Since(first), stay)
			}
		})
	}
}

// Who wakes after it was declared dead does not count twice, whatever it had published.
func TestWhoWakesCountsOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 10, 1)
	f.exec(`UPDATE headgate.servers SET connection_budget = 10`)
	ctx := context.Background()
	woken, _ := f.connected(0, 20)
	f.session("app/12345678")                                                             // it lives
	woken.lease.Sessions("app/12345678", map[string]time.Duration{"a": 3000 * time.Hour}) // more than an integer of milliseconds
	living, _ := f.connected(0, 20)
	f.exec(addJobs, 30, "a", 1, 10)
	jobs := woken.claim(ctx, 6)
	require.Len(t, jobs, 6)
	former := woken.lease.Incarnation()
	f.exec(claim.MarkDeadSQL, former, 0)
	f.exec(`UPDATE river_job SET state = 'available' WHERE state = 'running'`)
	require.Len(t, living.claim(ctx, 20), 4)
	f.exec(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'w', '', 1, $2, '{default}')`, woken.lease.Renew(), woken.kinds)
	woken.finish(jobs...)
	claimed := 0
	require.Eventually(t, func() bool { claimed += len(woken.try(20)); return claimed == 6 }, time.Minute, 20*time.Millisecond, "%d", claimed)
	require.Zero(t, f.number(`SELECT count(*) FROM headgate.hands WHERE incarnation::text = $1`, former))
}
