package queue

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// EnqueueOpts are the choices for one job. nil, or the zero value of a field,
// means the kind's own setting (jobs.KindOpts), then the default given here.
type EnqueueOpts struct {
	// RunAt is the earliest time to run, at most ten years ahead. A time more
	// than a minute past is taken for a mistake unless AllowPast. Default: now.
	RunAt     time.Time
	AllowPast bool

	// Priority orders jobs of one queue: 1 (first, the default) to 4.
	Priority int

	// Queue is the queue's name. Default "default".
	Queue string

	// Tags are at most 16 labels of 3 to 64 letters, digits, dashes and
	// underscores, no dash first or last.
	Tags []string

	// MaxAttempts is how often the job is tried, 1 to 1000. Default 25.
	MaxAttempts int

	// Timeout bounds one attempt, 1 s to 24 h. Default: the worker's.
	Timeout time.Duration

	// IdempotencyKey makes it harmless to repeat a request whose answer was
	// lost: 1 to 200 printable characters, kept for IdempotencyRetention, for
	// each tenant (or database) its own. Under a key that is taken nothing is
	// inserted. The same kind and arguments are answered with the first job,
	// whatever became of it and whatever the other options say; others with an
	// *IdempotencyConflictError. While another transaction is taking the key the
	// call waits for that one's end, 8 seconds at most unless it is a Tx form.
	// Default: none.
	IdempotencyKey string
}

// EnqueueResult names an accepted job.
type EnqueueResult struct {
	UID     string        `json:"uid"`                // for ever; what to keep
	ID      int64         `json:"id,omitempty"`       // the row in the queue; 0 from EnqueueMany, or if it has left
	Status  EnqueueStatus `json:"result"`             // whether the job is this call's own
	Differs string        `json:"differs,omitempty"`  // in a conflict: "kind", "args.NAME" or "args"
	RerunOf string        `json:"rerun_of,omitempty"` // UID of the job that this one repeats
}

// EnqueueStatus says what a request came to.
type EnqueueStatus string

// The results of one request. Without an idempotency key all are new.
const (
	StatusNew      EnqueueStatus = "new"      // accepted; UID is its own
	StatusSame     EnqueueStatus = "same"     // accepted before under this key; UID is that job's
	StatusConflict EnqueueStatus = "conflict" // not accepted; UID is the job that has the key (EnqueueMany only)
)

// Enqueue accepts one job and wakes the workers of its queue (see orchestrator.Client).
func (q *Queue) Enqueue(ctx context.Context, params EnqueueParams) (result EnqueueResult, err error) {
	if err := q.Ready(ctx); err != nil {
		return EnqueueResult{}, err
	}
	items, err := draft(ctx, []EnqueueParams{params})
	if err != nil {
		return EnqueueResult{}, err
	}
	known := q.recall(ctx, params)
	err = q.bell.transact(ctx, func(tx pgx.Tx, queues Set) error {
		result, err = q.enqueueOneTx(ctx, tx, items, queues, known)
		return err
	})
	if err != nil {
		return EnqueueResult{}, err
	}
	return result, nil
}

// EnqueueTx is Enqueue inside the caller's transaction.
func (q *Queue) EnqueueTx(ctx context.Context, tx pgx.Tx, params EnqueueParams) (EnqueueResult, error) {
	items, err := draft(ctx, []EnqueueParams{params})
	if err != nil {
		return EnqueueResult{}, err
	}
	return q.enqueueOneTx(ctx, tx, items, nil, nil)
}

// enqueueOneTx wakes the queue in the transaction, or notes it in wakeLater.
// Tenants that are not known are asked for in the transaction.
func (q *Queue) enqueueOneTx(ctx context.Context, tx pgx.Tx, items []Draft, wakeLater Set, known TenantSet) (EnqueueResult, error) {
	if err := q.placeAll(ctx, tx, items, known); err != nil {
		return EnqueueResult{}, err
	}
	items[0].WakeLater = wakeLater
	return q.accept(ctx, tx, items[0])
}

// EnqueueParams is one job of EnqueueMany: for a Tenant or for a Database,
// according to the kind's scope.
type EnqueueParams struct {
	Tenant   string // slug, UUID or org_id; "" means the context's
	Database string // for a kind of scope database
	Args     jobs.Args
	Opts     *EnqueueOpts
}

// MaxEnqueueMany bounds one EnqueueMany.
const MaxEnqueueMany = 100_000

// EnqueueMany accepts jobs, all or none, with one COPY (see orchestrator.Client).
func (q *Queue) EnqueueMany(ctx context.Context, params []EnqueueParams) (results []EnqueueResult, err error) {
	if err := q.Ready(ctx); err != nil {
		return nil, err
	}
	items, err := draftMany(ctx, params)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	err = q.bell.transact(ctx, func(tx pgx.Tx, queues Set) error {
		results, err = q.enqueueManyTx(ctx, tx, items, queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// EnqueueManyTx is EnqueueMany inside the caller's transaction.
func (q *Queue) EnqueueManyTx(ctx context.Context, tx pgx.Tx, params []EnqueueParams) ([]EnqueueResult, error) {
	items, err := draftMany(ctx, params)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	return q.enqueueManyTx(ctx, tx, items, nil)
}

func draftMany(ctx context.Context, params []EnqueueParams) ([]Draft, error) {
	if len(params) > MaxEnqueueMany {
		return nil, jobs.Inputf("params", "", "enqueueing %d jobs: give at most %d at once", len(params), MaxEnqueueMany)
	}
	return draft(ctx, params)
}

func (q *Queue) enqueueManyTx(ctx context.Context, tx pgx.Tx, items []Draft, wakeLater Set) ([]EnqueueResult, error) {
	if err := q.placeAll(ctx, tx, items, nil); err != nil {
		return nil, err
	}
	for i := range items {
		items[i].WakeLater = wakeLater
	}
	return q.acceptMany(ctx, tx, items)
}
