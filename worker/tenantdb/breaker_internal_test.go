package tenantdb

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func breakerServer() *server {
	return &server{name: "s", budget: 8, limit: 8, openByKey: map[key]int{},
		answers: answers{failing: map[string]*breaker{}}, reads: answers{failing: map[string]*breaker{}}}
}

func at(database string) address.Place {
	return address.Place{Database: database, DatabaseID: database, Login: "job"}
}

func unreachable(place address.Place) error {
	return &ConnectError{Database: place.Database, Class: jobs.ClassUnreachable, Err: errors.New("refused")}
}

// Open after failures of several databases in a row, then one trial, then 1, 2,
// 4 … at once, and closed when as many as the limit have gone well.
func TestTheBreakerOfAServer(t *testing.T) {
	now := time.Now()
	s := breakerServer()
	var events []event
	for _, name := range []string{"a", "b", "c", "d"} {
		require.NoError(t, s.admit(at(name), now))
		if e := s.heard(at(name), now, unreachable(at(name))); e != "" {
			events = append(events, e)
		}
	}
	require.Equal(t, []event{serverSilent}, events, "one event")
	err := s.admit(at("e"), now)
	var refused *ConnectError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, jobs.ClassUnreachable, refused.Class)
	require.Positive(t, refused.RetryAfter)
	require.ErrorContains(t, err, "server s does not answer since")

	admitted := func() (n int) {
		for n < 1000 && s.admit(at("e"), now) == nil {
			n++
		}
		return n
	}
	now = now.Add(2 * time.Second)
	require.Equal(t, 1, admitted())
	require.Empty(t, s.heard(at("e"), now, unreachable(at("e"))), "told once")
	require.Zero(t, admitted())
	now = now.Add(2*lastPause + time.Second)
	var waves []int
	var last event
	for last == "" {
		n := admitted()
		waves = append(waves, n)
		require.Less(t, len(waves), 10)
		for range n {
			last = max(last, s.heard(at("e"), now, nil))
		}
	}
	require.Equal(t, serverAnswers, last)
	require.Equal(t, []int{1, 2}, waves[:2])
	require.False(t, s.breaker.open())
}

// One database that does not answer says nothing about its server: the others go on.
func TestTheBreakerOfADatabase(t *testing.T) {
	err, now := unreachable(at("a")), time.Now()
	s := breakerServer()
	var events []event
	for range 20 {
		if s.admit(at("a"), now) != nil {
			continue
		}
		if e := s.heard(at("a"), now, err); e != "" {
			events = append(events, e)
		}
	}
	require.Equal(t, []event{databaseSilent}, events)
	require.ErrorContains(t, s.admit(at("a"), now), "database a does not answer since")
	require.NoError(t, s.admit(at("b"), now))
	require.Empty(t, s.heard(at("b"), now, nil))
	now = now.Add(lastPause * 2)
	for len(events) < 2 {
		require.NoError(t, s.admit(at("a"), now))
		if e := s.heard(at("a"), now, nil); e != "" {
			events = append(events, e)
		}
	}
	require.Equal(t, databaseThere, events[1])
	require.Empty(t, s.failing)
}

// A database that is not there any more is no server's silence: it opens no
// breaker of connections.
func TestADroppedDatabaseIsNoSilence(t *testing.T) {
	s, now := breakerServer(), time.Now()
	gone := connectError(context.Background(), at("a"), &pgconn.PgError{Code: "3D000", Message: "no such database"})
	class, _ := Classify(gone)
	require.Equal(t, jobs.ClassWrongDatabase, class)
	for range 20 {
		require.NoError(t, s.admit(at("a"), now))
		require.Empty(t, s.heard(at("a"), now, gone))
	}
	require.Empty(t, s.failing)
}

// A server without a free connection is asked for half as many, and for one more
// with each that it gives. Somebody whose time was up says nothing about it.
func TestAFullServer(t *testing.T) {
	now := time.Now()
	s := breakerServer()
	full := &ConnectError{Class: jobs.ClassServerFull, Err: &pgconn.PgError{Code: "53300"}}
	require.NoError(t, s.admit(at("a"), now))
	require.Equal(t, serverFull, s.heard(at("a"), now, full))
	require.Equal(t, 4, s.limit)
	for want := 5; want <= 9; want++ {
		require.NoError(t, s.admit(at("a"), now))
		require.Empty(t, s.heard(at("a"), now, nil))
		require.Equal(t, min(want, s.budget), s.limit)
	}
	for range 10 {
		require.NoError(t, s.admit(at("a"), now))
		require.Empty(t, s.heard(at("a"), now, &ConnectError{Class: jobs.ClassConnectTimeout, Err: context.Canceled}))
	}
	require.NoError(t, s.admit(at("a"), now))
}

