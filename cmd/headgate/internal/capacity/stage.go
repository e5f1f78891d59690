package capacity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// stage is a private central database, in a private Postgres on this machine, with a worker.
// Its catalog has one server and one database, the copy.
type stage struct {
	run     *Run
	copied  *duplicate
	bed     *testbed.Bed
	client  *orchestrator.Client
	worker  *worker.Worker
	reports *blob.Bucket
	slugs   []string // of the tenants there are

	started bool
	most    atomic.Int64 // connections to the copy since the step began
}

// stopTime bounds the end of a stage.
const stopTime = 30 * time.Second

// open makes a central database, or leaves nothing.
func (r *Run) open(ctx context.Context) (*stage, error) {
	s := &stage{run: r, reports: memblob.OpenBucket(nil)}
	bed, err := testbed.Open(ctx, testbed.Config{KeyName: "capacity", Notify: func(sentence string) { r.Say("%s", sentence) }})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a private central database: %w", err), s.close(ctx))
	}
	s.bed = bed
	return s, nil
}

// start enters the copy and starts the worker.
func (s *stage) start(ctx context.Context, d *duplicate) (err error) {
	s.copied = d
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("entering the copy in the private catalog: %w", err)
	}
	slots := s.run.Conns - besideWorker
	log := slog.New(slog.NewTextHandler(s.run.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if s.client, err = orchestrator.New(orchestrator.Config{Pool: s.bed.Pool, Catalog: s.bed.Catalog, Logger: log}); err != nil {
		return err
	}
	s.worker, err = worker.New(worker.Config{
		Pool: s.bed.Pool, Resolver: s.bed.Catalog, Queues: map[string]int{queue: slots}, StopTimeout: stopTime / 3, Logger: log, EndedLines: -1,
	})
	if err != nil {
		return err
	}
	kinds.Register(s.worker, s.reports, kinds.Centre{Catalog: s.bed.Catalog, Importer: importer.New(s.bed.Pool, s.bed.Catalog), Client: s.client})
	if err := s.worker.Start(ctx); err != nil {
		return err
	}
	s.started = true
	return nil
}

// queue is where all jobs go.
const queue = "default"

// enter puts the server and the copy into the private catalog. The worker's part of the
// budget is the server's budget there.
func (s *stage) enter(ctx context.Context) error {
	r := s.run
	if r.Admin.RootCert != "" {
		params := catalog.AuthorityParams{Name: r.Admin.RootCert, PEM: []byte(r.Roots), Actor: actor}
		if _, err := catalog.NewAuthorities(s.bed.Pool).Add(ctx, params); err != nil {
			return err
		}
	}
	_, err := s.bed.Catalog.AddServer(ctx, catalog.ServerParams{
		Name: r.Server.Name, Hosts: r.Server.Hosts, Transport: r.Server.Transport, Pooler: address.NoPooler, Budget: r.Conns - besideWorker,
	})
	if err != nil {
		return err
	}
	_, err = s.bed.Catalog.AddDatabase(ctx, catalog.DatabaseParams{
		ID: s.copied.id, Name: r.Database, Server: r.Server.Name, DBName: s.copied.name, Kind: catalog.KindShared,
		Job: s.copied.job, Owner: s.copied.owner, SigningKey: s.copied.signingKey,
	})
	if err != nil {
		return err
	}
	// The copy is no place for decisions about tables: policies that are there bind all the same.
	_, err = s.bed.Catalog.SetProtection(ctx, catalog.ProtectionChange{
		Database: r.Database, To: catalog.ProtectionObserved, Reason: "a copy for a capacity test", Actor: actor,
	})
	return err
}

const actor = "capacity"

// grow adds tenants until there are so many, and rows for them.
func (s *stage) grow(ctx context.Context, tenants int) error {
	first := s.run.FirstOrg + int64(len(s.slugs))
	params := make([]catalog.TenantParams, 0, tenants-len(s.slugs))
	for n := len(s.slugs); n < tenants; n++ {
		slug := fmt.Sprintf("capacity-%d", n+1)
		params = append(params, catalog.TenantParams{Slug: slug, OrgID: s.run.FirstOrg + int64(n), Database: s.run.Database})
		s.slugs = append(s.slugs, slug)
	}
	if len(params) == 0 {
		return nil
	}
	if _, err := s.bed.Catalog.AddTenants(ctx, params); err != nil {
		return err
	}
	if !s.run.Mix.own() {
		return nil
	}
	conn, err := s.run.Connect(ctx, "the owner's", s.copied.owner)
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	if _, err := conn.Exec(ctx, insertEntries, first, first+int64(len(params))-1, s.run.Rows); err != nil {
		return fmt.Errorf("giving the tenants rows: %w", err)
	}
	if _, err := conn.Exec(ctx, `ANALYZE headgate_capacity.entries`); err != nil {
		return fmt.Errorf("analysing the rows: %w", err)
	}
	return nil
}

// forget deletes the reports of a step: nobody reads them.
func (s *stage) forget(ctx context.Context) error {
	for list := s.reports.List(nil); ; {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = s.reports.Delete(ctx, object.Key)
		}
		if err != nil {
			return fmt.Errorf("deleting the reports: %w", err)
		}
	}
}

// stop stops the worker, so that nobody is connected to the copy.
func (s *stage) stop(ctx context.Context) error {
	if !s.started {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return s.worker.Stop(ctx)
}

// close removes the central database.
func (s *stage) close(ctx context.Context) (err error) {
	if s.bed != nil {
		err = s.bed.Close(context.WithoutCancel(ctx))
	}
	return errors.Join(err, s.reports.Close())
}

// unended counts the jobs that have not ended, all of them the present step's.
const unended = `
SELECT count(*)::int FROM river_job WHERE state NOT IN ('cancelled', 'completed', 'discarded')`

func (s *stage) waiting(ctx context.Context) (n int, err error) {
	err = s.bed.Pool.QueryRow(ctx, unended).Scan(&n)
	return n, err
}

// selectEnds are the last outcomes of jobs that have ended since $1.
const selectEnds = `
SELECT job_uid::text, state, kind, class, message, started_at, ended_at
FROM headgate.outcomes
WHERE ended_at >= $1 AND state IN ('succeeded', 'cancelled', 'discarded')`

// end is how one job ended.
type end struct {
	uid, state, kind, class, message string
	started, ended                   time.Time
}

func (s *stage) ends(ctx context.Context, since time.Time) ([]end, error) {
	rows, _ := s.bed.Pool.Query(ctx, selectEnds, since) // its error is CollectRows' too
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e end, err error) {
		return e, row.Scan(&e.uid, &e.state, &e.kind, &e.class, &e.message, &e.started, &e.ended)
	})
}
