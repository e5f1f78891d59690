package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"gocloud.dev/blob"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/headgate/internal/workcmd"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

const serveLong = `Fire schedules and run jobs of the built-in kinds until a signal comes: the
first lets running jobs end, the second ends at once. As many as wanted may run.

A change of a tenant, database or server counts at once: the central database
notifies. Where DATABASE_URL goes through a pooler in transaction mode
(--central-pooler transaction), give the database's own address in
DATABASE_DIRECT_URL (or _FILE); without it changes count after half a second.

Queue bulk holds what runs over many tenants, as maintenance does; it has slots
of its own (--bulk-slots), so that neither waits behind the other.

With --listen PORT browsers of this machine see the jobs in River's own UI. It reads
only, unless --ui-write lets whoever opens the one-time address change things too.

Kinds of your own live in your own program: see cmd/example-worker.`

func serveCommand(app *cli.App) *cobra.Command {
	return stayCommand(app, "serve", "Fire schedules and run jobs", serveLong, true)
}

func workerCommand(app *cli.App) *cobra.Command {
	cmd := stayCommand(app, "worker", "Run jobs only; somebody else fires the schedules",
		strings.Replace(serveLong, "Fire schedules and run jobs", "Run jobs", 1), false)
	cmd.AddCommand(workcmd.WorkerList(app))
	return cmd
}

func stayCommand(app *cli.App, name, short, long string, schedules bool) *cobra.Command {
	stay := staying{schedules: schedules}
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cli.Args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := app.Keys()
			if err != nil {
				return err
			}
			err = runUntil(cmd.Context(), app, ring, stay)
			if cli.LacksRight(err) {
				return fmt.Errorf("%w; this login may not do a worker's work: have an administrator GRANT headgate_worker TO it, or give another login in DATABASE_URL", err)
			}
			return err
		},
	}
	stay.flags(cmd)
	return cmd
}

// staying is how serve, worker and dev run.
type staying struct {
	schedules bool // fire them too
	slots     int
	bulk      int
	given     func(flag string) bool
	queues    []string
	reports   string
	detail    string
	health    string
	watch     []string
	top       bool
	pages     pageFlags
}

func (s *staying) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	s.given = flags.Changed
	cli.IntVar(flags, &s.slots, "slots", defaultSlots, "how many jobs of queue default run at once in this process (0: none)")
	cli.IntVar(flags, &s.bulk, "bulk-slots", bulkSlots, "how many jobs of queue bulk run at once in this process; it has what runs over many tenants, as maintenance does (0, or --slots 0 alone: none)")
	flags.StringArrayVar(&s.queues, "queue", nil, "another queue NAME=SLOTS; may be repeated")
	flags.StringVar(&s.reports, "reports", "./reports", "the directory for reports")
	flags.StringVar(&s.detail, "error-detail", string(worker.ErrorsRedacted), "how much is kept of what a tenant's database says of an error: "+strings.Join(worker.DetailLevels, ", ")+" (redacted keeps the condition's name where a message may hold values of rows)")
	flags.StringVar(&s.health, "health", "", "answer /livez, /readyz, /startupz and /metrics at HOST:PORT, or at a port of 127.0.0.1 (not unless given)")
	flags.BoolVar(&s.top, "top-tenants", false, "add metrics of the ten busiest tenants and the ten that fail most: whoever reads /metrics reads their names")
	flags.StringArrayVar(&s.watch, "watch-schedule", nil, "a schedule's NAME whose last success is a metric, for the tenant that waits longest; may be repeated, 20 at most")
	s.pages.flags(cmd)
	cli.Complete(cmd, "error-detail", worker.DetailLevels)
}

// What a process works on unless flags say otherwise. Bulk work has slots of its
// own: what somebody waits for is not stuck behind it, nor it behind that.
const (
	defaultSlots = 20
	bulkSlots    = 10
)

