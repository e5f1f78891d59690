package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"github.com/headgate/headgate/jobs"
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

func (it *Draft) river() (river.InsertManyParams, error) {
	meta, err := json.Marshal(it.Meta)
	if err != nil {
		return river.InsertManyParams{}, fmt.Errorf("encoding the job's metadata: %w", err)
	}
	return river.InsertManyParams{Args: encodedArgs{it.Kind, it.Args}, InsertOpts: &river.InsertOpts{
		MaxAttempts: it.MaxAttempts, Metadata: meta, Priority: it.Priority, Queue: it.Queue,
		ScheduledAt: it.runAt, Tags: it.tags,
	}}, nil
}

// accept inserts one job, unless its idempotency key is taken.
func (q *Queue) accept(ctx context.Context, tx pgx.Tx, it Draft) (jobs.EnqueueResult, error) {
	results, err := claimKeys(ctx, tx, []Draft{it})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	fault.Point(fault.KeyTaken)
	defer fault.Point(fault.Enqueued)
	switch result := results[0]; result.Status {
	case jobs.StatusConflict:
		return jobs.EnqueueResult{}, &jobs.IdempotencyConflictError{Key: it.key, FirstUID: result.UID, Field: result.Differs}
	case jobs.StatusSame:
		return result, nil
	default:
		return result, q.insertOne(ctx, tx, it)
	}
}

// acceptMany inserts those jobs whose idempotency keys are not taken.
func (q *Queue) acceptMany(ctx context.Context, tx pgx.Tx, items []Draft) ([]jobs.EnqueueResult, error) {
	results, err := claimKeys(ctx, tx, items)
	if err != nil {
		return nil, err
	}
	fault.Point(fault.KeyTaken)
	defer fault.Point(fault.Enqueued)
	fresh := make([]Draft, 0, len(items))
	for i := range items {
		if results[i].Status == jobs.StatusNew {
			fresh = append(fresh, items[i])
		}
	}
	if len(fresh) == 0 {
		return results, nil
	}
	return results, q.InsertMany(ctx, tx, fresh)
}

// selectIDOfUID finds the row of a UID by three indexes. The index of UIDs has no
// completed rows, which the history has. A row that names no UID has its number in it.
// Another program may have given two rows one UID: the row that can still run comes first.
const selectIDOfUID = `
SELECT id FROM (
    SELECT id, finalized_at FROM river_job WHERE state <> 'completed' AND headgate.has_uid(metadata, $1)
    UNION ALL
    SELECT j.id, j.finalized_at FROM headgate.outcomes o JOIN river_job j ON j.id = o.job_id
    WHERE o.job_uid = CAST($1::text AS uuid) AND headgate.job_uid(j.metadata, j.id, j.created_at) = CAST($1::text AS uuid)
    UNION ALL
    SELECT id, finalized_at FROM river_job WHERE id = headgate.row_of_uid($1) AND headgate.job_uid(metadata, id, created_at) = CAST($1::text AS uuid)
) found ORDER BY finalized_at IS NOT NULL, id LIMIT 1`

// RowOf returns the number of a job's row, or 0 if the row has left the queue.
func (q *Queue) RowOf(ctx context.Context, uid string) (id int64, err error) {
	err = q.pool.QueryRow(ctx, selectIDOfUID, uid).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("looking for job %s: %w", uid, err)
	}
	return id, nil
}

// insertOne writes one row and wakes the workers of its queue.
func (q *Queue) insertOne(ctx context.Context, tx pgx.Tx, it Draft) error {
	params, err := it.river()
	if err != nil {
		return err
	}
	inserter, err := q.inserts(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := inserter.InsertTx(ctx, tx, params.Args, params.InsertOpts); err != nil {
		return fmt.Errorf("inserting a %s job: %w", it.Kind, err)
	}
	return wake(ctx, tx, []Draft{it})
}

// InsertMany writes all rows with one COPY and wakes the workers of each queue.
func (q *Queue) InsertMany(ctx context.Context, tx pgx.Tx, items []Draft) error {
	params := make([]river.InsertManyParams, len(items))
	for i := range items {
		var err error
		if params[i], err = items[i].river(); err != nil {
			return err
		}
	}
	inserter, err := q.inserts(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := inserter.InsertManyFastTx(ctx, tx, params); err != nil {
		return fmt.Errorf("inserting %s: %w", jobs.Count(len(items), "job"), err)
	}
	return wake(ctx, tx, items)
}

// River would notify at most once in its fetch cooldown and without a trailing
// one: of two inserts close together the second would wait for the next poll.
// Ours rides in the inserting transaction where that is the application's, one
// for each queue, and Postgres drops the double ones; for transactions of our own
// see bell.
const notifyQueues = `SELECT headgate.notify_queues($1::text[])`

func wake(ctx context.Context, tx pgx.Tx, items []Draft) error {
	var queues []string
	seen := map[string]bool{}
	for _, it := range items {
		if it.runAt.IsZero() && !seen[it.Queue] { // River's scheduler wakes them for the others
			seen[it.Queue] = true
			if it.WakeLater != nil {
				it.WakeLater[it.Queue] = true
				continue
			}
			queues = append(queues, it.Queue)
		}
	}
	if len(queues) == 0 {
		return nil
	}
	return wakeQueues(ctx, tx, queues...)
}

func wakeQueues(ctx context.Context, tx pgx.Tx, queues ...string) error {
	if _, err := tx.Exec(ctx, notifyQueues, queues); err != nil {
		return fmt.Errorf("waking the workers: %w", err)
	}
	return nil
}