// A waiter whose time is up says how many connections there are, which others
// may be changing at that moment: the race detector looks on.
func TestWaitersGiveUpWhileTheBudgetChanges(t *testing.T) {
	s := breakerServer()
	s.open, s.openByKey[keyOf(at("a"))] = s.limit, s.limit
	full := &ConnectError{Class: jobs.ClassServerFull, Err: &pgconn.PgError{Code: "53300"}}
	now := time.Now()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_, err := s.acquire(ctx, at("a"))
			if class, _ := Classify(err); class != jobs.ClassConnectTimeout && class != jobs.ClassServerFull {
				t.Errorf("class %q: %v", class, err)
			}
			_, err = s.acquire(context.WithValue(context.Background(), heldKey{}, s), at("a"))
			if err == nil {
				t.Error("a second connection beyond the budget")
			}
		})
		group.Go(func() {
			if s.admit(at("a"), now) == nil {
				s.heard(at("a"), now, full)
			}
		})
	}
	group.Wait()
}

// Room that comes back after a server was full goes to who waits, in order, and
// whoever is not served in time is told why.
func TestAfterAFullServerWhoWaitsIsServed(t *testing.T) {
	s := breakerServer()
	s.affinityWait = time.Hour
	s.limit, s.open, s.openByKey[keyOf(at("a"))] = 1, 1, 1
	type served struct {
		database string
		err      error
	}
	ends := make(chan served)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i, name := range []string{"b", "c", "d"} {
		go func() {
			_, err := s.acquire(ctx, at(name))
			ends <- served{name, err}
		}()
		require.Eventually(t, func() bool { return s.stats().Waiting == i+1 }, time.Minute, time.Millisecond)
	}
	for _, name := range []string{"b", "c"} {
		require.Empty(t, s.heard(at("a"), time.Now(), nil))
		require.Equal(t, served{name, nil}, <-ends)
	}
	cancel()
	last := <-ends
	require.Equal(t, "d", last.database)
	class, _ := Classify(last.err)
	require.Equal(t, jobs.ClassServerFull, class)
	require.ErrorContains(t, last.err, "this process asks it for 3 instead of 8")
	require.Equal(t, 3, s.stats().Open)

	go func() {
		_, err := s.acquire(context.Background(), at("e"))
		ends <- served{"e", err}
	}()
	require.Eventually(t, func() bool { return s.stats().Waiting == 1 }, time.Minute, time.Millisecond)
	s.setBudget(9, false)
	require.Equal(t, served{"e", nil}, <-ends)
}

// A connection that was begun when its caller's time was nearly up opens no
// breaker, and is no trial of an open one.
func TestATimeThatWasTooShortSaysNothing(t *testing.T) {
	now := time.Now()
	s := breakerServer()
	hurried := &ConnectError{Class: jobs.ClassConnectTimeout, Err: errors.Join(errTooShort, context.DeadlineExceeded)}
	for range 5 {
		for _, name := range []string{"a", "b"} {
			require.NoError(t, s.admit(at(name), now))
			require.Empty(t, s.heard(at(name), now, hurried))
		}
	}
	require.Empty(t, s.failing)
	for range openAfter {
		require.NoError(t, s.admit(at("a"), now))
		s.heard(at("a"), now, unreachable(at("a")))
	}
	now = now.Add(lastPause * 2)
	require.NoError(t, s.admit(at("a"), now))
	require.Error(t, s.admit(at("a"), now), "one trial at a time")
	require.Empty(t, s.heard(at("a"), now, hurried))
	require.NoError(t, s.admit(at("a"), now), "it can be tried again at once")
}

// Jobs that come one by one open the breaker too: each claim says that the database may be
// tried, and that does not make its failures less.
func TestClaimsDoNotForgetFailures(t *testing.T) {
	now := time.Now()
	s := breakerServer()
	var events []event
	for range openAfter {
		s.resetBreakers("a")
		require.NoError(t, s.admit(at("a"), now))
		if e := s.heard(at("a"), now, unreachable(at("a"))); e != "" {
			events = append(events, e)
		}
		now = now.Add(time.Second)
	}
	require.Equal(t, []event{databaseSilent}, events)
	now = now.Add(-time.Second) // when it opened
	require.Error(t, s.admit(at("a"), now))
	s.resetBreakers("a")
	require.NoError(t, s.admit(at("a"), now), "a claim has found that it may be tried")
}
