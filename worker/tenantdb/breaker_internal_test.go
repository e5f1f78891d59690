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
	return &server{name: "s", budget: 8, limit: 8, held: map[key]int{}, failing: map[string]*breaker{}}
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
		for s.admit(at("e"), now) == nil {
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

// One database that does not answer says nothing about its server, nor does one
// that is not there any more: the others go on.
func TestTheBreakerOfADatabase(t *testing.T) {
	gone := &pgconn.PgError{Code: noSuchDatabase, Message: "no such database"}
	for name, err := range map[string]error{
		"refused": unreachable(at("a")),
		"dropped": &ConnectError{Database: "a", Class: jobs.ClassUnreachable, Err: gone},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
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
		})
	}
}

// A server without a free connection is asked for half as many, and for one more
// with each that it gives. Somebody who lost patience says nothing about it.
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

// A waiter that loses patience says how many connections there are, which others
// may be changing at that moment: the race detector looks on.
func TestWaitersGiveUpWhileTheBudgetChanges(t *testing.T) {
	s := breakerServer()
	s.open, s.held[keyOf(at("a"))] = s.limit, s.limit
	full := &ConnectError{Class: jobs.ClassServerFull, Err: &pgconn.PgError{Code: "53300"}}
	now := time.Now()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_, err := s.acquire(ctx, at("a"))
			if class, _ := Classify(err); class != jobs.ClassConnectTimeout {
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
