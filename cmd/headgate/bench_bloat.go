package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// churn is how many jobs a second pass through the queue while the snapshot is
// held: each leaves some dead rows that nothing may take away.
const churn = 300

// measureBloat drains a queue that has been in use beside a million finished jobs
// and a transaction whose snapshot has been open for --pinned, so that no vacuum
// could remove a row version since; and, as theirs, one that is fresh. Both are
// Headgate's.
func measureBloat(ctx context.Context, s *benchStage) ([]comparison, error) {
	const what = "no-op jobs beside a million finished and a pinned snapshot; theirs is a fresh queue"
	s.tell(what)
	w := benchWork{cooldown: tuned}
	n, err := s.drainSize(ctx, w, s.ours)
	if err != nil {
		return nil, err
	}
	pairs := make([]pair, s.opts.pairs)
	for i := range pairs {
		pairs[i].theirs, err = s.half(ctx, s.ours, func(ctx context.Context, who *side) (half, error) { return s.drain(ctx, who, w, n) })
		if err != nil {
			return nil, err
		}
		pairs[i].ours, err = s.half(ctx, s.ours, func(ctx context.Context, who *side) (half, error) { return s.bloated(ctx, who, w, n) })
		if err != nil {
			return nil, err
		}
	}
	return []comparison{compare(measure{what, perSecond, half.rate}, pairs), compare(measure{what, inCPUMicro, half.cpuMicros}, pairs)}, nil
}

// bloated is drain after all that.
func (s *benchStage) bloated(ctx context.Context, who *side, w benchWork, n int) (h half, err error) {
	if _, err := who.pool.Exec(ctx, finishedJobs, s.opts.finished); err != nil {
		return h, fmt.Errorf("making finished jobs: %w", err)
	}
	if _, err := who.pool.Exec(ctx, `ANALYZE river_job`); err != nil {
		return h, err
	}
	pin, err := who.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, pin.Rollback(context.WithoutCancel(ctx))) }()
	if _, err := pin.Exec(ctx, `SELECT count(*) FROM headgate.lanes`); err != nil { // from here on it has a snapshot
		return h, err
	}
	if err := s.pass(ctx, who); err != nil {
		return h, err
	}
	return s.drain(ctx, who, w, n)
}

// pass lets jobs through the queue for as long as the snapshot is to be held.
func (s *benchStage) pass(ctx context.Context, who *side) (err error) {
	stop, err := who.work(ctx, benchWork{begun: func(int) {}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop(context.WithoutCancel(ctx))) }()
	const every = 100 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	jobs := numbered(int(churn * every / time.Second))
	for over := time.Now().Add(s.opts.pinned); time.Now().Before(over); {
		for i := range jobs {
			jobs[i].N += len(jobs)
		}
		if err := pgx.BeginFunc(ctx, who.pool, func(tx pgx.Tx) error { return who.many(ctx, tx, jobs) }); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return who.settled(ctx)
}

// finishedJobs are $1 rows as jobs leave them, of the last hour, with their history.
const finishedJobs = `
WITH done AS (
    INSERT INTO river_job (state, attempt, max_attempts, attempted_at, created_at, finalized_at, scheduled_at, args, attempted_by, kind, metadata)
    SELECT 'completed', 1, 25, at, at, at, at, jsonb_build_object('n', n), ARRAY['0190aaaa-0000-7000-8000-000000000001:' || n], 'bench',
           jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id)
    FROM (SELECT n, now() - interval '1 hour' + n * interval '1 ms' AS at FROM generate_series(1, $1::int) n) x
    JOIN (SELECT id, row_number() OVER () - 1 AS place, count(*) OVER () AS tenants FROM headgate.tenants) t ON t.place = x.n % t.tenants
    RETURNING id, metadata, finalized_at
)
INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, started_at, ended_at, worker)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, (metadata->>'tenant')::uuid, 'bench', 1, 'succeeded', finalized_at, finalized_at, 'before' FROM done`
