package orchestrator

import (
	"context"

	"github.com/headgate/headgate/jobs"
)

// Job returns one job by its UID, with its attempts. A job whose row has left the queue is
// found as long as the history is kept. The error matches jobs.ErrUnknownJob.
func (c *Client) Job(ctx context.Context, uid string) (jobs.Record, error) {
	return c.queue.Job(ctx, uid)
}

// Jobs lists jobs without their attempts, the newest first, and returns the After of
// the next page ("" if nothing follows).
func (c *Client) Jobs(ctx context.Context, f jobs.JobFilter) (list []jobs.Record, next string, err error) {
	return c.queue.Jobs(ctx, f)
}

// Unended counts the jobs of tenants, by their UUIDs, that wait, are scheduled or run. Its cost
// grows with their number. Tenants without jobs have zeroes.
func (c *Client) Unended(ctx context.Context, tenants []string) (map[string]jobs.Unended, error) {
	return c.queue.Unended(ctx, tenants)
}

// Attempts returns a page of the ended attempts of a job, oldest first, from the history,
// which outlives the queue's row. A page has 100 unless it says otherwise, at most 1,000.
// A UID that nobody knows has none.
func (c *Client) Attempts(ctx context.Context, uid string, page jobs.Page) (list []jobs.Outcome, next string, err error) {
	return c.queue.Attempts(ctx, uid, page)
}

// JobLogs returns a page of the lines that the handler of a job has logged (jobs.Info.Log),
// by attempt, oldest first. A page has 100 unless it says otherwise, at most 1,000. Lines
// are kept for 14 days (retention.Config.KeepJobLogs). A UID that nobody knows has none.
func (c *Client) JobLogs(ctx context.Context, uid string, page jobs.Page) (list []jobs.LogLine, next string, err error) {
	return c.queue.JobLogs(ctx, uid, page)
}

// LastJobLogs returns the last lines of those, oldest first, 1 to 1,000 of them, and whether
// there are earlier ones.
func (c *Client) LastJobLogs(ctx context.Context, uid string, most int) (list []jobs.LogLine, earlier bool, err error) {
	if _, err := (jobs.Page{Limit: most}).Size(most, 1000); err != nil {
		return nil, false, err
	}
	return c.queue.LastJobLogs(ctx, uid, most)
}
