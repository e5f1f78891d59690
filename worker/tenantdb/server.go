package tenantdb

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// server is all that this process has to do with one server: its connections,
// over all databases and logins, and who waits for one.
//
// Idle connections count, since the server counts them too. If the budget is
// used up, a job whose database has no connection at all closes the one that has
// been idle longest and takes its place. A job whose database has some, all in
// use, waits for one of them: it will be back within milliseconds, and a new one
// costs ten. Only when that takes longer than affinityWait does it do as the first.
//
// A connection that comes back goes to the next job of its own database, if one
// waits, else to whoever needs its place, in order.
//
// No connection is made, reset or closed while mu is held.
type server struct {
	id, name string
	made     atomic.Int64 // connections

	mu           sync.Mutex // guards what follows
	budget       int        // the server's own, as its row says
	limit        int        // what is left of it after the server said that it is full
	governed     bool       // claims say how much of it is this process's share
	share        int        // if so: connections that others know of, but for those given back
	giving       int        // which are being closed since that was published
	firm         int        // of these, those that others count for as long as this process lives
	until        time.Time  // when the rest lapses: no more than firm are made or kept
	gone         time.Time  // when the server has ended what was idle then: others may have it
	short        int        // jobs that found the share too small, since it was last published
	shortAt      time.Time  // the last of them
	lasting      bool       // sessions do not end by themselves
	using        map[*Conn]context.Context
	affinityWait time.Duration // at least
	dialed       time.Duration // what a connection has taken to make lately, a running mean
	open         int           // connections that exist, or are being made or closed
	retiring     int           // of these, the idle ones that are being closed
	openByKey    map[key]int   // open, by key
	idle         []*Conn       // the one used last at the end
	waiters      []*waiter     // in order of arrival
	answers                    // of the write addresses
	reads        answers       // of the read addresses
	used         time.Time
}

// answers is whether a server, and its databases, answer at one kind of address. What
// replicas do says nothing about their primary, and the other way round.
type answers struct {
	breaker breaker
	failing map[string]*breaker // by database, of those whose last connection failed
}

// of returns the answers that a place counts for. mu is held.
func (s *server) of(place address.Place) *answers {
	if place.Reading {
		return &s.reads
	}
	return &s.answers
}

// key tells the connections of one database and login from others.
type key struct {
	database, login string
	upgrading       bool // its connections may be to an older schema: kept apart
	direct          bool // past the server's pooler
	reading         bool // at the read address
	pooler          address.Pooler
}

func keyOf(place address.Place) key {
	return key{place.DatabaseID, place.Login, place.Upgrading, place.Direct, place.Reading, place.Pooler}
}

// heldKey is the context key of the server that a caller holds a connection of.
type heldKey struct{}

// acquire returns an idle connection, or nil for the right to make one, and may
// first have to close another. It waits as long as ctx allows.
func (s *server) acquire(ctx context.Context, place address.Place) (*Conn, error) {
	k := keyOf(place)
	s.mu.Lock()
	s.used = time.Now()
	if c := s.takeIdle(k, place.Version); c != nil {
		s.mu.Unlock()
		return c, nil
	}
	if s.open < s.most() {
		s.open++
		s.openByKey[k]++
		s.mu.Unlock()
		return nil, nil
	}
	s.short, s.shortAt = s.short+1, s.used
	if s.openByKey[k] == 0 && len(s.idle) > 0 {
		oldest := s.takeOldest(k)
		s.mu.Unlock()
		oldest.end()
		return nil, nil
	}
	if held, _ := ctx.Value(heldKey{}).(*server); held == s {
		err := s.secondError(place)
		s.mu.Unlock()
		return nil, err
	}
	w := &waiter{key: k, version: place.Version, ready: make(chan *Conn, 1)}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	return s.wait(ctx, w, place)
}

// noneFree says that a waiter's time is up. After the server has said that it is
// full, that is why.
func (s *server) noneFree(place address.Place, cause error) error {
	stats := s.stats()
	err := &ConnectError{Database: place.Database, Login: place.Login, Class: jobs.ClassConnectTimeout,
		Err: fmt.Errorf("no free connection to server %s in time (all %d are in use): %w", s.name, stats.Limit, cause)}
	if stats.Limit < stats.Budget {
		err.Class, err.Err = jobs.ClassServerFull, fmt.Errorf("no free connection to server %s in time: it said that it is full, and this process asks it for %d instead of %d: %w",
			s.name, stats.Limit, stats.Budget, cause)
	}
	return err
}

// takeOldest takes out the connection that has been idle longest and gives its
// place to k.
func (s *server) takeOldest(k key) *Conn {
	oldest := s.idle[0]
	s.idle = s.idle[1:]
	s.move(oldest.key, k)
	return oldest
}

// move gives the place of one key's connection to another.
func (s *server) move(from, to key) {
	if s.openByKey[from]--; s.openByKey[from] == 0 {
		delete(s.openByKey, from)
	}
	s.openByKey[to]++
}

