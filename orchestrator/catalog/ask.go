package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrUnavailable: the central database does not answer, and what is remembered of
// the tenant is nothing, or older than Memory.StaleFor. It comes with the cause.
var ErrUnavailable = errors.New("the catalog cannot be reached")

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

func (o *outage) note(err error, now int64) {
	o.cause, o.until = err, now+int64(askAgain)
}

// remembered answers a question from memory, or asks it.
func (c *Catalog) remembered(ctx context.Context, q question) (*answer, error) {
	m := c.memory
	a, fresh, due := m.find(q)
	if fresh && !due {
		return a, nil
	}
	if due {
		m.confirm(ctx, c.pool, a, fresh)
		if a, fresh, _ = m.find(q); fresh {
			return a, nil
		}
	}
	return c.ask(ctx, q)
}

// ask asks the central database, once for all who ask the same at the time. It
// goes on when ctx ends, for the others, and is bounded. Who comes after a drop
// does not join who asked before it.
func (c *Catalog) ask(ctx context.Context, q question) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := c.memory
	m.mu.Lock()
	began := m.clock()
	if f := m.flights[q]; f != nil && f.epoch == m.epoch {
		m.mu.Unlock()
		if !f.wait(ctx) {
			return nil, ctx.Err()
		}
		return f.answer, f.err
	}
	if a, fresh, _ := m.find(q); fresh { // it came while this caller was on its way here
		m.mu.Unlock()
		return a, nil
	}
	if m.outage.closed(began) {
		defer m.mu.Unlock()
		return m.stale(q, m.outage.cause)
	}
	m.outage.begin(began)
	f := &flight{epoch: m.epoch, done: make(chan struct{})}
	m.flights[q] = f
	m.mu.Unlock()

	f.answer, f.err = c.question(ctx, q)
	m.mu.Lock()
	defer m.mu.Unlock()
	defer close(f.done)
	if m.flights[q] == f {
		delete(m.flights, q)
	}
	m.outage.note(f.err, m.clock())
	if f.err != nil {
		f.answer, f.err = m.stale(q, f.err)
		return f.answer, f.err
	}
	m.keep(q, f.answer, began, f.epoch)
	return f.answer, nil
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
