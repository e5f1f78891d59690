package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Rerun enqueues a job once more, as a new job with a UID of its own: the same
// kind and arguments for the same tenant or database, with the same queue,
// priority, attempts, tags and timeout unless opts says otherwise, and due now
// unless opts says when. The first job stays as it is, in whatever state, and if
// it has had its effect, that happens again. A rerun of a scheduled occurrence
// is for the same nominal time.
//
// The result's RerunOf is the first job's UID. Errors are those of Enqueue,
// ErrUnknownJob, and ErrRetryRefused once the row has left the queue, for the
// history keeps no arguments.
func (c *Client) Rerun(ctx context.Context, uidOrID string, opts *EnqueueOpts) (result EnqueueResult, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		result, err = c.RerunTx(ctx, tx, uidOrID, opts)
		return err
	})
	if err != nil {
		return EnqueueResult{}, err
	}
	return result, nil
}

// RerunTx is Rerun inside the caller's transaction on the central database.
func (c *Client) RerunTx(ctx context.Context, tx pgx.Tx, uidOrID string, opts *EnqueueOpts) (EnqueueResult, error) {
	if opts == nil {
		opts = &EnqueueOpts{}
	}
	r, err := c.lockRow(ctx, tx, uidOrID)
	if errors.Is(err, ErrJobFinished) {
		return EnqueueResult{}, fmt.Errorf("%w: %w; the history does not keep arguments, so enqueue it anew", ErrRetryRefused, err)
	}
	if err != nil {
		return EnqueueResult{}, fmt.Errorf("rerunning a job: %w", err)
	}
	it, err := r.again(ctx, opts)
	if err == nil {
		err = c.placeAgain(ctx, tx, &it)
	}
	if err != nil {
		return EnqueueResult{}, fmt.Errorf("rerunning job %s: %w", r.uid, err)
	}
	return c.accept(ctx, tx, it)
}

// again is the row's job as a new one. What opts says is checked; what the row
// says was accepted before, by us or by another River client.
func (r *row) again(ctx context.Context, opts *EnqueueOpts) (item, error) {
	given := item{
		kind: "rerun", queue: cmp.Or(opts.Queue, "default"), priority: cmp.Or(opts.Priority, 1),
		maxAttempts: cmp.Or(opts.MaxAttempts, 1), tags: opts.Tags,
	}
	if err := given.check(opts, time.Now()); err != nil {
		return item{}, err
	}
	it := item{
		kind: r.kind, args: r.args, runAt: opts.RunAt, key: opts.IdempotencyKey, late: given.late, tags: slices.Clone(opts.Tags),
		queue: cmp.Or(opts.Queue, r.queue), priority: cmp.Or(opts.Priority, r.priority),
		maxAttempts: cmp.Or(opts.MaxAttempts, r.maxAttempts),
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: r.meta.Tenant, Database: r.meta.Database,
			TimeoutMS: cmp.Or(opts.Timeout.Milliseconds(), r.meta.TimeoutMS), Schedule: r.meta.Schedule, Nominal: r.meta.Nominal,
			RerunOf: r.uid, TraceParent: cmp.Or(jobs.TraceParentFrom(ctx), newTraceParent()),
		},
	}
	if opts.Tags == nil {
		it.tags = r.tags
	}
	return it, nil
}

// placeAgain checks that the tenant or database of the first job still takes
// work, and that it is not too late.
func (c *Client) placeAgain(ctx context.Context, tx pgx.Tx, it *item) error {
	if it.meta.Tenant == "" && it.meta.Database == "" {
		return fmt.Errorf("%w: its row names neither a tenant nor a database", jobs.ErrNoTenant)
	}
	tenants, err := c.tenantsOf(ctx, tx, []item{*it}, nil)
	if err != nil {
		return err
	}
	if err := c.place(ctx, tx, &it.meta, tenants, map[string]string{}); err != nil {
		return err
	}
	return refuseLate(ctx, tx, []item{*it})
}
