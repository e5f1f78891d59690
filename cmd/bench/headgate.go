package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// headgateSide is Headgate as its users have it: history, ledger and catalog on.
func (s *stage) headgateSide(ctx context.Context) (*side, error) {
	pool, ring := s.bed.Pool, s.bed.Keys
	workers, err := s.pool(ctx, s.bed.DBName)
	if err != nil {
		return nil, err
	}
	h := &headgateSide{stage: s, slugs: make([]string, s.layout.databases*s.layout.tenantsEach),
		forgetful: func() *catalog.Catalog { return catalog.New(workers, ring) }}
	if err := h.enrol(ctx, s.bed.Catalog); err != nil {
		return nil, err
	}
	cat, err := s.catalog(ctx, pool, ring)
	if err != nil {
		return nil, err
	}
	resolver, err := s.catalog(ctx, workers, ring)
	if err != nil {
		return nil, err
	}
	h.client, err = orchestrator.New(orchestrator.Config{Pool: pool, Catalog: cat, Logger: s.app.Log})
	h.config = worker.Config{
		Pool: workers, CentralConns: centralConns, Resolver: resolver, Queues: map[string]int{"default": s.opts.slots},
		Tenants: tenantdb.Config{MaxConns: s.layout.conns * s.layout.databases}, Logger: s.warnings(),
	}
	return &side{
		name: "headgate", pool: pool, work: h.work, watched: h.watched, one: h.one, many: h.many, cold: h.coldVisits, warm: h.warmVisits,
		tables: "river_job, headgate.outcomes, headgate.workers, headgate.suspects, headgate.idempotency_keys, headgate.lanes, headgate.lane_groups, headgate.wakeups, headgate.hands",
		ended:  `SELECT count(*) FROM headgate.outcomes o JOIN river_job j ON j.id = o.job_id WHERE o.state = 'succeeded' AND j.state = 'completed'`,
	}, err
}

// catalog is one that listens to changes, as in an application and in serve.
func (s *stage) catalog(ctx context.Context, pool *pgxpool.Pool, ring *catalog.KeyRing) (*catalog.Catalog, error) {
	cat := catalog.New(pool, ring)
	listener := catalog.NewListener(cat, catalog.ListenerConfig{Logger: s.warnings()})
	s.later(listener.Stop)
	return cat, listener.Start(ctx)
}

// headgateSide is what the side's functions stand on.
type headgateSide struct {
	stage  *stage
	client *orchestrator.Client
	config worker.Config
	slugs  []string // of the tenants, by number
	uuids  []string // the same

	forgetful func() *catalog.Catalog // makes one that knows nothing yet
}

// enrol enters the tenants, which take turns among the databases.
func (h *headgateSide) enrol(ctx context.Context, cat *catalog.Catalog) error {
	params := make([]catalog.TenantParams, len(h.slugs))
	for i := range params {
		h.slugs[i] = fmt.Sprintf("tenant-%d", i+1)
		params[i] = catalog.TenantParams{Slug: h.slugs[i], Database: databaseName(i % len(h.stage.tenants))}
	}
	added, err := cat.AddTenants(ctx, params)
	for _, tenant := range added {
		h.uuids = append(h.uuids, tenant.ID)
	}
	return err
}

// work runs a worker. A job without an effect is of the cheapest form that still
// resolves its tenant and leaves an outcome: NoConn.
func (h *headgateSide) work(ctx context.Context, w workload) (func(context.Context) error, error) {
	return h.workWith(ctx, w, h.config)
}

// watched is work with telemetry.
func (h *headgateSide) watched(by telemetry) func(context.Context, workload) (func(context.Context) error, error) {
	return func(ctx context.Context, w workload) (func(context.Context) error, error) {
		cfg := h.config
		cfg.Meter, cfg.Tracer = by.meter, by.tracer
		return h.workWith(ctx, w, cfg)
	}
}

func (h *headgateSide) workWith(ctx context.Context, w workload, cfg worker.Config) (func(context.Context) error, error) {
	cfg.FetchCooldown = w.cooldown
	runner, err := worker.New(cfg)
	if err != nil {
		return nil, err
	}
	if w.effect {
		worker.InTx(runner, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[jobArgs]) error {
			w.begun(job.Args.N)
			_, err := tx.Exec(ctx, insertEffect, job.Tenant.OrgID, job.Args.N)
			return err
		})
	} else {
		worker.NoConn(runner, func(_ context.Context, job *jobs.Job[jobArgs]) error {
			w.begun(job.Args.N)
			return nil
		})
	}
	return runner.Stop, runner.Start(ctx)
}

func (h *headgateSide) one(time.Duration) (func(context.Context, jobArgs) error, error) {
	return func(ctx context.Context, args jobArgs) error {
		_, err := h.client.Enqueue(ctx, h.slugs[args.N%len(h.slugs)], args, nil)
		return err
	}, nil
}

func (h *headgateSide) many(ctx context.Context, tx pgx.Tx, all []jobArgs) error {
	params := make([]jobs.EnqueueParams, len(all))
	for i, args := range all {
		params[i] = jobs.EnqueueParams{Tenant: h.slugs[args.N%len(h.slugs)], Args: args}
	}
	_, err := h.client.EnqueueManyTx(ctx, tx, params)
	return err
}
