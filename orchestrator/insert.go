package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/headgate/headgate/orchestrator/internal/fault"
)

// encodedArgs are arguments that are JSON already, in River's shape.
type encodedArgs struct {
	kind string
	json []byte
}

// Kind is called by River.
func (a encodedArgs) Kind() string { return a.kind }

// MarshalJSON is called by River.
func (a encodedArgs) MarshalJSON() ([]byte, error) { return a.json, nil }

func (it *item) river() (river.InsertManyParams, error) {
	meta, err := json.Marshal(it.meta)
	if err != nil {
		return river.InsertManyParams{}, fmt.Errorf("encoding the job's metadata: %w", err)
	}
	return river.InsertManyParams{Args: encodedArgs{it.kind, it.args}, InsertOpts: &river.InsertOpts{
		MaxAttempts: it.maxAttempts, Metadata: meta, Priority: it.priority, Queue: it.queue,
		ScheduledAt: it.runAt, Tags: it.tags,
	}}, nil
}

// accept inserts one job, unless its idempotency key is taken.
func (c *Client) accept(ctx context.Context, tx pgx.Tx, it item) (EnqueueResult, error) {
	results, err := claimKeys(ctx, tx, []item{it})
	if err != nil {
		return EnqueueResult{}, err
	}
	fault.Point(fault.KeyTaken)
	defer fault.Point(fault.Enqueued)
	switch result := results[0]; result.Result {
	case ResultConflict:
		return EnqueueResult{}, &IdempotencyConflictError{Key: it.key, FirstUID: result.UID, Field: result.Differs}
	case ResultSame:
		result.ID, err = idOf(ctx, tx, result.UID)
		return result, err
	default:
		result.ID, err = c.insertOne(ctx, tx, it)
		return result, err
	}
}

// acceptMany inserts those jobs whose idempotency keys are not taken.
func (c *Client) acceptMany(ctx context.Context, tx pgx.Tx, items []item) ([]EnqueueResult, error) {
	results, err := claimKeys(ctx, tx, items)
	if err != nil {
		return nil, err
	}
	fault.Point(fault.KeyTaken)
	defer fault.Point(fault.Enqueued)
	fresh := make([]item, 0, len(items))
	for i := range items {
		if results[i].Result == ResultNew {
			fresh = append(fresh, items[i])
		}
	}
	if len(fresh) == 0 {
		return results, nil
	}
	return results, c.insertMany(ctx, tx, fresh)
}

// selectIDOfUID finds the row of a UID by two indexes: that of UIDs has no completed
// rows, and those are in the history, as are the rows that name no UID themselves, once
// an attempt at them has ended.
const selectIDOfUID = `
SELECT id FROM (
    SELECT id FROM river_job WHERE state <> 'completed' AND metadata ? 'job_uid' AND metadata->>'job_uid' = $1::text
    UNION ALL
    SELECT j.id FROM headgate.outcomes o JOIN river_job j ON j.id = o.job_id
    WHERE o.job_uid = CAST($1::text AS uuid) AND headgate.job_uid(j.metadata, j.id, j.created_at) = CAST($1::text AS uuid)
) found LIMIT 1`

// idOf returns the row of a job, or 0 if it has left the queue.
func idOf(ctx context.Context, tx pgx.Tx, uid string) (id int64, err error) {
	err = tx.QueryRow(ctx, selectIDOfUID, uid).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("looking for job %s: %w", uid, err)
	}
	return id, nil
}

// insertOne writes one row, wakes the workers of its queue and returns its id.
func (c *Client) insertOne(ctx context.Context, tx pgx.Tx, it item) (id int64, err error) {
	params, err := it.river()
	if err != nil {
		return 0, err
	}
	inserter, err := c.inserts(ctx, tx)
	if err != nil {
		return 0, err
	}
	inserted, err := inserter.InsertTx(ctx, tx, params.Args, params.InsertOpts)
	if err != nil {
		return 0, fmt.Errorf("inserting a %s job: %w", it.kind, err)
	}
	return inserted.Job.ID, wake(ctx, tx, []item{it})
}

// insertMany writes all rows with one COPY and wakes the workers of each queue.
func (c *Client) insertMany(ctx context.Context, tx pgx.Tx, items []item) error {
	params := make([]river.InsertManyParams, len(items))
	for i := range items {
		var err error
		if params[i], err = items[i].river(); err != nil {
			return err
		}
	}
	inserter, err := c.inserts(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := inserter.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("inserting %d jobs: %w", len(items), err)
	}
	return wake(ctx, tx, items)
}

// River would notify at most once in its fetch cooldown and without a trailing
// one: of two inserts close together the second would wait for the next poll.
// Ours rides in the inserting transaction where that is the application's, one
// for each queue, and Postgres drops the double ones; for transactions of our own
// see bell.
const notifyQueues = `
SELECT pg_notify((SELECT schema FROM headgate.queue) || '.river_insert', json_build_object('queue', queue)::text)
FROM unnest($1::text[]) AS queue`

func wake(ctx context.Context, tx pgx.Tx, items []item) error {
	var queues []string
	seen := map[string]bool{}
	for _, it := range items {
		if it.runAt.IsZero() && !seen[it.queue] { // River's scheduler wakes them for the others
			seen[it.queue] = true
			if it.wakeLater != nil {
				it.wakeLater[it.queue] = true
				continue
			}
			queues = append(queues, it.queue)
		}
	}
	if len(queues) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, notifyQueues, queues); err != nil {
		return fmt.Errorf("waking the workers: %w", err)
	}
	return nil
}
