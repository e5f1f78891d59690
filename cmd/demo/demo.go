package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/cmd/internal/pages"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// demo is one showing.
type demo struct {
	opts     options
	screen   screen
	progress *progress
	log      *slog.Logger
	began    time.Time

	tenants []*tenant
	cluster *cluster
	service *service
	app     *application
	folder  string // of the reports
	fresh   string // the same, if the demo made it
	shown   bool   // the result is
}

func newDemo(opts options, s screen) *demo {
	p := &progress{out: s.err, live: s.live}
	return &demo{
		opts: opts, screen: s, progress: p, began: time.Now(), tenants: tenants(),
		log: slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

// run shows it all, cleans up in any case, and returns the exit code.
func (d *demo) run(ctx context.Context) int {
	ok, err := d.play(ctx)
	interrupted := ctx.Err() != nil && !d.shown
	if interrupted {
		err = errors.New("interrupted") // and not what broke because of it
	}
	d.progress.now("stopping")
	if err = errors.Join(err, d.close()); err != nil {
		d.progress.done("demo: %v", err)
	}
	d.progress.clear()
	switch {
	case interrupted:
		return cli.ExitInterrupted
	case err != nil || !ok:
		return cli.ExitFailed
	}
	return cli.ExitOK
}

// play is the whole show. ok says that everything went as promised.
func (d *demo) play(ctx context.Context) (ok bool, err error) {
	if err := d.setUp(ctx); err != nil {
		return false, fmt.Errorf("setting up: %w", err)
	}
	if err := d.start(ctx); err != nil {
		return false, fmt.Errorf("starting: %w", err)
	}
	due, err := d.enqueue(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for work: %w", err)
	}
	list, err := d.await(ctx, due)
	if err != nil {
		return false, fmt.Errorf("waiting for the jobs: %w", err)
	}
	result, err := d.inspect(ctx, list)
	if err != nil {
		return false, fmt.Errorf("looking at what was done: %w", err)
	}
	for _, sentence := range result.wrong {
		d.progress.done("demo: not as promised: %s", sentence)
	}
	if err := result.print(d.screen, d.opts.format); err != nil {
		return false, fmt.Errorf("showing the result: %w", err)
	}
	d.shown = true
	if err := d.stay(ctx); err != nil {
		return false, fmt.Errorf("serving the pages: %w", err)
	}
	return result.ok(), nil
}

// setUp makes Postgres and everything in it, and leaves it alone: the tenants'
// databases as they are on any night.
func (d *demo) setUp(ctx context.Context) (err error) {
	d.progress.now("starting a private Postgres")
	notify := func(sentence string) { d.progress.done("%s", sentence) }
	if d.cluster, err = startCluster(ctx, notify); err != nil {
		return err
	}
	d.cluster.plan(d.tenants)
	d.progress.now("making the central database and %d tenant databases", len(d.cluster.databases))
	if err := d.cluster.createCentral(ctx); err != nil {
		return fmt.Errorf("creating the central database: %w", err)
	}
	if err := d.cluster.enrol(ctx); err != nil {
		return err
	}
	d.progress.now("filling the databases with the rows of %d tenants", len(d.tenants))
	if err := d.cluster.fill(ctx, d.began); err != nil {
		return err
	}
	d.progress.done("%s: a private Postgres with %d tenants in %d databases, %d tasks in all",
		d.clock(), len(d.tenants), len(d.cluster.databases), d.cluster.tasks())
	return d.cluster.settle(ctx)
}

// start brings up the service and the application, both in this process.
func (d *demo) start(ctx context.Context) (err error) {
	if err := d.makeFolder(); err != nil {
		return fmt.Errorf("making a folder for the reports: %w", err)
	}
	if d.service, err = startService(ctx, d.cluster.bed.Pool, d.cluster.bed.Catalog, d.folder, d.log); err != nil {
		return err
	}
	d.app, err = newApplication(d.cluster.bed.Pool, d.cluster.bed.Catalog)
	return err
}

// makeFolder finds the folder that was asked for, or makes one.
func (d *demo) makeFolder() (err error) {
	if d.opts.dir != "" {
		d.folder, err = filepath.Abs(d.opts.dir)
		return err
	}
	d.fresh, err = os.MkdirTemp("", "headgate-demo-")
	d.folder = d.fresh
	return err
}

// enqueue asks for all the work. It returns the schedule that is due soon, the
// first thing it makes: its time is running while the rest is asked for.
func (d *demo) enqueue(ctx context.Context) (due schedule.Schedule, err error) {
	busy, databases := d.busy()
	if due, err = d.app.schedule(ctx, busy[0], soon(time.Now())); err != nil {
		return due, err
	}
	for i, tenant := range busy[1:] {
		if _, err := d.app.schedule(ctx, tenant, habits[i%len(habits)]); err != nil {
			return due, err
		}
	}
	if err := d.app.requestUpkeep(ctx, busy, databases); err != nil {
		return due, err
	}
	for i, tenant := range busy {
		if err := d.app.requestTransfer(ctx, tenant, Transfer{From: 1, To: 2, Points: int64(10 + i)}); err != nil {
			return due, err
		}
	}
	return due, nil
}

// busy names the tenants that have work, and the databases where they live.
func (d *demo) busy() (tenants, databases []string) {
	for _, t := range d.tenants {
		if !t.idle {
			tenants = append(tenants, t.slug)
		}
	}
	for _, database := range d.cluster.databases {
		if !database.idle() {
			databases = append(databases, database.name)
		}
	}
	return tenants, databases
}

// stay keeps the service up while somebody looks, or says how it would. A program
// that reads JSON is told nothing.
func (d *demo) stay(ctx context.Context) error {
	switch {
	case d.opts.once || d.screen.width == 0:
		if d.opts.format == "table" {
			d.progress.done("%s", afterwards)
		}
	default:
		busy, _ := d.busy()
		address, shut, err := d.openPages(ctx)
		if err != nil {
			return err
		}
		defer shut()
		d.progress.done("%s", d.cluster.whatNext(busy[0], address))
		<-ctx.Done()
	}
	return nil
}

// openPages serves River's UI until shut is called. What it shows is made up, so it shows all.
func (d *demo) openPages(ctx context.Context) (address string, shut func(), err error) {
	bed := d.cluster.bed
	control, err := admission.New(admission.Config{Pool: bed.Pool, Catalog: bed.Catalog})
	if err != nil {
		return "", nil, err
	}
	server, err := pages.Listen(ctx, "0", pages.Config{
		Write: true, Detail: pages.DetailFull, Central: cli.Central{Pool: bed.Pool, Catalog: bed.Catalog, Client: d.app.client, Admission: control},
		Database: bed.Pool.Config(), Actor: "demo", Log: d.log,
		Announce: func(next string) {
			if address == "" {
				address = next
				return
			}
			d.progress.done("The pages, for one more browser: %s", next)
		},
	})
	if err != nil {
		return "", nil, err
	}
	return address, func() { _ = server.Close() }, nil // connections that were cut off are no error of ours
}

// close ends what was started, last things first.
func (d *demo) close() error {
	var errs []error
	if d.service != nil {
		errs = append(errs, d.service.stop())
	}
	if d.cluster != nil {
		errs = append(errs, d.cluster.close())
	}
	if !d.shown && d.fresh != "" {
		errs = append(errs, os.RemoveAll(d.fresh)) //nolint:gosec // made by makeFolder, and nobody was told of it
	}
	return errors.Join(errs...)
}

// clock is the time since the demo began.
func (d *demo) clock() string { return seconds(time.Since(d.began)) }

// seconds writes a duration as people read it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
