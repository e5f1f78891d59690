package jobs

import "time"

// FollowUpOpts are the choices for one follow-up. nil, or the zero value of a
// field, means the kind's own setting, then the default given here.
type FollowUpOpts struct {
	RunAt       time.Time // default: when this job is done
	Queue       string    // default "default"
	Priority    int       // 1 (first, the default) to 4
	MaxAttempts int       // 1 to 1000, default 25
}

// MaxFollowUps bounds the follow-ups of one job. Many more belong into the
// queue by EnqueueMany, or into a chain of jobs.
const MaxFollowUps = 1000
