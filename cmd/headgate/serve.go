package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

const serveLong = `Fire schedules and run jobs of the built-in kinds until a signal comes: the
first lets running jobs end, the second ends at once. As many as wanted may run.

A change of a tenant, database or server counts at once: the central database
notifies. Where DATABASE_URL goes through a pooler in transaction mode
(--central-pooler transaction), give the database's own address in
DATABASE_DIRECT_URL (or _FILE); without it changes count after half a second.

Queue bulk holds what runs over many tenants, as maintenance does; it has slots
of its own (--bulk-slots), so that neither waits behind the other.

Kinds of your own live in your own program: see cmd/example-worker.`

func (p *program) serveCommand() *cobra.Command {
	return p.stayCommand("serve", "Fire schedules and run jobs", serveLong, true)
}

func (p *program) workerCommand() *cobra.Command {
	cmd := p.stayCommand("worker", "Run jobs only; somebody else fires the schedules",
		strings.Replace(serveLong, "Fire schedules and run jobs", "Run jobs", 1), false)
	cmd.AddCommand(p.workerList())
	return cmd
}

func (p *program) stayCommand(name, short, long string, schedules bool) *cobra.Command {
	stay := staying{schedules: schedules}
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: names(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ring, err := p.keys()
			if err != nil {
				return err
			}
			return p.stay(cmd.Context(), ring, stay)
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
	rootCerts string
}

func (s *staying) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	s.given = flags.Changed
	flags.IntVar(&s.slots, "slots", defaultSlots, "how many jobs of queue default run at once in this process (0: none)")
	flags.IntVar(&s.bulk, "bulk-slots", bulkSlots, "how many jobs of queue bulk run at once in this process; it has what runs over many tenants, as maintenance does (0, or --slots 0 alone: none)")
	flags.StringArrayVar(&s.queues, "queue", nil, "another queue NAME=SLOTS; may be repeated")
	flags.StringVar(&s.reports, "reports", "./reports", "the directory for reports")
	rootCertsFlag(cmd, &s.rootCerts)
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
		slots, err := strconv.Atoi(number)
		if err != nil || name == "" {
			return nil, usagef("--queue: %s is not NAME=SLOTS, as in reports=4", quote(text))
		}
		if _, twice := queues[name]; twice {
			return nil, usagef("--queue: %s has its slots twice; those of default are --slots, of bulk --bulk-slots", quote(name))
		}
		queues[name] = slots
	}
	if len(queues) == 0 {
		return nil, usagef("--slots is 0, and neither --bulk-slots nor --queue is given: there is nothing to work on")
	}
	for name, slots := range queues {
		if slots < 1 || slots > 10_000 {
			return nil, usagef("queue %s has %d slots: give 1 to 10000", quote(name), slots)
		}
	}
	return queues, nil
}

// servingConns is how many connections to the central database a process keeps at
// most for the catalog and the scheduler. The worker has ten of its own.
const servingConns = 6

// stay runs until ctx ends, then stops gracefully.
func (p *program) stay(ctx context.Context, ring *catalog.KeyRing, s staying) error {
	queues, err := s.queueSlots()
	if err != nil {
		return err
	}
	pool, err := p.central(ctx, servingConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	ear, err := p.ear(ctx)
	if err != nil {
		return err
	}
	if ear != nil {
		defer ear.Close()
	} else if p.pooled() {
		p.log.Warn("nothing is heard of new work through the pooler: it is found by looking once a second; DATABASE_DIRECT_URL, the address past it, makes that faster")
	}
	r, err := p.roomsOn(pool, ring)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(s.reports)
	if err != nil {
		return fmt.Errorf("finding the directory for reports: %w", err)
	}
	reports, err := report.OpenFolder(dir)
	if err != nil {
		return usagef("--reports: %w", err)
	}
	defer func() { _ = reports.Close() }() // a folder has nothing to flush
	w, err := worker.New(worker.Config{
		Pool: pool, PollOnly: p.pooled(), Listen: ear, Resolver: r.catalog, Queues: queues, Logger: p.log, Tenants: tenantdb.Config{RootCerts: s.rootCerts},
	})
	if err != nil {
		return badValue(err)
	}
	register(w, reports)
	deafen, err := p.listen(r.catalog)
	if err != nil {
		return err
	}
	defer deafen()
	if err := w.Start(ctx); err != nil {
		return err
	}
	scheduler := orchestrator.NewScheduler(r.client, orchestrator.SchedulerConfig{Check: checkKind})
	janitor, err := orchestrator.NewJanitor(r.client, orchestrator.JanitorConfig{})
	if err != nil {
		return err
	}
	if s.schedules {
		scheduler.Start()
		janitor.Start()
	}
	p.log.Info("ready", "queues", queues, "schedules", s.schedules, "reports", dir, "version", thisVersion().Version)
	stuck := w.Wait(ctx)
	reason := cmp.Or(stuck, context.Cause(ctx))
	p.log.Info("stopping: running jobs may end, a second signal ends at once", "reason", reason.Error())
	scheduler.Stop()
	janitor.Stop()
	if err := w.Stop(context.WithoutCancel(ctx)); err != nil {
		return errors.Join(stuck, fmt.Errorf("stopping the worker: %w", err))
	}
	p.log.Info("stopped")
	return stuck
}
