package queue

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Enqueue accepts one job and wakes the workers of its queue (see orchestrator.Client).
func (q *Queue) Enqueue(ctx context.Context, params jobs.EnqueueParams) (result jobs.EnqueueResult, err error) {
	ctx, end := q.send(ctx, []jobs.EnqueueParams{params})
	defer func() { end(err) }()
	if err := q.Ready(ctx); err != nil {
		return jobs.EnqueueResult{}, err
	}
	items, err := draft(ctx, []jobs.EnqueueParams{params})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	known := q.recall(ctx, params)
	err = q.bell.transact(ctx, func(tx pgx.Tx, queues Set) error {
		result, err = q.enqueueOneTx(ctx, tx, items, queues, known)
		return err
	})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	return result, nil
}

// EnqueueTx is Enqueue inside the caller's transaction.
func (q *Queue) EnqueueTx(ctx context.Context, tx pgx.Tx, params jobs.EnqueueParams) (_ jobs.EnqueueResult, err error) {
	ctx, end := q.send(ctx, []jobs.EnqueueParams{params})
	defer func() { end(err) }()
	items, err := draft(ctx, []jobs.EnqueueParams{params})
	if err != nil {
		return jobs.EnqueueResult{}, err
	}
	return q.enqueueOneTx(ctx, tx, items, nil, nil)
}

// enqueueOneTx wakes the queue in the transaction, or notes it in wakeLater.
// Tenants that are not known are asked for in the transaction.
func (q *Queue) enqueueOneTx(ctx context.Context, tx pgx.Tx, items []Draft, wakeLater Set, known TenantSet) (jobs.EnqueueResult, error) {
	if err := q.placeAll(ctx, tx, items, known); err != nil {
		return jobs.EnqueueResult{}, err
	}
	items[0].WakeLater = wakeLater
	return q.accept(ctx, tx, items[0])
}

// EnqueueMany accepts jobs, all or none, with one COPY (see orchestrator.Client).
func (q *Queue) EnqueueMany(ctx context.Context, params []jobs.EnqueueParams) (results []jobs.EnqueueResult, err error) {
	ctx, end := q.send(ctx, params)
	defer func() { end(err) }()
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
func (q *Queue) EnqueueManyTx(ctx context.Context, tx pgx.Tx, params []jobs.EnqueueParams) (_ []jobs.EnqueueResult, err error) {
	ctx, end := q.send(ctx, params)
	defer func() { end(err) }()
	items, err := draftMany(ctx, params)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	return q.enqueueManyTx(ctx, tx, items, nil)
}

func draftMany(ctx context.Context, params []jobs.EnqueueParams) ([]Draft, error) {
	if len(params) > jobs.MaxEnqueueMany {
		return nil, jobs.Inputf("params", "", "enqueueing %s: give at most %d at once", jobs.Count(len(params), "job"), jobs.MaxEnqueueMany)
	}
	return draft(ctx, params)
}

func (q *Queue) enqueueManyTx(ctx context.Context, tx pgx.Tx, items []Draft, wakeLater Set) ([]jobs.EnqueueResult, error) {
	if err := q.placeAll(ctx, tx, items, nil); err != nil {
		return nil, err
	}
	for i := range items {
		items[i].WakeLater = wakeLater
	}
	return q.acceptMany(ctx, tx, items)
}

// send begins the span of an enqueue.
func (q *Queue) send(ctx context.Context, params []jobs.EnqueueParams) (context.Context, func(error)) {
	kind := "nothing"
	if len(params) > 0 && jobs.CheckArgs(params[0].Args) == nil { // nil has no kind; its own check refuses it
		kind = params[0].Args.Kind()
	}
	return q.tracer.Send(ctx, kind, len(params))
}
