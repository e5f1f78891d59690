package tenantdb

import (
	"context"
	"slices"
	"time"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// waiter is a job in line. It is handed a connection, or nil for the right to
// make one.
type waiter struct {
	key      key
	version  int
	ready    chan *Conn // holds one
	urgent   bool       // its affinity wait is over
	moved    bool       // one before it in its database's line was served since its wait began
	bypassed int        // how often others went first since
}

// affinity bounds how often a waiter that may make a connection lets others go first, who
// can use the returned connection as it is.
const affinity = 8

func (s *server) wait(ctx context.Context, w *waiter, place address.Place) (*Conn, error) {
	timer := time.NewTimer(s.currentAffinityWait())
	defer timer.Stop()
	for {
		select {
		case c := <-w.ready:
			return c, nil
		case <-timer.C:
			oldest, again := s.evictFor(w, time.Now())
			if again {
				timer.Reset(s.currentAffinityWait())
			}
			if oldest != nil {
				oldest.end()
				return nil, nil
			}
		case <-ctx.Done():
			s.leave(w)
			return nil, s.noneFree(place, context.Cause(ctx))
		}
	}
}

// currentAffinityWait is how long a job waits for a connection of its own database: as long
// as evicting another database's connection costs. That is two connections, this one and
// the next that the other database needs. On a busy machine they cost much more than on an
// idle one.
func (s *server) currentAffinityWait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(max(s.affinityWait, 2*s.dialed), 20*s.affinityWait)
}

// dial notes that a connection was made, and how long that took.
func (s *server) dial(took time.Duration) {
	s.made.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialed == 0 {
		s.dialed = took
	}
	s.dialed += (took - s.dialed) / 8
}

// evictFor ends a waiter's affinity wait. It returns an idle connection of another
// database, whose share of the budget is the waiter's now, or nil if none is idle or the
// waiter has been served meanwhile.
//
// While its own line moves the waiter takes only a connection that nobody has needed for a
// while, and waits again: the eviction would cost another database's next job as much as it
// saves.
func (s *server) evictFor(w *waiter, now time.Time) (oldest *Conn, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiters, w)
	if i < 0 {
		return nil, false
	}
	if w.moved && (len(s.idle) == 0 || now.Sub(s.idle[0].used) < rest) {
		w.moved = false
		return nil, true
	}
	w.urgent = true
	if len(s.idle) == 0 {
		return nil, false
	}
	s.waiters = slices.Delete(s.waiters, i, i+1)
	return s.takeOldest(w.key), false
}

// leave takes a waiter out of the line. What it was handed at the same moment
// goes to the next.
func (s *server) leave(w *waiter) {
	s.mu.Lock()
	if i := slices.Index(s.waiters, w); i >= 0 {
		s.waiters = slices.Delete(s.waiters, i, i+1)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	if c := <-w.ready; c != nil {
		s.release(c)
	} else {
		s.give(w.key)
	}
}

// next takes a waiter out of the line for c: the first that can use c as it is, unless a
// waiter that needs any connection has let enough others go first. It returns nil if nobody
// needs c.
func (s *server) next(c *Conn) *waiter {
	fits := slices.IndexFunc(s.waiters, func(w *waiter) bool { return w.key == c.key && w.version == c.version })
	needs := slices.IndexFunc(s.waiters, func(w *waiter) bool { return w.urgent || s.openByKey[w.key] == 0 })
	i := fits
	switch {
	case fits < 0:
		i = needs
	case needs >= 0 && needs < fits && s.waiters[needs].bypassed >= affinity:
		i = needs
	case needs >= 0 && needs < fits:
		s.waiters[needs].bypassed++
	}
	if i < 0 {
		return nil
	}
	w := s.waiters[i]
	s.waiters = slices.Delete(s.waiters, i, i+1)
	for _, other := range s.waiters {
		other.moved = other.moved || i == fits && other.key == w.key
	}
	return w
}
