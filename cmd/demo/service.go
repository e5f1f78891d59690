package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

// service runs the work: what `headgate serve` does, with a kind of the
// application's own beside the built-in ones. In a SaaS it is a process of its
// own, or many.
type service struct {
	worker    *worker.Worker
	scheduler *schedule.Scheduler
	reports   *blob.Bucket
}

// startService needs the central database and the catalog; where the tenants
// are it learns job by job. Reports go into a folder.
func startService(ctx context.Context, central *pgxpool.Pool, tenants *catalog.Catalog, folder string, log *slog.Logger) (*service, error) {
	schedules, err := schedule.New(schedule.Config{Pool: central, Catalog: tenants, Logger: log})
	if err != nil {
		return nil, err
	}
	w, err := worker.New(worker.Config{
		Pool: central, Resolver: tenants, StopTimeout: 2 * time.Second, Logger: log,
		Queues: map[string]int{"default": 20, jobs.BulkQueue: 10}, // maintenance is bulk work
	})
	if err != nil {
		return nil, err
	}
	reports, err := report.OpenFolder(folder)
	if err != nil {
		return nil, err
	}
	worker.InTx(w, transfer)
	worker.InTx(w, maintenance.RunPurge)
	worker.ReadOnly(w, report.New(reports))
	worker.OnConn(w, maintenance.RunAnalyze)
	if err := w.Start(ctx); err != nil {
		return nil, errors.Join(err, reports.Close())
	}
	scheduler := schedule.NewScheduler(schedules, schedule.SchedulerConfig{})
	if err := scheduler.Start(ctx); err != nil {
		return nil, errors.Join(err, w.Stop(context.WithoutCancel(ctx)), reports.Close())
	}
	return &service{worker: w, scheduler: scheduler, reports: reports}, nil
}

// stop lets what runs come to its end, for a moment.
func (s *service) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(s.scheduler.Stop(ctx), s.worker.Stop(ctx), s.reports.Close())
}
