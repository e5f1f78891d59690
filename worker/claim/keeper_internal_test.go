package claim

import (
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
)

// A heartbeat must stand still for DeadAfter under a watcher's eyes.
func TestFindDead(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	names := func(dead []peer) (list []string) {
		for _, d := range dead {
			list = append(list, d.incarnation)
		}
		return list
	}
	k := NewKeeper(KeeperConfig{Lease: NewLease(), Every: 10 * time.Second, DeadAfter: 30 * time.Second})
	still, lively := peer{incarnation: "still", beats: 7}, peer{incarnation: "lively", beats: 1}
	see := func(seconds int) []string {
		lively.beats++
		return names(k.findDead(at(seconds), []peer{still, lively}))
	}
	require.Empty(t, see(0))
	require.Empty(t, see(10))
	require.Empty(t, see(20))
	require.Equal(t, []string{"still"}, see(30))
	still.beats++ // it was only slow
	require.Empty(t, see(40))
	require.Empty(t, see(60))

	// The watcher itself was away: what it remembers says nothing.
	require.Empty(t, see(1000))
	require.Empty(t, see(1020))
	require.Equal(t, []string{"still"}, see(1030))
	// One that is no longer listed is forgotten.
	require.Empty(t, names(k.findDead(at(1040), nil)))
	require.Empty(t, see(1050))
}

func TestSoleSuspect(t *testing.T) {
	t.Parallel()
	id := func(p *int64) int64 {
		if p == nil {
			return 0
		}
		return *p
	}
	require.Zero(t, id(soleSuspect(nil)))
	require.Zero(t, id(soleSuspect([]inflightRow{{id: 1}, {id: 2}})))
	require.EqualValues(t, 2, id(soleSuspect([]inflightRow{{id: 1}, {id: 2, suspect: true}})))
	require.Zero(t, id(soleSuspect([]inflightRow{{id: 1, suspect: true}, {id: 2, suspect: true}})))
}

func TestTokens(t *testing.T) {
	t.Parallel()
	l := NewLease()
	first, second := l.next(), l.next()
	require.NotEqual(t, first, second)
	require.Equal(t, IncarnationOf(first), l.Incarnation())
	old := l.Incarnation()
	l.Renew()
	require.NotEqual(t, old, l.Incarnation())
	require.Equal(t, second, Token([]string{first, second}))
	require.Empty(t, Token(nil))
}

// What runs under a worker's name and is unclaimed is lost after a while; what is in
// flight never is.
func TestLost(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	f := newInflight()
	row := func(id int64, token string) *rivertype.JobRow {
		return &rivertype.JobRow{ID: id, AttemptedBy: []string{token}}
	}
	f.reach("on its way")
	f.take("worked", map[int64]*inflightJob{2: {weight: 1}})
	f.take("over", map[int64]*inflightJob{3: {weight: 1}})
	f.finish(row(3, "over"), start)
	f.take("ended", map[int64]*inflightJob{4: {weight: 1}})
	f.drop([]end{{id: 4, token: "ended"}})
	f.finish(row(4, "ended"), start) // River says so after the end was written
	running := []claimed{{1, "on its way"}, {2, "worked"}, {3, "over"}, {4, "unknown"}, {2, "unknown"}}
	require.Empty(t, f.findUnclaimed(running, at(0), time.Second))
	require.Equal(t, []claimed{{4, "unknown"}, {2, "unknown"}}, f.findUnclaimed(running, at(1), time.Second), "an end may take two seconds")
	require.Equal(t, []claimed{{3, "over"}, {4, "unknown"}, {2, "unknown"}}, f.findUnclaimed(running, at(2), time.Second))
	f.wrote(false) // ends wait for the database: that one is not lost
	require.NotContains(t, f.findUnclaimed(running, at(3), time.Second), claimed{3, "over"})
	f.wrote(true)
	require.NotContains(t, f.findUnclaimed(running, at(4), time.Second), claimed{3, "over"}, "its time begins anew")
	require.Empty(t, f.findUnclaimed(nil, at(5), time.Second))
	f.take("on its way", nil) // it failed, as far as this process knows
	require.Empty(t, f.findUnclaimed(running[:1], at(6), time.Second))
	require.Equal(t, running[:1], f.findUnclaimed(running[:1], at(7), time.Second))
}