func (s *staying) queueSlots() (map[string]int, error) {
	queues := map[string]int{}
	if s.slots != 0 {
		queues["default"] = s.slots
	}
	named := func(text string) bool { return strings.HasPrefix(text, jobs.BulkQueue+"=") }
	switch asked := s.given("bulk-slots"); {
	case asked && s.bulk != 0:
		queues[jobs.BulkQueue] = s.bulk
	case !asked && s.slots != 0 && !slices.ContainsFunc(s.queues, named): // who names its queues gets no others
		queues[jobs.BulkQueue] = bulkSlots
	}
	for _, text := range s.queues {
		name, number, _ := strings.Cut(text, "=")
		slots, ok := cli.Whole(number)
		if !ok || name == "" {
			return nil, cli.Usagef("--queue: %s is not NAME=SLOTS, as in reports=4", cli.Quote(text))
		}
		var refused *jobs.InputError
		if errors.As(jobs.CheckQueue(name), &refused) {
			return nil, cli.Usagef("--queue: %s: %s", cli.Quote(name), refused.Allowed)
		}
		if _, twice := queues[name]; twice {
			return nil, cli.Usagef("--queue: %s has its slots twice; those of default are --slots, of bulk --bulk-slots", cli.Quote(name))
		}
		queues[name] = slots
	}
	if len(queues) == 0 {
		return nil, cli.Usagef("--slots is 0, and neither --bulk-slots nor --queue is given: there is nothing to work on")
	}
	for name, slots := range queues {
		if slots < 1 || slots > 10_000 {
			return nil, cli.Usagef("queue %s has %d slots: give 1 to 10000", cli.Quote(name), slots)
		}
	}
	return queues, nil
}

// check refuses what no process can be started with, and returns the slots of its queues.
func (s *staying) check() (queues map[string]int, err error) {
	if queues, err = s.queueSlots(); err != nil {
		return nil, err
	}
	if len(s.watch) > explain.MaxWatched {
		return nil, cli.Usagef("--watch-schedule is given %d times: give at most %d names", len(s.watch), explain.MaxWatched)
	}
	return queues, errors.Join(cli.OneOf("--error-detail", s.detail, worker.DetailLevels), s.pages.check())
}

// warnUnknown says which of the watched names no schedule has. They may come later, so that
// is no error, and neither is a question that has no answer: the metric says the same.
func warnUnknown(ctx context.Context, app *cli.App, central cli.Central, watch []string) {
	if len(watch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, figuresWithin)
	defer cancel()
	unknown, err := central.Explain.UnknownSchedules(ctx, watch)
	if err != nil {
		app.Log.WarnContext(ctx, "nobody can tell whether schedules have the names that --watch-schedule gives", "error", err)
		return
	}
	for _, name := range unknown {
		app.Log.WarnContext(ctx, "no schedule has the name that --watch-schedule gives", "schedule", name, "hint", "`headgate schedule list` shows the names; headgate_schedule_watched is 0 until there is one")
	}
}

// openEar returns the pool that hears of new work past a pooler; nil where there is none.
func openEar(ctx context.Context, app *cli.App) (ear *pgxpool.Pool, hush func(), err error) {
	switch ear, err = cli.ListenPool(ctx, app); {
	case err != nil:
		return nil, nil, err
	case ear != nil:
		return ear, ear.Close, nil
	case app.Pooled():
		app.Log.Warn("nothing is heard of new work through the pooler: it is found by looking once a second; DATABASE_DIRECT_URL, the address past it, makes that faster")
	}
	return nil, func() {}, nil
}

// openReports returns the folder for reports, with its whole path.
func openReports(path string) (dir string, reports *blob.Bucket, err error) {
	if dir, err = filepath.Abs(path); err != nil {
		return "", nil, fmt.Errorf("finding the directory for reports: %w", err)
	}
	if reports, err = report.OpenFolder(dir); err != nil {
		return "", nil, cli.Usagef("--reports: %w", err)
	}
	return dir, reports, nil
}

