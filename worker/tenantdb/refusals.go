package tenantdb

import (
	"errors"
	"sync"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// refusals remembers which logins a database has refused, and which addresses
// lead astray: trying again with the same would be refused again, and may lock
// the account. A new address in the catalog is tried at once.
type refusals struct {
	mu   sync.Mutex
	list map[key]refusal // guarded by mu; bounded by the databases that are wrong
}

type refusal struct {
	version int
	until   time.Time
	err     *ConnectError
}

// pausedFor says how long a class of refusal is believed.
func (c Config) pausedFor(class jobs.Class) time.Duration {
	switch class {
	case jobs.ClassAuthFailed:
		return c.AuthPause
	case jobs.ClassWrongDatabase, jobs.ClassWrongCentre, jobs.ClassUndecryptable, jobs.ClassSchemaNewer, jobs.ClassUntrusted:
		return c.AuthPause / 10
	}
	return 0
}

// check returns the refusal that still stands for a place.
func (r *refusals) check(place address.Place, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.list[keyOf(place)]
	if !ok {
		return nil
	}
	if known.version != place.Version || !now.Before(known.until) {
		delete(r.list, keyOf(place))
		return nil
	}
	return known.err
}

// note remembers err if it is a refusal.
func (r *refusals) note(place address.Place, now time.Time, pause func(jobs.Class) time.Duration, err error) {
	var refused *ConnectError
	if !errors.As(err, &refused) {
		return
	}
	if d := pause(refused.Class); d > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list[keyOf(place)] = refusal{version: place.Version, until: now.Add(jitter(d)), err: refused}
	}
}

// sweep forgets those whose time is up.
func (r *refusals) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, known := range r.list {
		if !now.Before(known.until) {
			delete(r.list, k)
		}
	}
}
