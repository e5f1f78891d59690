package testbed

import (
	"context"
	"errors"
	"sync"
	"time"
)

// undo collects what is to be removed. It is safe for concurrent use.
type undo struct {
	mu    sync.Mutex
	steps []func(context.Context) error
}

// later puts a step in front of those that are there.
func (u *undo) later(step func(context.Context) error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.steps = append(u.steps, step)
}

// patience bounds the making and the removal of one thing, because a context that has
// ended does not.
const patience = time.Minute

// run takes all steps, last things first, whatever becomes of each. A second run
// has nothing to do.
func (u *undo) run(ctx context.Context) (err error) {
	u.mu.Lock()
	steps := u.steps
	u.steps = nil
	u.mu.Unlock()
	for i := len(steps) - 1; i >= 0; i-- {
		inner, cancel := whole(context.WithoutCancel(ctx))
		err = errors.Join(err, steps[i](inner))
		cancel()
	}
	return err
}

// whole is a context for one statement that is not to be broken off: a server whose
// client goes away may make a thing after somebody has looked for the thing to drop it.
func whole(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}