// newWorker makes the process's worker, with all built-in kinds.
func (s *staying) newWorker(app *cli.App, central cli.Central, queues map[string]int, ear *pgxpool.Pool, reports *blob.Bucket) (*worker.Worker, error) {
	w, err := worker.New(worker.Config{
		Pool: central.Pool, PollOnly: app.Pooled(), Listen: ear, Resolver: central.Catalog, Queues: queues, Logger: app.Log, Meter: app.Meter, TopTenants: s.top, Tracer: app.Tracer, ErrorDetail: worker.ErrorDetail(s.detail),
	})
	if err != nil {
		return nil, cli.BadValue(err)
	}
	kinds.Register(w, reports, kinds.Centre{Catalog: central.Catalog, Importer: importer.New(central.Pool, central.Catalog), Client: central.Client})
	return w, nil
}

// figures are those of all processes together, with the schedules that are watched.
func (s *staying) figures(ctx context.Context, app *cli.App, central cli.Central) *figures {
	warnUnknown(ctx, app, central, s.watch)
	return &figures{look: central.Explain.Figures, watch: explain.FiguresParams{Schedules: s.watch}, log: app.Log, born: time.Now()}
}

// loops are those of the process.
func (s *staying) loops(w *worker.Worker, scheduler *schedule.Scheduler) []loop {
	all := []loop{{"worker", func() time.Time { return w.Health().Turned }}}
	if s.schedules {
		all = append(all, loop{"scheduler", scheduler.Turned})
	}
	return all
}

// servingConns is how many connections to the central database a process keeps at
// most for the catalog and the scheduler. The worker has ten of its own.
const servingConns = 6

// runUntil runs until ctx ends, then stops gracefully.
func runUntil(ctx context.Context, app *cli.App, ring *catalog.KeyRing, s staying) error {
	queues, err := s.check()
	if err != nil {
		return err
	}
	probes, err := openProbes(ctx, app, s.health)
	if err != nil {
		return err
	}
	defer probes.end()
	pool, err := app.Pool(ctx, servingConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	ear, hush, err := openEar(ctx, app)
	if err != nil {
		return err
	}
	defer hush()
	app.Tracer, app.Meter = probes.exports.tracer(), probes.meter()
	central, err := app.On(pool, ring)
	if err != nil {
		return err
	}
	keys := catalog.NewKeys(pool, ring)
	if err := keys.Check(ctx); err != nil {
		return err
	}
	dir, reports, err := openReports(s.reports)
	if err != nil {
		return err
	}
	defer func() { _ = reports.Close() }() // a folder has nothing to flush
	w, err := s.newWorker(app, central, queues, ear, reports)
	if err != nil {
		return err
	}
	deafen, err := listen(ctx, app, central.Catalog)
	if err != nil {
		return err
	}
	defer deafen()
	shut, err := openPages(ctx, app, central, s.pages)
	if err != nil {
		return err
	}
	defer shut()
	if err := w.Start(ctx); err != nil {
		return err
	}
	closing := context.WithoutCancel(ctx) // a signal that comes already now stops all in order
	scheduler := schedule.NewScheduler(central.Schedules, schedule.SchedulerConfig{})
	janitor, err := retention.New(retention.Config{Pool: central.Pool, Selectors: central.Schedules.Templates, Logger: app.Log})
	if err != nil {
		return err
	}
	if s.schedules {
		if err := errors.Join(scheduler.Start(closing), janitor.Start(closing)); err != nil {
			return errors.Join(err, w.Stop(closing))
		}
	}
	whole := s.figures(ctx, app, central)
	defer whole.end()
	if err := probes.started(s.loops(w, scheduler), ready(w, pool, keys), whole); err != nil {
		return errors.Join(err, scheduler.Stop(closing), janitor.Stop(closing), w.Stop(closing))
	}
	app.Log.Info("ready", "queues", queues, "schedules", s.schedules, "reports", dir, "version", thisVersion().Version)
	stuck := w.Wait(ctx)
	probes.stopping()
	app.Log.Info("stopping: running jobs may end, a second signal ends at once", "reason", cmp.Or(stuck, context.Cause(ctx)).Error())
	if err := errors.Join(scheduler.Stop(closing), janitor.Stop(closing)); err != nil {
		return errors.Join(stuck, err, w.Stop(closing))
	}
	if err := w.Stop(closing); err != nil {
		return errors.Join(stuck, fmt.Errorf("stopping the worker: %w", err))
	}
	app.Log.Info("stopped")
	return stuck
}
