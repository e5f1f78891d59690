package queue

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
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
)

// Rerun enqueues a job once more, as a new job (see orchestrator.Client).
func (q *Queue) Rerun(ctx context.Context, tx pgx.Tx, uid string, opts *jobs.EnqueueOpts) (jobs.EnqueueResult, error) {
	if opts == nil {
		opts = &jobs.EnqueueOpts{}
	}
	r, err := q.lockRow(ctx, tx, uid)
	if errors.Is(err, jobs.ErrJobFinished) {
		return jobs.EnqueueResult{}, fmt.Errorf("%w: %w; the history does not keep arguments, so enqueue it anew", jobs.ErrRetryRefused, err)
	}
	if err != nil {
		return jobs.EnqueueResult{}, fmt.Errorf("rerunning a job: %w", err)
	}
	it, err := r.again(ctx, opts)
	if err == nil {
		err = q.check(it.Kind, it.Args)
	}
	if err == nil {
		err = q.placeAgain(ctx, tx, &it)
	}
	if err != nil {
		return jobs.EnqueueResult{}, fmt.Errorf("rerunning job %s: %w", r.uid, err)
	}
	return q.accept(ctx, tx, it)
}

// again is the row's job as a new one. What opts says is checked; what the row
// says was accepted before, by us or by another River client.
func (r *row) again(ctx context.Context, opts *jobs.EnqueueOpts) (Draft, error) {
	given := Draft{
		Kind: "rerun", tags: opts.Tags,
		Choices: wire.Choices{Queue: opts.Queue, Priority: opts.Priority, MaxAttempts: opts.MaxAttempts}.Complete(jobs.KindOpts{}),
	}
	if err := given.Check(opts, time.Now()); err != nil {
		return Draft{}, err
	}
	it := Draft{
		Kind: r.kind, Args: r.args, runAt: opts.RunAt, key: opts.IdempotencyKey, late: given.late, tags: slices.Clone(opts.Tags),
		Choices: wire.Choices{
			Queue: cmp.Or(opts.Queue, r.queue), Priority: cmp.Or(opts.Priority, r.priority), MaxAttempts: cmp.Or(opts.MaxAttempts, r.maxAttempts),
		},
		Meta: wire.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), Tenant: r.meta.Tenant, Database: r.meta.Database,
			TimeoutMS: cmp.Or(opts.Timeout.Milliseconds(), r.meta.TimeoutMS), Schedule: r.meta.Schedule, Nominal: r.meta.Nominal,
			Brand:   cmp.Or(opts.Brand, r.meta.Brand),
			RerunOf: r.uid, TraceParent: telemetry.TraceParent(ctx),
		},
	}
	if opts.Tags == nil {
		it.tags = r.tags
	}
	return it, nil
}

// placeAgain checks that the tenant or database of the first job still takes
// work, and that it is not too late.
func (q *Queue) placeAgain(ctx context.Context, tx pgx.Tx, it *Draft) error {
	if it.Meta.Tenant == "" && it.Meta.Database == "" {
		return fmt.Errorf("%w: its row names neither a tenant nor a database", jobs.ErrNoTenant)
	}
	tenants, err := q.TenantsOf(ctx, tx, []Draft{*it}, nil)
	if err != nil {
		return err
	}
	if err := q.place(ctx, tx, it, tenants, map[string]string{}); err != nil {
		return err
	}
	if err := checkBrands(ctx, tx, []Draft{*it}); err != nil {
		return err
	}
	return refuseLate(ctx, tx, []Draft{*it})
}
