package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"
)

const benchLong = `Measure Headgate beside River alone, pair by pair in one run, and print the ratios:
they travel from machine to machine, the figures themselves do not.

  drain      no-op jobs of 1,000 tenants: jobs a second, and CPU for each
  enqueue    one by one and 1,000 at a time
  pickup     from before the enqueue call to the handler's first line
  tenant     each job commits one row in its tenant's database
  fair       a quiet tenant beside busy ones, and how worker time is shared
  cold       until a tenant's first query is answered, beside pgx alone
  schedules  firing due schedules, beside the SQL of the same batch alone
  bloat      a drain beside finished jobs and a pinned snapshot, to a fresh one
  all        the first six

It brings a private Postgres, durable as in production, and removes it. With
DATABASE_URL set it uses that server instead, as a superuser, and makes and drops
databases and roles of its own there, named headgate_bench_*; the group role
headgate_job stays, as after ` + "`headgate server prepare`" + `.`

// benching is what one run was asked for.
type benching struct {
	pairs     int
	seconds   float64
	databases int
	slots     int
	schedules int
	stored    int
	finished  int
	pinned    time.Duration
	save      string
	profile   string
}

func (b benching) half() time.Duration { return time.Duration(b.seconds * float64(time.Second)) }

// benchmark is one measurement: its name and what makes its comparisons.
type benchmark struct {
	name    string
	tenants func(benching) layout
	measure func(context.Context, *benchStage) ([]comparison, error)
}

var benchmarks = []benchmark{
	{"drain", crowd, measureDrain},
	{"enqueue", crowd, measureEnqueue},
	{"pickup", crowd, measurePickup},
	{"tenant", dedicated, measureTenant},
	{"fair", fair, measureFair},
	{"cold", cold, measureCold},
	{"schedules", crowd, measureSchedules},
	{"bloat", crowd, measureBloat},
}

func benchNames() []string {
	all := make([]string, 0, len(benchmarks)+1)
	for _, b := range benchmarks {
		all = append(all, b.name)
	}
	return append(all, "all")
}

func (p *program) benchCommand() *cobra.Command {
	var b benching
	cmd := &cobra.Command{
		Use:     "bench NAME",
		Short:   "Measure Headgate beside River alone on this machine",
		Long:    benchLong,
		Example: "  headgate bench drain\n  headgate bench all --save bench.json",
		Args:    names("NAME"),
	}
	cmd.ValidArgs = benchNames()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := b.check(args[0]); err != nil {
			return err
		}
		return p.bench(cmd.Context(), args[0], b)
	}
	flags := cmd.Flags()
	flags.IntVar(&b.pairs, "pairs", 5, "how many pairs of measurements, Headgate's and River's")
	flags.Float64Var(&b.seconds, "seconds", 5, "about how long one of a pair takes, the faster one where they have a number of jobs to do")
	flags.IntVar(&b.databases, "databases", 100, "tenant databases of bench tenant and bench cold")
	flags.IntVar(&b.slots, "slots", 100, "how many jobs each side runs at once")
	flags.IntVar(&b.schedules, "schedules", 100_000, "how many schedules are due in bench schedules")
	flags.IntVar(&b.stored, "stored", 1_000_000, "how many are stored for its idle ticks")
	flags.IntVar(&b.finished, "finished", 1_000_000, "how many finished jobs there are in bench bloat")
	flags.DurationVar(&b.pinned, "pinned", 10*time.Minute, "for how long its snapshot is held before it is measured")
	flags.StringVar(&b.save, "save", "", "write the JSON to this file as well")
	flags.StringVar(&b.profile, "cpuprofile", "", "write a CPU profile of this process to this file; label side tells ours from theirs")
	_ = flags.MarkHidden("cpuprofile") // fails only for an unknown flag
	return cmd
}

func (b benching) check(name string) error {
	if err := oneOf("NAME", name, benchNames()); err != nil {
		return err
	}
	switch {
	case b.pairs < 1 || b.pairs > 1000:
		return usagef("--pairs: %d does not fit, give 1 to 1000", b.pairs)
	case !(b.seconds > 0 && b.seconds <= 3600): // NaN too
		return usagef("--seconds: %g does not fit, give more than 0 and at most 3600", b.seconds)
	case b.databases < 1 || b.databases > 1000:
		return usagef("--databases: %d does not fit, give 1 to 1000", b.databases)
	case b.schedules < 10 || b.schedules > 10_000_000:
		return usagef("--schedules: %d does not fit, give 10 to 10000000", b.schedules)
	case b.stored < 10 || b.stored > 10_000_000:
		return usagef("--stored: %d does not fit, give 10 to 10000000", b.stored)
	case b.finished < 0 || b.finished > 10_000_000:
		return usagef("--finished: %d does not fit, give 0 to 10000000", b.finished)
	case b.pinned < 0 || b.pinned > 24*time.Hour:
		return usagef("--pinned: %s does not fit, give 0s to 24h", b.pinned)
	case b.slots < 1 || b.slots > 10_000:
		return usagef("--slots: %d does not fit, give 1 to 10000", b.slots)
	}
	return nil
}

// bench runs one measurement, or all, and prints what came of it.
func (p *program) bench(ctx context.Context, name string, b benching) (err error) {
	stop, err := startProfile(b.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var results []benchResult
	for _, m := range benchmarks {
		if name != m.name && (name != "all" || m.name == "schedules" || m.name == "bloat") { // which have nothing to do with River
			continue
		}
		result, err := p.benchOne(ctx, m, b)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", m.name, err)
		}
		results = append(results, result)
	}
	return p.benchPrint(results, name == "all", b.save)
}

// benchOne runs one measurement on a stage of its own.
func (p *program) benchOne(ctx context.Context, m benchmark, b benching) (result benchResult, err error) {
	s, err := p.openBenchStage(ctx, b, m.tenants(b))
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	result = benchResult{Name: m.name, Machine: thisMachine()}
	if result.Settings, err = s.settings(ctx); err != nil {
		return result, err
	}
	result.Comparisons, err = m.measure(ctx, s)
	return result, err
}

// benchPrint prints one result as an object, all as a list.
func (p *program) benchPrint(results []benchResult, all bool, save string) error {
	var value any = results
	if !all {
		value = results[0]
	}
	if save != "" {
		text, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(save, append(text, '\n'), 0o644); err != nil { //nolint:gosec // figures, for everybody
			return usagef("--save: %w", err)
		}
	}
	switch p.output {
	case "json":
		return p.json(value)
	case "jsonl":
		return jsonLines(p, results)
	}
	var rows []benchRow
	for _, r := range results {
		for _, c := range r.Comparisons {
			rows = append(rows, benchRow{r.Name, c})
		}
	}
	if p.output == "table" {
		p.say("ratio is the median of the pairs' own, ours/theirs; cpu is in microseconds a job, ours/theirs; settings: -o json")
	}
	return list(p, rows, "", benchColumns)
}

// startProfile begins a CPU profile, if one is asked for, and returns what ends it.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path) //nolint:gosec // the user's own choice
	if err != nil {
		return nil, usagef("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}

// tell says what is being measured, for people who wait.
func (s *benchStage) tell(what string) {
	s.p.log.Info("measuring", "what", what, "pairs", s.opts.pairs, "half", s.opts.half().String())
}
