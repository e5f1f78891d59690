package schedulecmd

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// specFlags are what a person decides about a schedule, as flags. read comes before the
// spec is used.
type specFlags struct {
	schedule.Spec
	start, end string
}

// flagFields are the fields of a spec that flags set, by their names in files.
var flagFields = map[string]string{
	"cron": "cron", "zone": "zone", "gap": "gap", "repeat": "repeat", "start": "start", "end": "end", "max": "max", "within": "windows", "spread": "spread",
	"calendar": "calendars", "overlap": "overlap", "buffer-max": "buffer_max", "catch-up": "catch_up.policy", "catch-up-max": "catch_up.max",
	"catch-up-window": "catch_up.window", "pause-after": "pause_after", "maintenance": "maintenance", "brand": "brand",
}

// times adds the flags that say when a schedule fires, but for the zone: its default
// differs.
func (f *specFlags) times(cmd *cobra.Command) {
	flags, p := cmd.Flags(), &f.Policy
	flags.StringVar(&f.Cron, "cron", "", "when, as in '30 2 * * *'")
	flags.StringVar((*string)(&p.Gap), "gap", "", "a time that the clocks jump over: next (at the end of the jump) or skip")
	flags.StringVar((*string)(&p.Repeat), "repeat", "", "a time that comes twice: first, last or both")
	flags.StringVar(&f.start, "start", "", "the first time that may fire, RFC 3339; @every is counted from it")
	flags.StringVar(&f.end, "end", "", "the last time that may fire, RFC 3339")
	cli.IntVar(flags, &p.Max, "max", 0, "how many occurrences there are, counted from --start (0: no bound)")
	flags.StringArrayVar(&p.Windows, "within", nil, "only fire within, as in 'MON-FRI 22:00-04:00'; may be repeated")
	cli.DurationIn(flags, &p.Spread, "spread", 0, 0, 24*time.Hour, "spread the starts of many schedules over this time, 0s to 24h, each at its own place in it")
	cli.Complete(cmd, "gap", []string{"next", "skip"})
	cli.Complete(cmd, "repeat", []string{"first", "last", "both"})
}

func (f *specFlags) flags(cmd *cobra.Command) {
	f.times(cmd)
	flags, p := cmd.Flags(), &f.Policy
	flags.StringArrayVar(&p.Calendars, "calendar", nil, "an exclusion calendar: nothing fires on its days; may be repeated")
	flags.StringVar((*string)(&p.Overlap), "overlap", "", "when the run before has not ended: skip, buffer_one, buffer_all, cancel, allow (default: skip)")
	cli.IntVar(flags, &p.BufferMax, "buffer-max", 0, "how many wait at most with buffer_all (0, the default: 100)")
	flags.StringVar((*string)(&p.CatchUp), "catch-up", "", "what was missed while no scheduler ran: none, latest, all (default: latest)")
	cli.IntVar(flags, &p.CatchUpMax, "catch-up-max", 0, "how many all makes up for (0, the default: 10)")
	cli.DurationIn(flags, &p.CatchUpWindow, "catch-up-window", 0, 0, 0, "for how long a missed occurrence is worth firing (0, the default: for ever)")
	cli.IntVar(flags, &p.PauseAfter, "pause-after", 0, "pause by itself after so many failed jobs in a row (0, the default: never)")
	flags.Var(cli.Brand(&f.Brand), "brand", "limit the jobs to one brand of the tenant, 0 to 9999, or all (default: all)")
	flags.BoolVar(&p.Maintenance, "maintenance", false, "start in the maintenance windows of the tenant and its server only, where there are any")
	cli.Complete(cmd, "overlap", []string{"skip", "buffer_one", "buffer_all", "cancel", "allow"})
	cli.Complete(cmd, "catch-up", []string{"none", "latest", "all"})
}

// read reads the times among the flags, and refuses what is wrong in itself.
func (f *specFlags) read() error {
	p := &f.Policy
	start, err := cli.TimeFlag("start", f.start)
	if err != nil {
		return err
	}
	end, err := cli.TimeFlag("end", f.end)
	if err != nil {
		return err
	}
	p.Start, p.End = pointer(start), pointer(end)
	for _, text := range p.Windows {
		if _, err := calendar.ParseWindow(text); err != nil {
			return &cli.UsageError{Err: err}
		}
	}
	if err := calendar.CheckSpread(p.Spread); err != nil {
		return &cli.UsageError{Err: err}
	}
	if p.CatchUpWindow%time.Second != 0 {
		return cli.Usagef("--catch-up-window: %s is not in whole seconds", p.CatchUpWindow)
	}
	return nil
}

// given are the fields that were given, by their names in files.
func (f *specFlags) given(flags *pflag.FlagSet) (fields []string) {
	flags.Visit(func(flag *pflag.Flag) {
		if name := flagFields[flag.Name]; name != "" {
			fields = append(fields, name)
		}
	})
	return fields
}

func pointer(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
