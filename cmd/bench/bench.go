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

	"github.com/headgate/headgate/cmd/internal/cli"
)

// benchmark is one measurement: its name and what makes its comparisons.
type benchmark struct {
	name    string
	tenants func(options) layout
	measure func(context.Context, *stage) ([]comparison, error)
}

var benchmarks = []benchmark{
	{"drain", crowd, measureDrain},
	{"enqueue", crowd, measureEnqueue},
	{"pickup", crowd, measurePickup},
	{"tenant", dedicated, measureTenant},
	{"fair", fair, measureFair},
	{"cold", cold, measureCold},
	{"telemetry", dedicated, measureTelemetry},
	{"schedules", crowd, measureSchedules},
	{"bloat", crowd, measureBloat},
	{"catalog", crowd, measureCatalog},
}

func benchmarkNames() []string {
	all := make([]string, 0, len(benchmarks)+1)
	for _, b := range benchmarks {
		all = append(all, b.name)
	}
	return append(all, "all")
}

func command(app *cli.App) *cobra.Command {
	var b options
	cmd := &cobra.Command{
		Use:     "bench NAME",
		Short:   "Measure Headgate beside River alone on this machine",
		Long:    long,
		Example: "  go run ./cmd/bench drain -o json\n  make bench",
		Args:    cli.Args("NAME"),
	}
	cmd.ValidArgs = benchmarkNames()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := b.check(args[0]); err != nil {
			return err
		}
		return measureAll(cmd.Context(), app, args[0], b)
	}
	flags := cmd.Flags()
	cli.IntVar(flags, &b.pairs, "pairs", 5, "how many pairs of measurements, Headgate's and River's")
	flags.Float64Var(&b.seconds, "seconds", 5, "about how long one of a pair takes, the faster one where they have a number of jobs to do")
	cli.IntVar(flags, &b.databases, "databases", 100, "tenant databases of bench tenant and bench cold")
	cli.IntVar(flags, &b.slots, "slots", 100, "how many jobs each side runs at once")
	cli.IntVar(flags, &b.schedules, "schedules", 100_000, "how many schedules are due in bench schedules")
	cli.IntVar(flags, &b.stored, "stored", 1_000_000, "how many are stored for its idle ticks")
	cli.IntVar(flags, &b.finished, "finished", 1_000_000, "how many finished jobs there are in bench bloat")
	flags.DurationVar(&b.pinned, "pinned", 10*time.Minute, "for how long its snapshot is held before it is measured")
	cli.IntVar(flags, &b.tenants, "tenants", 100_000, "how many tenants there are in bench catalog; it is compared with a tenth")
	cli.IntVar(flags, &b.changed, "changed", 10_000, "how many of them one statement changes")
	flags.StringVar(&b.save, "save", "", "write the JSON to this file as well")
	flags.StringVar(&b.profile, "cpuprofile", "", "write a CPU profile of this process to this file; label side tells ours from theirs")
	_ = flags.MarkHidden("cpuprofile") // fails only for an unknown flag
	app.Root(cmd)
	return cmd
}

// measureAll runs one measurement, or all, and prints what came of it.
func measureAll(ctx context.Context, app *cli.App, name string, b options) (err error) {
	stop, err := startProfile(b.profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	var results []report
	for _, m := range benchmarks {
		if name != m.name && (name != "all" || m.name == "telemetry" || m.name == "schedules" || m.name == "bloat" || m.name == "catalog") { // which have nothing to do with River
			continue
		}
		result, err := measureOne(ctx, app, m, b)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", m.name, err)
		}
		results = append(results, result)
	}
	return printResults(app, results, name == "all", b.save)
}

// measureOne runs one measurement on a stage of its own.
func measureOne(ctx context.Context, app *cli.App, m benchmark, b options) (result report, err error) {
	s, err := openStage(ctx, app, b, m.tenants(b))
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	result = report{Name: m.name, Machine: thisMachine()}
	if result.Settings, err = s.settings(ctx); err != nil {
		return result, err
	}
	result.Comparisons, err = m.measure(ctx, s)
	return result, err
}

// printResults prints one result as an object, all as a list.
func printResults(app *cli.App, results []report, all bool, save string) error {
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
			return cli.Usagef("--save: %w", err)
		}
	}
	switch app.Output {
	case "json":
		return app.JSON(value)
	case "jsonl":
		return cli.JSONLines(app, results)
	}
	var rows []row
	for _, r := range results {
		for _, c := range r.Comparisons {
			rows = append(rows, row{r.Name, c})
		}
	}
	if app.Output == "table" {
		app.Say("ratio is the median of the pairs' own, ours/theirs; cpu is in microseconds a job, ours/theirs; settings: -o json")
	}
	return cli.List(app, rows, "", columns)
}

// startProfile begins a CPU profile, if one is asked for, and returns what ends it.
func startProfile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path) //nolint:gosec // the user's own choice
	if err != nil {
		return nil, cli.Usagef("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}

// tell says what is being measured, for people who wait.
func (s *stage) tell(what string) {
	s.app.Log.Info("measuring", "what", what, "pairs", s.opts.pairs, "half", s.opts.half().String())
}