// secondError: a job that holds a connection may not wait for another one of the
// same server: if all its neighbours did, all would wait for ever. mu is held.
func (s *server) secondError(place address.Place) error {
	return fmt.Errorf("this job holds a connection to server %s already and asks for another one, to database %s, while all %d of the server's budget are in use: use the one that it has",
		s.name, place.Database, s.most())
}

// most is how many connections there may be now. mu is held.
func (s *server) most() int {
	switch {
	case !s.governed:
		return s.limit
	case time.Now().Before(s.until):
		return min(s.limit, s.share)
	default:
		return min(s.limit, s.share, s.firm)
	}
}

// use notes who has a connection, nil for nobody.
func (s *server) use(c *Conn, ctx context.Context) { //nolint:revive // the connection is what it is about
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx == nil {
		delete(s.using, c)
		return
	}
	s.using[c] = ctx
}

// resetBreakers closes the breakers of the server and of a database: a claim has found that
// they may be tried.
func (s *server) resetBreakers(database string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.breaker.open() {
		s.breaker = breaker{trying: s.breaker.trying}
	}
	if own := s.failing[database]; own != nil && own.open() && own.trying == 0 { // failures before it opens go on being counted
		delete(s.failing, database)
	}
}

// takeIdle returns the connection of a key that was used last. Those of an older
// address are closed by the pass that closes idle ones.
func (s *server) takeIdle(k key, version int) *Conn {
	for i := len(s.idle) - 1; i >= 0; i-- {
		if c := s.idle[i]; c.key == k && c.version == version {
			s.idle = append(s.idle[:i:i], s.idle[i+1:]...)
			return c
		}
	}
	return nil
}

// release takes back a connection that is fit for its next user.
func (s *server) release(c *Conn) {
	s.mu.Lock()
	c.used = time.Now()
	s.used = c.used
	if s.open > s.most() { // the budget has shrunk
		s.mu.Unlock()
		s.drop(c)
		return
	}
	w := s.next(c)
	if w == nil {
		s.idle = append(s.idle, c)
		s.mu.Unlock()
		return
	}
	if w.key == c.key && w.version == c.version {
		s.mu.Unlock()
		w.ready <- c
		return
	}
	s.move(c.key, w.key)
	s.mu.Unlock()
	c.end()
	w.ready <- nil
}

// takeIdlest takes out the n connections that have been idle longest, and those
// that have been since before. They are the caller's to drop. mu is held.
func (s *server) takeIdlest(n int, before time.Time) []*Conn {
	i := 0
	for i < len(s.idle) && (i < n || s.idle[i].used.Before(before)) {
		s.idle[i].retired = true
		i++
	}
	list := s.idle[:i:i]
	s.idle = s.idle[i:]
	s.retiring += i
	return list
}

// drop closes a connection that is not fit for anybody, then gives its place away.
func (s *server) drop(c *Conn) {
	c.end()
	if c.retired {
		s.mu.Lock()
		s.retiring--
		s.mu.Unlock()
	}
	s.give(c.key)
}

// give hands the right to make a connection, that a key had, to the first in line.
func (s *server) give(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiters) > 0 && s.open <= s.most() {
		w := s.waiters[0]
		s.waiters = slices.Delete(s.waiters, 0, 1)
		s.move(k, w.key)
		w.ready <- nil
		return
	}
	s.open--
	if s.openByKey[k]--; s.openByKey[k] == 0 {
		delete(s.openByKey, k)
	}
}

// setBudget follows the server's row. lasting says that sessions do not end by
// themselves.
func (s *server) setBudget(budget int, lasting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lasting = s.lasting || lasting
	if budget != s.budget {
		s.budget, s.limit = budget, budget
		s.grow()
	}
}

// grow gives the connections that a higher limit allows to who waits, in order. mu is held.
func (s *server) grow() {
	for len(s.waiters) > 0 && s.open < s.most() {
		w := s.waiters[0]
		s.waiters = slices.Delete(s.waiters, 0, 1)
		s.open++
		s.openByKey[w.key]++
		w.ready <- nil
	}
}

// stale takes out the connections that have been idle since before, and those
// beyond what there may be. It forgets databases that failed before and that nobody
// has tried again since.
func (s *server) stale(before time.Time) (list []*Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list = s.takeIdlest(s.open-s.retiring-s.most(), before)
	for _, a := range []*answers{&s.answers, &s.reads} {
		for id, b := range a.failing {
			if b.trying == 0 && b.since.Before(before) && b.until.Before(before) {
				delete(a.failing, id)
			}
		}
	}
	return list
}

// forgotten says that nothing of the server is left to remember.
func (s *server) forgotten(before time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0 && len(s.waiters) == 0 && s.used.Before(before) &&
		!s.breaker.open() && len(s.failing) == 0 && !s.reads.breaker.open() && len(s.reads.failing) == 0
}
