package schedulecmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// previewView is one coming occurrence, as `schedule preview -o json` prints it.
type previewView struct {
	Local     string    `json:"local"` // RFC 3339 with the zone's offset
	Zone      string    `json:"zone"`
	UTC       time.Time `json:"utc"`       // the nominal time
	Effective time.Time `json:"effective"` // the nominal time and the schedule's delay in its spread
	Note      string    `json:"note"`      // what the clocks of that day do to it
}

var previewColumns = []cli.Column[previewView]{
	{Name: "local", Of: func(v previewView) any { return v.Local }},
	{Name: "zone", Of: func(v previewView) any { return v.Zone }},
	{Name: "utc", Of: func(v previewView) any { return v.UTC.Format(time.RFC3339) }},
	{Name: "effective", Of: func(v previewView) any { return v.Effective.Format(time.RFC3339) }},
	{Name: "note", Of: func(v previewView) any { return v.Note }},
}

const previewLong = `Show the next times of a schedule before it is saved: by the clock of its zone, in
UTC, and, with --spread, when it starts, with a note where the clocks change.

Without NAME nothing but the flags is needed, no database. Everyone's place in a
spread is its own; here it is that of an example.`

func schedulePreview(app *cli.App) *cobra.Command {
	var f specFlags
	var from string
	var n int
	var o owner
	cmd := &cobra.Command{
		Use:     "preview [NAME --tenant TENANT | --cron CRON --zone ZONE]",
		Short:   "Show the next times of a schedule",
		Long:    previewLong,
		Example: "  headgate schedule preview --cron '30 2 * * *' --zone America/New_York --from 2026-03-07T00:00:00Z -n 3",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if len(args) == 1 {
			return previewStored(ctx, app, o, args[0], from, n)
		}
		if err := cli.Required(cmd, "cron"); err != nil {
			return err
		}
		return previewOf(app, &f, from, n)
	})
	flags := cmd.Flags()
	f.times(cmd)
	o.flags(cmd)
	flags.StringVar(&f.Zone, "zone", "UTC", "the IANA time zone")
	flags.StringVar(&from, "from", "", "show times after this one, RFC 3339 (default: now)")
	cli.IntInP(flags, &n, "number", "n", 5, 1, 1000, "how many, 1 to 1000")
	return cmd
}

// previewFrom reads --from.
func previewFrom(from string) (time.Time, error) {
	after, err := cli.TimeFlag("from", from)
	if from == "" {
		after = time.Now()
	}
	return after, err
}

// previewStored is for a schedule that is there already, with its own place in the
// spread.
func previewStored(ctx context.Context, app *cli.App, o owner, name, from string, n int) error {
	of, err := o.of(name)
	if err != nil {
		return err
	}
	after, err := previewFrom(from)
	if err != nil {
		return err
	}
	return app.Open(ctx, nil, func(central cli.Central) error {
		s, err := central.Schedules.Get(ctx, of)
		if err != nil {
			return err
		}
		table, err := central.Schedules.Timetable(ctx, s)
		if err != nil {
			return err
		}
		if app.Output == "table" {
			app.Say("%s", table.Words())
		}
		return cli.List(app, previews(table, after, n, func(at time.Time) time.Time { return s.Starts(table, at) }), "it does not fire any more", previewColumns)
	})
}

func previewOf(app *cli.App, f *specFlags, from string, n int) error {
	after, err := previewFrom(from)
	if err != nil {
		return err
	}
	if err := f.read(); err != nil {
		return err
	}
	s, err := f.Timetable(nil)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	for _, warning := range s.Warnings() {
		app.Say("warning: %s", warning)
	}
	if app.Output == "table" {
		app.Say("%s", s.Words())
	}
	return cli.List(app, previews(s, after, n, func(at time.Time) time.Time {
		return at.Add(s.Delay(calendar.Place(f.Cron, f.Zone), f.Policy.Spread, at))
	}), "it does not fire any more", previewColumns)
}

// previews are the next n occurrences after a time.
func previews(s *calendar.Schedule, after time.Time, n int, starts func(time.Time) time.Time) []previewView {
	var views []previewView
	for _, o := range s.Upcoming(after, n) {
		views = append(views, previewView{
			Local: o.At.Format(time.RFC3339), Zone: s.Zone(), UTC: o.At.UTC(), Effective: starts(o.At).UTC(), Note: o.Note,
		})
	}
	return views
}
