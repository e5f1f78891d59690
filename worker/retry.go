package worker

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
)

// retries tells River when a failed job is tried again.
type retries struct{ w *Worker }

// NextRetry is called by River after a failed attempt. A time that has passed would let
// River take its own policy.
func (r retries) NextRetry(row *rivertype.JobRow) time.Time {
	delay := r.delay(row.Kind, row.Attempt)
	return time.Now().Add(max(delay, time.Millisecond))
}

func (r retries) delay(kind string, attempt int) time.Duration {
	if k := r.w.kinds[kind]; k != nil {
		if own, ok := k.like.(jobs.WithRetryDelay); ok {
			delay, err := askRetryDelay(own.RetryDelay, attempt)
			if err == nil {
				return min(max(delay, 0), jobs.MaxRetryDelay)
			}
			r.w.cfg.Logger.Error("a kind does not say how long its job waits; the worker's own delay holds", "kind", kind, "attempt", attempt, "error", err)
		}
	}
	delay, err := askRetryDelay(r.w.cfg.RetryDelay, attempt)
	if err != nil {
		r.w.cfg.Logger.Error("worker.Config does not say how long a job waits; the usual delay holds", "kind", kind, "attempt", attempt, "error", err)
		delay = retryDelay(attempt)
	}
	return min(max(delay, 0), jobs.MaxRetryDelay)
}

// askRetryDelay asks the user's code, which may panic. River asks on a goroutine of its own,
// where a panic would end the process.
func askRetryDelay(ask func(attempt int) time.Duration, attempt int) (delay time.Duration, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("its RetryDelay panicked: %v", v)
		}
	}()
	return ask(attempt), nil
}

// askedDelays is how many of a kind's delays are looked at before the worker starts: those
// of all attempts by default.
const askedDelays = 25

// checkRetryDelay says what is wrong with a kind's own delays.
func (k *kind) checkRetryDelay() error {
	own, ok := k.like.(jobs.WithRetryDelay)
	if !ok {
		return nil
	}
	for attempt := 1; attempt <= max(askedDelays, min(k.opts.MaxAttempts, 1000)); attempt++ {
		switch delay, err := askRetryDelay(own.RetryDelay, attempt); {
		case err != nil:
			return fmt.Errorf("kind %s: %w, asked for attempt %d", k.name, err, attempt)
		case delay < 0 || delay > jobs.MaxRetryDelay:
			return fmt.Errorf("kind %s: its RetryDelay says %s for attempt %d: give 0 to %s", k.name, delay, attempt, jobs.MaxRetryDelay)
		}
	}
	return nil
}

// retryDelay is the usual backoff: it spreads 25 attempts over three weeks, and
// its jitter keeps jobs that failed together from coming back together.
func retryDelay(attempt int) time.Duration {
	n := float64(min(max(attempt, 1), 40))
	seconds := n * n * n * n * (0.9 + 0.2*rand.Float64()) //nolint:gosec // jitter needs no secrecy
	return time.Duration(seconds * float64(time.Second))
}
