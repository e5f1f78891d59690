package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverSide is River alone, as one would write it by hand: its own tables, a
// pool for each tenant database, no catalog, no ledger, no history.
func (s *stage) riverSide(ctx context.Context) (*side, error) {
	name := s.bed.DBName + "_theirs"
	if err := s.bed.Empty(ctx, name); err != nil {
		return nil, err
	}
	r := &riverSide{stage: s}
	var err error
	if r.workers, err = s.pool(ctx, name); err != nil {
		return nil, err
	}
	if r.pool, err = s.pool(ctx, name); err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(r.pool), &rivermigrate.Config{Logger: s.warnings()})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	// Lists are shown to a waiting worker: with its default cooldown River's client
	// would not wake it for the second of two, and the worker sleep until its poll.
	r.inserter, err = r.client(nil, tuned)
	return &side{
		name: "river", pool: r.pool, work: r.work, one: r.one, many: r.many, cold: s.coldVisits, warm: s.warmVisits, tables: "river_job",
		ended: `SELECT count(*) FROM river_job WHERE state = 'completed'`,
	}, err
}

// riverSide is what the side's functions stand on.
type riverSide struct {
	stage    *stage
	workers  *pgxpool.Pool // of the worker
	pool     *pgxpool.Pool // of whoever enqueues
	inserter *river.Client[pgx.Tx]
}

// client makes a client, which only inserts without workers. cooldown 0 is
// River's default.
func (r *riverSide) client(workers *river.Workers, cooldown time.Duration) (*river.Client[pgx.Tx], error) {
	cfg := &river.Config{Logger: r.stage.warnings(), FetchCooldown: cooldown}
	pool := r.pool
	if workers != nil {
		cfg.Workers, cfg.Queues = workers, map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: r.stage.opts.slots}}
		pool = r.workers
	}
	return river.NewClient(riverpgxv5.New(pool), cfg)
}

// riverWorker is the hand-written loop's handler.
type riverWorker struct {
	river.WorkerDefaults[jobArgs]
	begun   func(n int)
	tenants []*pgxpool.Pool // nil: a job has no effect
	orgs    int             // how many tenants there are
}

// Work is called by River.
func (w *riverWorker) Work(ctx context.Context, job *river.Job[jobArgs]) error {
	if w.tenants == nil {
		w.begun(job.Args.N)
		return nil
	}
	return pgx.BeginFunc(ctx, w.tenants[job.Args.N%len(w.tenants)], func(tx pgx.Tx) error {
		w.begun(job.Args.N) // with an open transaction, as ours
		_, err := tx.Exec(ctx, insertEffect, job.Args.N%w.orgs+1, job.Args.N)
		return err
	})
}

func (r *riverSide) work(ctx context.Context, w workload) (func(context.Context) error, error) {
	handler := &riverWorker{begun: w.begun, orgs: r.stage.layout.databases * r.stage.layout.tenantsEach}
	closePools := func() {
		for _, pool := range handler.tenants {
			pool.Close()
		}
	}
	if w.effect {
		for _, d := range r.stage.tenants {
			pool, err := r.stage.server.PoolAs(ctx, d.Job, r.stage.layout.conns)
			if err != nil {
				closePools()
				return nil, err
			}
			handler.tenants = append(handler.tenants, pool)
		}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, handler)
	client, err := r.client(workers, w.cooldown)
	if err == nil {
		err = client.Start(ctx)
	}
	if err != nil {
		closePools()
		return nil, err
	}
	return func(ctx context.Context) error {
		defer closePools()
		return client.Stop(ctx)
	}, nil
}

func (r *riverSide) one(cooldown time.Duration) (func(context.Context, jobArgs) error, error) {
	client, err := r.client(nil, cooldown)
	return func(ctx context.Context, args jobArgs) error {
		_, err := client.Insert(ctx, args, nil)
		return err
	}, err
}

func (r *riverSide) many(ctx context.Context, tx pgx.Tx, all []jobArgs) error {
	params := make([]river.InsertManyParams, len(all))
	for i, args := range all {
		params[i].Args = args
	}
	_, err := r.inserter.InsertManyFastTx(ctx, tx, params)
	return err
}

// warnings is the logger of both sides: lines for each job would be measured.
func (s *stage) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.app.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
