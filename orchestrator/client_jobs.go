package orchestrator

import (
	"context"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Job returns one job by its UID or its id in the queue, with its attempts. One whose
// row has left the queue is found by its UID as long as the history is kept. The error
// matches ErrUnknownJob.
func (c *Client) Job(ctx context.Context, uidOrID string) (queue.Job, error) {
	return c.queue.Job(ctx, uidOrID)
}

// Jobs lists jobs without their attempts, the newest first, and returns the After of
// the next page ("" if nothing follows).
func (c *Client) Jobs(ctx context.Context, f queue.JobFilter) (list []queue.Job, next string, err error) {
	return c.queue.Jobs(ctx, f)
}

// Attempts returns the ended attempts of a job, oldest first, from the history,
// which outlives the queue's row.
func (c *Client) Attempts(ctx context.Context, uid string) ([]jobs.Outcome, error) {
	return c.queue.Attempts(ctx, uid)
}
