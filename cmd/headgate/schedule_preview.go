package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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

var previewColumns = []column[previewView]{
	{"local", func(v previewView) any { return v.Local }},
	{"zone", func(v previewView) any { return v.Zone }},
	{"utc", func(v previewView) any { return v.UTC.Format(time.RFC3339) }},
	{"effective", func(v previewView) any { return v.Effective.Format(time.RFC3339) }},
	{"note", func(v previewView) any { return v.Note }},
}

// timing is what says when a schedule fires, as flags.
type timing struct {
	cron, zone, gap, repeat string
	start, end              string
	most                    int
	windows                 []string
	spread                  time.Duration
}

func (t *timing) flags(flags *pflag.FlagSet) {
	flags.StringVar(&t.cron, "cron", "", "when, as in '30 2 * * *'")
	flags.StringVar(&t.gap, "gap", "", "a time that the clocks jump over: next (at the end of the jump) or skip")
	flags.StringVar(&t.repeat, "repeat", "", "a time that comes twice: first, last or both")
	flags.StringVar(&t.start, "start", "", "the first time that may fire, RFC 3339; @every is counted from it")
	flags.StringVar(&t.end, "end", "", "the last time that may fire, RFC 3339")
	flags.IntVar(&t.most, "max", 0, "how many occurrences there are, counted from --start (0: no bound)")
	flags.StringArrayVar(&t.windows, "window", nil, "only fire within, as in 'MON-FRI 22:00-04:00'; may be repeated")
	flags.DurationVar(&t.spread, "spread", 0, "spread the starts of many schedules over this time, each at its own place in it")
}

// spec reads the flags. The zone is given apart: its default differs.
func (t *timing) spec() (spec calendar.Spec, err error) {
	spec = calendar.Spec{Cron: t.cron, Zone: t.zone, Gap: calendar.Gap(t.gap), Repeat: calendar.Repeat(t.repeat), Max: t.most}
	if spec.Start, err = timeFlag("start", t.start); err != nil {
		return spec, err
	}
	if spec.End, err = timeFlag("end", t.end); err != nil {
		return spec, err
	}
	for _, text := range t.windows {
		w, err := calendar.ParseWindow(text)
		if err != nil {
			return spec, &usageError{err}
		}
		spec.Windows = append(spec.Windows, w)
	}
	if err := calendar.CheckSpread(t.spread); err != nil {
		return spec, &usageError{err}
	}
	return spec, nil
}

func timeFlag(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usagef("--%s: %s is no time of the calendar in RFC 3339 form; write date, time and zone as in 2026-12-01T03:00:00Z", name, quote(text))
	}
	return at, nil
}

const previewLong = `Show the next times of a schedule before it is saved: by the clock of its zone, in
UTC, and, with --spread, when it starts, with a note where the clocks change.

Without NAME nothing but the flags is needed, no database. Everyone's place in a
spread is its own; here it is that of an example.`

func (p *program) schedulePreview() *cobra.Command {
	var t timing
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
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		if len(args) == 1 {
			return p.previewStored(ctx, o, args[0], from, n)
		}
		if err := required(cmd, "cron"); err != nil {
			return err
		}
		return p.previewOf(t, from, n)
	})
	flags := cmd.Flags()
	t.flags(flags)
	o.flags(cmd)
	flags.StringVar(&t.zone, "zone", "UTC", "the IANA time zone")
	flags.StringVar(&from, "from", "", "show times after this one, RFC 3339 (default: now)")
	flags.IntVarP(&n, "number", "n", 5, "how many, 1 to 1000")
	complete(cmd, "gap", []string{"next", "skip"})
	complete(cmd, "repeat", []string{"first", "last", "both"})
	return cmd
}

// previewFrom reads --from and --number.
func previewFrom(from string, n int) (time.Time, error) {
	if n < 1 || n > 1000 {
		return time.Time{}, usagef("--number is %d: give 1 to 1000", n)
	}
	after, err := timeFlag("from", from)
	if from == "" {
		after = time.Now()
	}
	return after, err
}

// previewStored is for a schedule that is there already, with its own place in the
// spread.
func (p *program) previewStored(ctx context.Context, o owner, name, from string, n int) error {
	of, err := o.of(name)
	if err != nil {
		return err
	}
	after, err := previewFrom(from, n)
	if err != nil {
		return err
	}
	return p.open(ctx, nil, func(r rooms) error {
		s, err := r.client.GetSchedule(ctx, of)
		if err != nil {
			return err
		}
		table, err := r.client.Timetable(ctx, s)
		if err != nil {
			return err
		}
		if p.output == "table" {
			p.say("%s", table.Words())
		}
		return list(p, previews(table, after, n, time.Duration(s.Delay)*time.Second), "it does not fire any more", previewColumns)
	})
}

func (p *program) previewOf(t timing, from string, n int) error {
	after, err := previewFrom(from, n)
	if err != nil {
		return err
	}
	spec, err := t.spec()
	if err != nil {
		return err
	}
	s, err := calendar.New(spec)
	if err != nil {
		return &usageError{err}
	}
	for _, warning := range s.Warnings() {
		p.say("warning: %s", warning)
	}
	if p.output == "table" {
		p.say("%s", s.Words())
	}
	return list(p, previews(s, after, n, calendar.Delay(calendar.Place(t.cron, t.zone), t.spread)), "it does not fire any more", previewColumns)
}

// previews are the next n occurrences after a time.
func previews(s *calendar.Schedule, after time.Time, n int, delay time.Duration) []previewView {
	var views []previewView
	for _, o := range s.Upcoming(after, n) {
		views = append(views, previewView{
			Local: o.At.Format(time.RFC3339), Zone: s.Zone(), UTC: o.At.UTC(), Effective: o.At.Add(delay).UTC(), Note: o.Note,
		})
	}
	return views
}
