// Package lifecycle gives all that works in the background one life: Start, Stop and
// Run. The worker, its keeper and its centre, the scheduler, the janitor and the
// catalog's listener have it.
//
//	          Start                  Stop
//	stopped ─────────▶ running ─────────────▶ stopped
//	 ▲    │             ▲    │
//	 └────┘             └────┘ End is not over, or Stop's ctx ends: Stop again
//	 Begin fails: Start again
//
// Start returns at once. It returns an error when it cannot start, or when the cycle
// runs already. Stop waits; it may be called twice, or without a Start. Start works again
// after Stop, and after a Start that failed. Run is Start, a wait, and Stop.
//
// A loop that has ended by itself counts as running until Stop, because the rest of it is
// still open. A loop that does not watch its context is not cut off: Stop waits for its
// return as long as Stop's own context allows.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
)

// ErrRunning is in the error of a Start of what runs already.
var ErrRunning = sentinel("already_running", "it runs already: stop it first")

// Parts are what a Cycle is made of. Name and Loop are required.
type Parts struct {
	// Name is in errors, as in "the scheduler".
	Name string

	// Begin is Start's own work, before the loop. What it has opened when it fails it
	// closes itself. nil means that there is nothing to do.
	Begin func(ctx context.Context) error

	// Loop works until its context ends, and then returns. It may end earlier, with a
	// reason, which Run returns after it has stopped the rest.
	Loop func(ctx context.Context) error

	// Quit is Stop's own work before it waits for the loop, also where its context has
	// ended. It only says that the end has come, and waits for nothing. nil means that
	// there is nothing to say.
	Quit func()

	// End is Stop's own work, after the loop. over says that nothing is left to stop, also
	// with an error. Without over the cycle runs still, and the next Stop calls End again.
	// nil means that there is nothing to do.
	End func(ctx context.Context) (over bool, err error)
}

// Cycle starts and stops one loop. Make one with New; all methods are safe for
// concurrent use.
type Cycle struct {
	parts Parts
	turn  chan struct{} // holds one while somebody starts or stops
	now   *life         // guarded by turn; nil while stopped
}

// life is the time from a Start to its Stop.
type life struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the loop has returned
	reason error         // the loop's; to be read after done
}

// New returns a cycle that is stopped.
func New(parts Parts) *Cycle { return &Cycle{parts: parts, turn: make(chan struct{}, 1)} }

// Start begins in the background and returns. ctx is for starting only: its end stops
// nothing that has started.
func (c *Cycle) Start(ctx context.Context) error {
	_, err := c.start(ctx)
	return err
}

func (c *Cycle) start(ctx context.Context) (*life, error) {
	if err := c.take(ctx); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.parts.Name, err)
	}
	defer c.give()
	switch {
	case c.now != nil:
		return nil, fmt.Errorf("starting %s: %w", c.parts.Name, ErrRunning)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("starting %s: %w", c.parts.Name, context.Cause(ctx))
	}
	if c.parts.Begin != nil {
		if err := c.parts.Begin(ctx); err != nil {
			return nil, err
		}
	}
	working, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &life{cancel: cancel, done: make(chan struct{})}
	c.now = l
	go func() {
		defer close(l.done)
		l.reason = c.parts.Loop(working)
	}()
	return l, nil
}

// Stop ends the loop, waits for that, and ends the rest. It returns nil if nothing runs.
// It returns an error when ctx ends first: then the cycle runs still, and Stop may be
// called again.
func (c *Cycle) Stop(ctx context.Context) error { return c.stop(ctx, nil) }

// stop ends the present life, if it is the one that is meant or any is.
func (c *Cycle) stop(ctx context.Context, meant *life) error {
	if err := c.take(ctx); err != nil {
		return fmt.Errorf("stopping %s: %w", c.parts.Name, err)
	}
	defer c.give()
	l := c.now
	if l == nil || meant != nil && l != meant {
		return nil
	}
	l.cancel()
	if c.parts.Quit != nil {
		c.parts.Quit()
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		return fmt.Errorf("stopping %s: %w", c.parts.Name, context.Cause(ctx))
	}
	over, err := true, error(nil)
	if c.parts.End != nil {
		over, err = c.parts.End(ctx)
	}
	if over {
		c.now = nil
	}
	return err
}

// Run starts, waits until ctx ends or the loop has ended by itself, and stops. It
// returns nil when all has stopped because ctx has ended or somebody has called Stop.
// Else it returns why it could not start, why the loop ended, and what the stop met.
func (c *Cycle) Run(ctx context.Context) error {
	l, err := c.start(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-l.done:
	}
	err = c.stop(context.WithoutCancel(ctx), l)
	<-l.done // it has: stop has waited for it, or somebody's Stop did before
	return errors.Join(l.reason, err)
}

// take waits for the turn to start or stop. A turn that is free is taken also when ctx
// has ended, because who stops then still ends the loop.
func (c *Cycle) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Cycle) give() { <-c.turn }

// sentinel is jobs.Sentinel, for a package that imports nothing.
func sentinel(code, sentence string) error { return &coded{code, sentence} }

type coded struct{ code, sentence string }

func (c *coded) Error() string { return c.sentence }

func (c *coded) Code() string { return c.code }
