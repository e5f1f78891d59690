package orchestrator

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Enqueue accepts one job for a tenant (its slug, UUID or org_id; "" means the
// one that ctx carries, see jobs.WithTenant). When it returns nil the job is
// committed and will run. Otherwise nothing was inserted, and the error says
// which field is wrong, or matches jobs.ErrNoTenant, jobs.ErrUnknownTenant,
// jobs.ErrTenantSuspended, jobs.ErrFeatureOff, jobs.ErrKindNotAllowed or
// jobs.ErrIdempotencyConflict. Whether the tenant takes the work is asked first: a request
// that is repeated after that has changed is refused too, and its first job waits.
//
// A tenant that is being moved is accepted; its jobs wait. Who the tenant is comes
// from the catalog's memory (catalog.Memory says how old that may be); a name that
// is not in it is looked up.
func (c *Client) Enqueue(ctx context.Context, tenant string, args jobs.Args, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	return c.queue.Enqueue(ctx, jobs.EnqueueParams{Tenant: tenant, Args: args, Opts: opts})
}

// EnqueueTx is Enqueue inside the application's own transaction on the central
// database: the job exists if and when that commits.
func (c *Client) EnqueueTx(ctx context.Context, tx pgx.Tx, tenant string, args jobs.Args, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	return c.queue.EnqueueTx(ctx, tx, jobs.EnqueueParams{Tenant: tenant, Args: args, Opts: opts})
}

// EnqueueDatabase accepts one job of scope database for a database, named as in
// the catalog. Errors as Enqueue, and jobs.ErrUnknownDatabase.
func (c *Client) EnqueueDatabase(ctx context.Context, database string, args jobs.Args, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	return c.queue.Enqueue(ctx, jobs.EnqueueParams{Database: database, Args: args, Opts: opts})
}

// EnqueueDatabaseTx is EnqueueDatabase inside the application's own transaction
// on the central database.
func (c *Client) EnqueueDatabaseTx(ctx context.Context, tx pgx.Tx, database string, args jobs.Args, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	return c.queue.EnqueueTx(ctx, tx, jobs.EnqueueParams{Database: database, Args: args, Opts: opts})
}

// EnqueueMany accepts up to jobs.MaxEnqueueMany jobs in one transaction, all or
// none, at the speed of COPY. The results are in the order of params. An error
// names the first wrong item by its index.
//
// An item whose idempotency key is taken is no error: its result says same or
// conflict, and the others are accepted. Of two items with one key the first
// has it.
func (c *Client) EnqueueMany(ctx context.Context, params []jobs.EnqueueParams) ([]jobs.EnqueueResult, error) {
	return c.queue.EnqueueMany(ctx, params)
}

// EnqueueManyTx is EnqueueMany inside the application's own transaction on the
// central database.
func (c *Client) EnqueueManyTx(ctx context.Context, tx pgx.Tx, params []jobs.EnqueueParams) ([]jobs.EnqueueResult, error) {
	return c.queue.EnqueueManyTx(ctx, tx, params)
}
