package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// headgateSide is Headgate as its users have it: history, ledger and catalog on.
func (s *benchStage) headgateSide(ctx context.Context) (*side, error) {
	name := s.name + "_ours"
	if err := s.create(ctx, name, "template0"); err != nil {
		return nil, err
	}
	err := s.on(ctx, name, func(conn *pgx.Conn) error { _, err := migrations.Up(ctx, conn, nil); return err })
	if err != nil {
		return nil, err
	}
	ring, err := catalog.NewKeyRing(catalog.NewKey("bench"))
	if err != nil {
		return nil, err
	}
	workers, err := s.pool(ctx, name)
	if err != nil {
		return nil, err
	}
	pool, err := s.pool(ctx, name)
	if err != nil {
		return nil, err
	}
	h := &headgateSide{stage: s, slugs: make([]string, s.layout.databases*s.layout.tenantsEach),
		forgetful: func() *catalog.Catalog { return catalog.New(workers, ring) }}
	if err := h.enrol(ctx, catalog.New(pool, ring)); err != nil {
		return nil, err
	}
	h.client, err = orchestrator.New(orchestrator.Config{Pool: pool, Catalog: s.catalog(pool, ring), Logger: s.p.log})
	h.config = worker.Config{
		Pool: workers, CentralConns: benchCentralConns, Resolver: s.catalog(workers, ring), Queues: map[string]int{"default": s.opts.slots},
		Tenants: tenantdb.Config{MaxConns: s.layout.conns * s.layout.databases}, Logger: s.warnings(),
	}
	return &side{
		name: "headgate", pool: pool, work: h.work, one: h.one, many: h.many, cold: h.coldVisits, warm: h.warmVisits,
		tables: "river_job, headgate.outcomes, headgate.workers, headgate.suspects, headgate.idempotency_keys, headgate.lanes, headgate.lane_groups, headgate.wakeups, headgate.hands",
		ended:  `SELECT count(*) FROM headgate.outcomes o JOIN river_job j ON j.id = o.job_id WHERE o.state = 'succeeded' AND j.state = 'completed'`,
	}, err
}

// catalog is one that listens to changes, as in an application and in serve.
func (s *benchStage) catalog(pool *pgxpool.Pool, ring *catalog.KeyRing) *catalog.Catalog {
	cat := catalog.New(pool, ring)
	listener := catalog.NewListener(cat, catalog.ListenerConfig{Logger: s.warnings()})
	listener.Start()
	s.later(func(context.Context) error { listener.Stop(); return nil })
	return cat
}

// headgateSide is what the side's functions stand on.
type headgateSide struct {
	stage  *benchStage
	client *orchestrator.Client
	config worker.Config
	slugs  []string // of the tenants, by number
	uuids  []string // the same

	forgetful func() *catalog.Catalog // makes one that knows nothing yet
}

// enrol enters the server, its databases and the tenants, which take turns.
func (h *headgateSide) enrol(ctx context.Context, cat *catalog.Catalog) error {
	s := h.stage
	server := catalog.ServerParams{Name: "bench", Hosts: []string{s.config.ConnConfig.Host}, Transport: s.transport(), Budget: s.layout.conns * s.layout.databases}
	if _, err := cat.AddServer(ctx, server); err != nil {
		return err
	}
	kind := catalog.KindShared
	if s.layout.tenantsEach == 1 {
		kind = catalog.KindDedicated
	}
	for i, d := range s.tenants {
		_, err := cat.AddDatabase(ctx, catalog.DatabaseParams{
			ID: d.id, Name: fmt.Sprintf("bench-%d", i+1), Server: "bench", Kind: kind,
			Job: s.address(d, s.job), Owner: s.address(d, s.owner),
		})
		if err != nil {
			return err
		}
	}
	params := make([]catalog.TenantParams, len(h.slugs))
	for i := range params {
		h.slugs[i] = fmt.Sprintf("tenant-%d", i+1)
		params[i] = catalog.TenantParams{Slug: h.slugs[i], Database: fmt.Sprintf("bench-%d", i%len(s.tenants)+1)}
	}
	added, err := cat.AddTenants(ctx, params)
	for _, tenant := range added {
		h.uuids = append(h.uuids, tenant.ID)
	}
	return err
}

// work runs a worker. A job without an effect is of the cheapest form that still
// resolves its tenant and leaves an outcome: NoConn.
func (h *headgateSide) work(ctx context.Context, w benchWork) (func(context.Context) error, error) {
	cfg := h.config
	cfg.FetchCooldown = w.cooldown
	runner, err := worker.New(cfg)
	if err != nil {
		return nil, err
	}
	if w.effect {
		worker.InTx(runner, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[benchArgs]) error {
			w.begun(job.Args.N)
			_, err := tx.Exec(ctx, insertEffect, job.Tenant.OrgID, job.Args.N)
			return err
		})
	} else {
		worker.NoConn(runner, func(_ context.Context, job *jobs.Job[benchArgs]) error {
			w.begun(job.Args.N)
			return nil
		})
	}
	return runner.Stop, runner.Start(ctx)
}

func (h *headgateSide) one(time.Duration) (func(context.Context, benchArgs) error, error) {
	return func(ctx context.Context, args benchArgs) error {
		_, err := h.client.Enqueue(ctx, h.slugs[args.N%len(h.slugs)], args, nil)
		return err
	}, nil
}

func (h *headgateSide) many(ctx context.Context, tx pgx.Tx, all []benchArgs) error {
	params := make([]orchestrator.EnqueueParams, len(all))
	for i, args := range all {
		params[i] = orchestrator.EnqueueParams{Tenant: h.slugs[args.N%len(h.slugs)], Args: args}
	}
	_, err := h.client.EnqueueManyTx(ctx, tx, params)
	return err
}
