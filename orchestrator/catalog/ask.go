package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
)

// ErrUnavailable: the central database does not answer, and what is remembered of
// the tenant is nothing, or older than Memory.StaleFor. It comes with the cause.
var ErrUnavailable = jobs.Sentinel("catalog_unavailable", "the catalog cannot be reached")

const (
	// askFor bounds one question, the wait for a connection of the pool included.
	askFor = 3 * time.Second

	// askAgain is how long nobody asks after a question that failed.
	askAgain = time.Second
)

// flight is a question on its way, for all who ask it meanwhile.
type flight struct {
	epoch  int
	done   chan struct{} // closed when the rest is there
	answer *answer
	err    error
}

// wait returns false if ctx ended first.
func (f *flight) wait(ctx context.Context) bool {
	select {
	case <-f.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// outage keeps callers from waiting, each anew, for a database that does not
// answer: after a question that failed nobody asks for a while, then one does.
type outage struct {
	cause error // nil: there is none
	until int64
}

func (o *outage) closed(now int64) bool { return o.cause != nil && now < o.until }

// begin lets the one who asks in an outage be the only one.
func (o *outage) begin(now int64) {
	if o.cause != nil {
		o.until = now + int64(askFor+askAgain)
	}
}

// note ends an outage, or begins or prolongs one. An error that the database
// itself answers about one row is none.
func (o *outage) note(err error, now int64) {
	if err != nil && !isAway(err) {
		err = nil
	}
	o.cause, o.until = err, now+int64(askAgain)
}

// isAway says of a question's error whether others would meet it too, for as long
// as it lasts.
func isAway(err error) bool {
	var scan pgx.ScanArgError
	var answered *pgconn.PgError
	switch {
	case errors.As(err, &scan):
		return false
	case errors.As(err, &answered):
		// Connection, resources, intervention, system, internal.
		return slices.ContainsFunc([]string{"08", "53", "57", "58", "XX"}, func(class string) bool { return strings.HasPrefix(answered.Code, class) })
	}
	return true
}

// remembered answers a question from memory, or asks it.
func (c *Catalog) remembered(ctx context.Context, q question) (*answer, error) {
	m := c.memory
	a, fresh, due := m.find(q)
	if fresh && !due {
		c.meter.Lookup(ctx, true)
		return a, nil
	}
	if due {
		m.confirm(ctx, c.pool, a, fresh)
		if a, fresh, _ = m.find(q); fresh {
			c.meter.Lookup(ctx, true)
			return a, nil
		}
	}
	c.meter.Lookup(ctx, false)
	return c.ask(ctx, q)
}

// ask asks the central database, once for all who ask the same at the time. It
// goes on when ctx ends, for the others, and is bounded. Who comes after a drop
// does not join who asked before it; who comes in an outage waits for nobody if
// something was known.
func (c *Catalog) ask(ctx context.Context, q question) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := c.memory
	m.mu.Lock()
	if a, fresh, _ := m.find(q); fresh { // it came while this caller was on its way here
		m.mu.Unlock()
		return a, nil
	}
	began := m.clock()
	f := m.flights[q]
	joins := f != nil && f.epoch == m.epoch
	if m.outage.cause != nil && (joins || m.outage.closed(began)) {
		a, err := m.stale(q, m.outage.cause)
		if err == nil || !joins {
			m.mu.Unlock()
			return a, err
		}
	}
	if joins {
		m.mu.Unlock()
		if !f.wait(ctx) {
			return nil, ctx.Err()
		}
		return f.answer, f.err
	}
	m.outage.begin(began)
	f = &flight{epoch: m.epoch, done: make(chan struct{}), err: errGivenUp}
	m.flights[q] = f
	m.mu.Unlock()

	func() {
		defer m.land(q, f, began)
		f.answer, f.err = c.question(ctx, q)
	}()
	return f.answer, f.err
}

// errGivenUp is what others hear of a question whose asker panicked.
var errGivenUp = errors.New("the question was given up")

// land tells all who wait what came of a question, and remembers it.
func (m *memory) land(q question, f *flight, began int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flights[q] == f {
		delete(m.flights, q)
	}
	m.outage.note(f.err, m.clock())
	switch {
	case f.err == nil:
		m.keep(q, f.answer, began, f.epoch)
	case isAway(f.err):
		f.answer, f.err = m.stale(q, f.err)
	}
	close(f.done)
}

// stale returns what was last known, if that is not too long ago.
func (m *memory) stale(q question, cause error) (*answer, error) {
	a, ok := m.cache.GetIfPresent(q)
	if ok && a.known && m.clock()-a.checked.Load() < int64(m.StaleFor) {
		return a, nil
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// question runs the query of a question.
func (c *Catalog) question(ctx context.Context, q question) (*answer, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askFor)
	defer cancel()
	if q.place() {
		return c.askPlace(ctx, q)
	}
	return c.askTenant(ctx, q)
}
