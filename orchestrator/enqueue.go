package orchestrator

import (
	"context"
	"fmt"
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
	UID     string `json:"uid"`                // for ever; what to keep
	ID      int64  `json:"id,omitempty"`       // the row in the queue; 0 from EnqueueMany, or if it has left
	Result  Result `json:"result"`             // whether the job is this call's own
	Differs string `json:"differs,omitempty"`  // in a conflict: "kind", "args.NAME" or "args"
	RerunOf string `json:"rerun_of,omitempty"` // UID of the job that this one repeats
}

// Result says what a request came to.
type Result string

// The results of one request. Without an idempotency key all are new.
const (
	ResultNew      Result = "new"      // accepted; UID is its own
	ResultSame     Result = "same"     // accepted before under this key; UID is that job's
	ResultConflict Result = "conflict" // not accepted; UID is the job that has the key (EnqueueMany only)
)

// Enqueue accepts one job for a tenant (its slug, UUID or org_id; "" means the
// one that ctx carries, see jobs.WithTenant). When it returns nil the job is
// committed and will run. Otherwise nothing was inserted, and the error says
// which field is wrong, or matches jobs.ErrNoTenant, jobs.ErrUnknownTenant,
// jobs.ErrTenantSuspended or ErrIdempotencyConflict.
//
// A tenant that is being moved is accepted; its jobs wait. Who the tenant is comes
// from the catalog's memory (catalog.Memory says how old that may be); a name that
// is not in it is looked up.
func (c *Client) Enqueue(ctx context.Context, tenant string, args jobs.Args, opts *EnqueueOpts) (EnqueueResult, error) {
	return c.enqueueOne(ctx, EnqueueParams{Tenant: tenant, Args: args, Opts: opts})
}

// EnqueueTx is Enqueue inside the application's own transaction on the central
// database: the job exists if and when that commits.
func (c *Client) EnqueueTx(ctx context.Context, tx pgx.Tx, tenant string, args jobs.Args, opts *EnqueueOpts) (EnqueueResult, error) {
	return c.enqueueOneTx(ctx, tx, EnqueueParams{Tenant: tenant, Args: args, Opts: opts}, nil, nil)
}

// EnqueueDatabase accepts one job of scope database for a database, named as in
// the catalog. Errors as Enqueue, and jobs.ErrUnknownDatabase.
func (c *Client) EnqueueDatabase(ctx context.Context, database string, args jobs.Args, opts *EnqueueOpts) (EnqueueResult, error) {
	return c.enqueueOne(ctx, EnqueueParams{Database: database, Args: args, Opts: opts})
}

// EnqueueDatabaseTx is EnqueueDatabase inside the application's own transaction
// on the central database.
func (c *Client) EnqueueDatabaseTx(ctx context.Context, tx pgx.Tx, database string, args jobs.Args, opts *EnqueueOpts) (EnqueueResult, error) {
	return c.enqueueOneTx(ctx, tx, EnqueueParams{Database: database, Args: args, Opts: opts}, nil, nil)
}

func (c *Client) enqueueOne(ctx context.Context, params EnqueueParams) (result EnqueueResult, err error) {
	if err := c.ready(ctx); err != nil {
		return EnqueueResult{}, err
	}
	known := c.recall(ctx, params)
	err = c.bell.transact(ctx, func(tx pgx.Tx, queues queueSet) error {
		result, err = c.enqueueOneTx(ctx, tx, params, queues, known)
		return err
	})
	if err != nil {
		return EnqueueResult{}, err
	}
	return result, nil
}

// enqueueOneTx wakes the queue in the transaction, or notes it in wakeLater.
// Tenants that are not known are asked for in the transaction.
func (c *Client) enqueueOneTx(ctx context.Context, tx pgx.Tx, params EnqueueParams, wakeLater queueSet, known tenantSet) (EnqueueResult, error) {
	items, err := c.prepare(ctx, tx, []EnqueueParams{params}, known)
	if err != nil {
		return EnqueueResult{}, fmt.Errorf("enqueueing a job: %w", err)
	}
	items[0].wakeLater = wakeLater
	return c.accept(ctx, tx, items[0])
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

// EnqueueMany accepts up to MaxEnqueueMany jobs in one transaction, all or
// none, at the speed of COPY. The results are in the order of params. An error
// names the first wrong item by its index.
//
// An item whose idempotency key is taken is no error: its result says same or
// conflict, and the others are accepted. Of two items with one key the first
// has it.
func (c *Client) EnqueueMany(ctx context.Context, params []EnqueueParams) (results []EnqueueResult, err error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	err = c.bell.transact(ctx, func(tx pgx.Tx, queues queueSet) error {
		results, err = c.enqueueManyTx(ctx, tx, params, queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// EnqueueManyTx is EnqueueMany inside the application's own transaction on the
// central database.
func (c *Client) EnqueueManyTx(ctx context.Context, tx pgx.Tx, params []EnqueueParams) ([]EnqueueResult, error) {
	return c.enqueueManyTx(ctx, tx, params, nil)
}

func (c *Client) enqueueManyTx(ctx context.Context, tx pgx.Tx, params []EnqueueParams, wakeLater queueSet) ([]EnqueueResult, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > MaxEnqueueMany {
		return nil, fmt.Errorf("enqueueing %d jobs: at most %d at once", len(params), MaxEnqueueMany)
	}
	items, err := c.prepare(ctx, tx, params, nil)
	if err != nil {
		return nil, fmt.Errorf("enqueueing %d jobs: %w", len(params), err)
	}
	for i := range items {
		items[i].wakeLater = wakeLater
	}
	return c.acceptMany(ctx, tx, items)
}
