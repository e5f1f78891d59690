package tenantdb

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// breaker keeps jobs from trying, one after the other and each for its whole
// connect timeout, what is known to fail. There is one for each server, and one
// for each database that fails while its server may be well.
//
//	closed ──failures in a row──▶ open ──its time is up──▶ half open: 1, 2, 4, … at once
//	   ▲                           ▲                          │
//	   │                           └────────a failure─────────┤
//	   └───────────────as many successes as the limit─────────┘
//
// It holds no lock and has no clock of its own: the server that owns it calls it
// under its lock, with the time.
type breaker struct {
	failures int // in a row, while closed
	cause    error
	since    time.Time // of the first failure in a row
	until    time.Time // while open
	pause    time.Duration
	allowed  int // half open: how many may try at once; 0: closed
	trying   int // half open: how many do
	refused  int // since it opened: how many jobs wait for it, roughly
}

// openAfter failures in a row open a breaker.
const openAfter = 3

const (
	firstPause = time.Second
	lastPause  = 5 * time.Second // so that the first job is back within 15 s of the server
)

func (b *breaker) open() bool { return !b.until.IsZero() }

// admit says whether a connection may be tried now. If so, exactly one of
// succeeded, failed and abandoned must follow.
func (b *breaker) admit(now time.Time) bool {
	if !b.open() {
		return true
	}
	if now.Before(b.until) || b.trying >= max(b.allowed, 1) {
		b.refused++
		return false
	}
	b.allowed = max(b.allowed, 1)
	b.trying++
	return true
}

// succeeded returns true if the breaker has closed by it.
func (b *breaker) succeeded(limit int) bool {
	if !b.open() {
		*b = breaker{}
		return false
	}
	b.trying = max(b.trying-1, 0)
	if b.allowed = max(2*b.allowed, 2); b.allowed < limit {
		return false
	}
	*b = breaker{trying: b.trying}
	return true
}

// failed returns true if the breaker has opened by it.
func (b *breaker) failed(now time.Time, cause error) bool {
	if b.failures == 0 {
		b.since = now
	}
	b.failures++
	b.cause = cause
	if !b.open() && b.failures < openAfter {
		return false
	}
	opened := !b.open()
	if !opened {
		b.trying = max(b.trying-1, 0)
	}
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	b.until = now.Add(jitter(b.pause))
	b.allowed = 0
	return opened
}

// abandoned: the trial ended without an answer that says anything.
func (b *breaker) abandoned() {
	if b.open() {
		b.trying = max(b.trying-1, 0)
	}
}

// refusal is the error for a job that was not admitted. who is what fails.
func (b *breaker) refusal(place address.Place, who string, now time.Time) *ConnectError {
	return &ConnectError{
		Database: place.Database, Login: place.Login, Class: jobs.ClassUnreachable, RetryAfter: b.wait(now),
		Err: fmt.Errorf("%s does not answer since %s, and is tried by one job at a time: %w",
			who, b.since.UTC().Format(time.TimeOnly), b.cause),
	}
}

// wait is how long a job should stay away: until the next trial, and then a
// moment of its own, so that many do not come back at once.
func (b *breaker) wait(now time.Time) time.Duration {
	spread := min(time.Second+time.Duration(b.refused)*10*time.Millisecond, 30*time.Second)
	return max(b.until.Sub(now), 0) + rand.N(spread) //nolint:gosec // jitter needs no secrecy
}

// jitter is d give or take a fifth.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) } //nolint:gosec // no more here
