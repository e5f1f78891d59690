package health

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker"
)

// LoopWithin is how long a loop may take for one turn. Each turn's own deadlines are
// shorter.
const LoopWithin = 2 * time.Minute

// failedClaims is how many claims fail in a row before that is more than bad luck.
const failedClaims = 3

// Loop is a check for live: the loop that turned tells of has turned within [LoopWithin].
// The zero time is of a loop that has not started, and is well.
// [github.com/headgate/headgate/orchestrator/schedule.Scheduler.Turned] is one of these.
func Loop(name string, turned func() time.Time) Check {
	return Check{Name: name + " loop", Run: func(context.Context) error {
		if at := turned(); !at.IsZero() && time.Since(at) > LoopWithin {
			return fmt.Errorf("it has not turned since %s", at.UTC().Format(time.RFC3339))
		}
		return nil
	}}
}

// Worker returns the checks of a worker, which answer from its memory: live that its loop
// turns, ready that it is not draining, that the central database takes its heartbeats, and
// that its claims succeed.
func Worker(w *worker.Worker) (live, ready []Check) {
	live = []Check{Loop("worker", func() time.Time { return w.Health().Turned })}
	return live, []Check{
		{Name: "draining", Run: func(context.Context) error {
			if w.Health().Draining {
				return errors.New("the worker ends what it has, and claims nothing")
			}
			return nil
		}},
		{Name: "heartbeat", Run: func(context.Context) error {
			if h := w.Health(); !h.Heartbeat.IsZero() && time.Since(h.Heartbeat) > h.DeadAfter {
				return fmt.Errorf("the central database has taken no heartbeat since %s", h.Heartbeat.UTC().Format(time.RFC3339))
			}
			return nil
		}},
		{Name: "claims", Run: func(context.Context) error {
			for _, f := range w.Health().Failing {
				if f.Times >= failedClaims {
					return &HiddenError{
						Says: fmt.Sprintf("claims of queue %s fail since %s, %d in a row", f.Queue, f.Since.UTC().Format(time.RFC3339), f.Times),
						Err:  errors.New(f.Error),
					}
				}
			}
			return nil
		}},
	}
}

// Schema is a check for ready: the central database answers, and its schema fits this
// program.
func Schema(central migrations.Querier) Check {
	return Check{Name: "central schema", Run: func(ctx context.Context) error {
		err := migrations.Check(ctx, central)
		var version *migrations.VersionError
		if err == nil || errors.As(err, &version) {
			return err
		}
		return &HiddenError{Says: "the central database does not answer as it should", Err: err}
	}}
}
