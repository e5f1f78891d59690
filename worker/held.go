package worker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

// An attempt that ends for a reason that is not the job's own uses none, and the
// job waits. That is counted in the row's metadata, under heldKey, by the
// statement that ends the attempt, and is told by `headgate job explain`. How long
// it may go on depends on where it ended: before its handler began nothing has
// happened, and a server may be down for days; after that the handler itself may
// be the reason, and Config.UnblamedMost and UnblamedFor are the bounds.

const heldKey = "held" // wire.Meta.Held

// maxHold bounds what a job waits for one refusal of its connections, so that a
// new password or address is found within a minute.
const maxHold = time.Minute

// held is the count with one more, of class.
func (a *attempt) held(class jobs.Class, now time.Time) *jobs.Held {
	h := jobs.Held{}
	if a.meta.Held != nil {
		h = *a.meta.Held
	}
	if h.Class != class || h.Times < 1 || h.Since.After(now) {
		h.Class, h.Since, h.Times = class, now, 0
	}
	h.Times++
	if a.called {
		if h.Begun < 1 || h.BegunSince.After(now) {
			h.Begun, h.BegunSince = 0, now
		}
		h.Begun++
	}
	return &h
}

// fewUnblamed in a row are not judged by their time: it may have gone by while
// the tenant was paused or its server away.
const fewUnblamed = 10

// blamed says why an attempt that ended after its handler had begun is used all
// the same, or nil.
func (a *attempt) blamed(h *jobs.Held, now time.Time) error {
	since := now.Sub(h.BegunSince)
	if !a.called || h.Begun <= a.w.cfg.UnblamedMost && (h.Begun <= fewUnblamed || since <= a.w.cfg.UnblamedFor) {
		return nil
	}
	return fmt.Errorf("this is the %d. end in a row, since %s, that would use no attempt; there have been enough, and it uses one",
		h.Begun, h.BegunSince.UTC().Format(time.DateTime+" UTC"))
}

// holdFor is how long a job stays away for a reason that is not its own: as long
// as its connections know that it will be refused, a moment after a conflict, else
// HoldFor, or a tenth of the time for which that has been so.
func (w *Worker) holdFor(err error, h *jobs.Held, now time.Time) time.Duration {
	var connect *tenantdb.ConnectError
	if errors.As(err, &connect) && connect.RetryAfter > 0 {
		return min(connect.RetryAfter, maxHold)
	}
	wait := min(max(w.cfg.HoldFor, now.Sub(h.Since)/10), w.cfg.HoldMost)
	switch h.Class {
	case jobs.ClassConflict:
		wait = min(wait, firstConflict<<min(h.Times, 20))
	case jobs.ClassReplica:
		wait = min(wait, firstReplica<<min(h.Times, 10))
	}
	return wait*4/5 + rand.N(wait*2/5+1) //nolint:gosec // jitter needs no secrecy
}

const (
	firstConflict = 25 * time.Millisecond
	firstReplica  = 500 * time.Millisecond // a replica that lags may have caught up soon
)

// repeats says that an attempt ended as those before it, before its handler had
// begun: of these the history keeps the 1st, 2nd, 4th, 8th and so on, or a server
// that is away for days would fill it.
func (d disposition) repeats(called bool) bool {
	return d.state == jobs.Snoozed && d.held != nil && !called && d.held.Times&(d.held.Times-1) != 0
}
