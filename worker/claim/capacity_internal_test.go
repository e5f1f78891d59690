package claim

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// A server's budget is one of connections: those that idle in other processes count,
// and this process's own are its to use.
func TestIdleConnectionsCount(t *testing.T) {
	t.Parallel()
	l := limits{servers: map[string]int{"s": 4}}
	allowed := func(mine, others serverUsage, jobs int) (int, reason) {
		m, other := newUsage(), newUsage()
		m.Servers["s"], other.Servers["s"] = mine, others
		return newCapacity("q", l, m, []*usage{other}, newParts(l, []*usage{other}), nil).server("s", jobs)
	}
	for _, c := range []struct {
		name         string
		mine, others serverUsage
		want         int
	}{
		{"nobody has any", serverUsage{}, serverUsage{}, 4},
		{"others' idle ones", serverUsage{}, serverUsage{Jobs: 1, Conns: 3}, 1},
		{"own idle ones", serverUsage{Conns: 1}, serverUsage{Jobs: 1, Conns: 3}, 1},
		{"others' on the way to a job", serverUsage{}, serverUsage{Jobs: 3, Conns: 1}, 1},
		{"own running ones", serverUsage{Jobs: 1, Conns: 1}, serverUsage{Conns: 3}, 0},
		{"more than there may be", serverUsage{Jobs: 2, Conns: 5}, serverUsage{Conns: 3}, 0},
	} {
		n, why := allowed(c.mine, c.others, 5)
		require.Equal(t, c.want, n, c.name)
		require.Equal(t, noServer, why, c.name)
	}
}

// A job on a connection that idles here takes no further one.
func TestTakenPlacesAreCountedOnce(t *testing.T) {
	t.Parallel()
	l, mine, other := limits{servers: map[string]int{"s": 6}}, newUsage(), newUsage()
	mine.Servers["s"], other.Servers["s"] = serverUsage{Jobs: 1, Conns: 3}, serverUsage{Jobs: 1, Conns: 1}
	cp := newCapacity("q", l, mine, []*usage{other}, newParts(l, []*usage{other}), nil)
	cp.reserveServer("s", 2)
	require.Equal(t, 4, cp.all.Servers["s"].Conns, "they run on the two that idled")
	n, _ := cp.server("s", 9)
	require.Equal(t, 2, n)
	cp.reserveServer("s", 2)
	require.Equal(t, 6, cp.all.Servers["s"].Conns)
	n, _ = cp.server("s", 9)
	require.Zero(t, n)
}

// A kind's limit for each tenant is of that tenant's jobs, its limit of all tenants'.
func TestLimitsOfAKind(t *testing.T) {
	t.Parallel()
	five, two := 5, 2
	l, mine := limits{kinds: map[string]kindLimit{"a": {all: &five, perOwner: &two}}}, newUsage()
	for _, owner := range []string{"x", "x", "y"} {
		mine.run(lane{queue: "q", owner: owner, kind: "a"})
	}
	cp := newCapacity("q", l, mine, nil, newParts(l, nil), nil)
	for owner, want := range map[string]int{"x": 0, "y": 1, "z": 2} {
		require.Equal(t, want, cp.kind(candidate{owner: owner, kind: "a"}, 9), owner)
	}
	cp.reserveKind(candidate{owner: "z", kind: "a"}, 2)
	require.Zero(t, cp.kind(candidate{owner: "y", kind: "a"}, 9), "five of all tenants run")
	require.Equal(t, 9, cp.kind(candidate{owner: "x", kind: "b"}, 9))
}

// The parts of those who are at work on a server, or wait for it, use all of its budget.
func TestPartsAddUpToTheBudget(t *testing.T) {
	t.Parallel()
	other := newUsage()
	other.Wants = []string{"s"}
	for budget, want := range map[int]int{5: 3, 4: 2, 1: 1} {
		require.Equal(t, want, newParts(limits{servers: map[string]int{"s": budget}}, []*usage{other}).fair("s"))
	}
}

// Of what has lapsed the running jobs' connections are left, and nobody waits.
func TestWhatLapses(t *testing.T) {
	t.Parallel()
	u := newUsage()
	u.Wants, u.Servers["s"] = []string{"s"}, serverUsage{Jobs: 2, Conns: 7, Idle: 5}
	u.lapse()
	require.Empty(t, u.Wants)
	require.Equal(t, serverUsage{Jobs: 2, Conns: 2}, u.Servers["s"])
}

// The adjustment of an owner whose rows somebody else has locked waits, and is not lost.
func TestAdjustmentsOfLockedOwnersWait(t *testing.T) {
	t.Parallel()
	a := newAdjustments()
	a.add("locked", adjustment{vtime: 1}, true)
	a.add("free", adjustment{vtime: 1}, true)
	taken := a.take(map[string]float64{"locked": 1}, []lane{{owner: "locked"}}, []string{"locked"})
	require.Len(t, taken, 1)
	require.Contains(t, taken, "free")
	require.InDelta(t, 1, a.take(nil, nil, nil)["locked"].vtime, 0)
}

// Which errors of a statement about rows one of the rows may be to blame for.
func TestWhatIsARowsOwnFault(t *testing.T) {
	t.Parallel()
	for code, odd := range map[string]bool{
		"22P02": true, "23505": true, "54000": true, "P0001": true, "42883": true,
		"08006": false, "25006": false, "40001": false, "53100": false, "55P03": false, "57014": false, "58030": false, "XX000": false,
	} {
		require.Equal(t, odd, oddRow(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"}), code)
		require.Equal(t, odd && code[0] != 'P' && code[:2] != "42", oddRow(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"}), "%s ends the session", code)
	}
	require.False(t, oddRow(context.DeadlineExceeded))
}
