package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/calendar"
)

const scheduleLong = `Give a tenant a schedule: a job of this kind, with these arguments, whenever the
cron text says so. A database has schedules too, of the kinds that work on a whole
one.

The text has five fields (minute hour day month weekday), or is @hourly, @daily,
@weekly, @monthly, @yearly, or @every with a duration. It goes by the time zone,
daylight saving included: a time that the clocks skip fires at the end of the
jump, a time that comes twice fires once; --gap and --repeat choose otherwise.`

// policyFlags are a schedule's policies as flags, beside those of timing.
type policyFlags struct {
	timing
	calendars        []string
	overlap, catchUp string
	bufferMax        int
	catchUpMax       int
	catchUpWindow    time.Duration
	pauseAfter       int
	maintenance      bool
}

func (f *policyFlags) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.timing.flags(flags)
	flags.StringArrayVar(&f.calendars, "calendar", nil, "an exclusion calendar: nothing fires on its days; may be repeated")
	flags.StringVar(&f.overlap, "overlap", "", "when the run before has not ended: skip, buffer_one, buffer_all, cancel, allow (default: skip)")
	flags.IntVar(&f.bufferMax, "buffer-max", 0, "how many wait at most with buffer_all (default: 100)")
	flags.StringVar(&f.catchUp, "catch-up", "", "what was missed while no scheduler ran: none, latest, all (default: latest)")
	flags.IntVar(&f.catchUpMax, "catch-up-max", 0, "how many all makes up for (default: 10)")
	flags.DurationVar(&f.catchUpWindow, "catch-up-window", 0, "for how long a missed occurrence is worth firing (default: for ever)")
	flags.IntVar(&f.pauseAfter, "pause-after", 0, "pause by itself after so many failed jobs in a row (default: never)")
	flags.BoolVar(&f.maintenance, "maintenance", false, "start in the maintenance windows of the tenant and its server only, where there are any")
	complete(cmd, "overlap", []string{"skip", "buffer_one", "buffer_all", "cancel", "allow"})
	complete(cmd, "catch-up", []string{"none", "latest", "all"})
	complete(cmd, "gap", []string{"next", "skip"})
	complete(cmd, "repeat", []string{"first", "last", "both"})
}

// apply puts those flags into a policy that were given.
func (f *policyFlags) apply(flags *pflag.FlagSet, p *orchestrator.SchedulePolicy) error {
	spec, err := f.spec()
	if err != nil {
		return err
	}
	if f.catchUpWindow%time.Second != 0 {
		return usagef("--catch-up-window: %s is not in whole seconds", f.catchUpWindow)
	}
	set := map[string]func(){
		"gap":             func() { p.Gap = spec.Gap },
		"repeat":          func() { p.Repeat = spec.Repeat },
		"start":           func() { p.Start = pointer(spec.Start) },
		"end":             func() { p.End = pointer(spec.End) },
		"max":             func() { p.Max = f.most },
		"window":          func() { p.Windows = f.windows },
		"spread":          func() { p.Spread = int(f.spread / time.Second) },
		"calendar":        func() { p.Calendars = f.calendars },
		"overlap":         func() { p.Overlap = orchestrator.Overlap(f.overlap) },
		"buffer-max":      func() { p.BufferMax = f.bufferMax },
		"catch-up":        func() { p.CatchUp = orchestrator.CatchUp(f.catchUp) },
		"catch-up-max":    func() { p.CatchUpMax = f.catchUpMax },
		"catch-up-window": func() { p.CatchUpWindow = int(f.catchUpWindow / time.Second) },
		"pause-after":     func() { p.PauseAfter = f.pauseAfter },
		"maintenance":     func() { p.Maintenance = f.maintenance },
	}
	flags.Visit(func(flag *pflag.Flag) {
		if change := set[flag.Name]; change != nil {
			change()
		}
	})
	return nil
}

func pointer(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

func (p *program) scheduleCreate() *cobra.Command {
	var a asked
	var kind string
	var f policyFlags
	var o owner
	var selector []string
	var confirm confirmation
	cmd := &cobra.Command{
		Use:     "create NAME --tenant TENANT --kind KIND --cron CRON",
		Short:   "Give a tenant, a database, or all tenants of a selector a schedule",
		Long:    scheduleLong,
		Example: "  headgate schedule create nightly --tenant acme --kind headgate.purge --cron '30 2 * * *' --zone Europe/Berlin \\\n    --args '{\"table\": \"events\", \"column\": \"at\", \"older_than\": \"90d\"}'",
		Args:    names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		if err := required(cmd, "kind", "cron"); err != nil {
			return err
		}
		if err := notZero(cmd, "priority", "max-attempts", "queue"); err != nil {
			return err
		}
		if len(selector) > 0 {
			return p.createFleet(ctx, cmd.Flags(), args[0], kind, selector, &a, &f, o.actor, &confirm)
		}
		if (a.tenant == "") == (a.database == "") {
			return usagef("--tenant is missing: whose schedule? give one of --tenant, --database and --select")
		}
		kindArgs, err := a.read(ctx, p, kind)
		if err != nil {
			return err
		}
		switch scope := jobs.KindOptsOf(kindArgs).Scope; {
		case scope == jobs.ScopeDatabase && a.database == "":
			return usagef("kind %s works on a whole database; give --database instead of --tenant", kind)
		case scope != jobs.ScopeDatabase && a.database != "":
			return usagef("kind %s works for one tenant; give --tenant instead of --database", kind)
		}
		params := orchestrator.ScheduleParams{
			Tenant: a.tenant, Database: a.database, Name: args[0], Args: kindArgs, Cron: f.cron, Zone: f.zone, Opts: &a.opts, Actor: o.actor,
		}
		if err := f.apply(cmd.Flags(), &params.Policy); err != nil {
			return err
		}
		return p.createSchedule(ctx, params)
	})
	a.flags(cmd)
	f.flags(cmd)
	o.actorFlag(p, cmd)
	confirm.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&a.database, "database", "", "the database, for kinds that work on a whole one")
	flags.StringArrayVar(&selector, "select", nil, "for all tenants that equal it: all, plan=pro, status=active, region=eu, label.KEY=VALUE, feature.KEY=VALUE; may be repeated")
	flags.StringVar(&kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&f.zone, "zone", "", "the IANA time zone (default: the tenant's)")
	complete(cmd, "kind", builtinKinds())
	return cmd
}

// createFleet is create with --select.
func (p *program) createFleet(ctx context.Context, flags *pflag.FlagSet, name, kind string, terms []string, a *asked, f *policyFlags, actor string, confirm *confirmation) error {
	if a.tenant != "" || a.database != "" {
		return usagef("whose schedule? give one of --tenant, --database and --select")
	}
	selector, err := orchestrator.ParseSelector(terms)
	if err != nil {
		return usagef("--select: %w", err)
	}
	params := orchestrator.FleetParams{Name: name, Select: selector, Cron: f.cron, Zone: f.zone, Opts: &a.opts, Actor: actor, New: true}
	if params.Args, err = a.read(ctx, p, kind); err != nil {
		return err
	}
	if err := f.apply(flags, &params.Policy); err != nil {
		return err
	}
	params.Confirm = confirm.check(selector.String() + " matches")
	return p.open(ctx, nil, func(r rooms) error {
		return p.confirmed(ctx, confirm, func() error {
			fleet, err := r.client.SetFleet(ctx, params)
			if err != nil {
				return badValue(err)
			}
			return one(p, fleet, fleetColumns)
		})
	})
}

func (p *program) createSchedule(ctx context.Context, params orchestrator.ScheduleParams) error {
	return p.open(ctx, nil, func(r rooms) error {
		schedule, err := r.client.CreateSchedule(ctx, params)
		if err != nil {
			return badValue(err)
		}
		p.announce(ctx, r, schedule)
		return one(p, schedule, scheduleColumns)
	})
}

// announce tells what is probably not meant, and the first times.
func (p *program) announce(ctx context.Context, r rooms, s orchestrator.Schedule) {
	table, err := r.client.Timetable(ctx, s)
	if err != nil || s.NextRunAt == nil {
		return // the client has just accepted it
	}
	warnings := table.Warnings()
	for _, warning := range warnings {
		p.say("warning: %s", warning)
	}
	if p.output != "table" && len(warnings) == 0 {
		return
	}
	var times []string
	for _, occurrence := range table.Upcoming(s.Nominal.Add(-time.Second), 5) {
		times = append(times, occurrence.At.Format("Mon 2006-01-02 15:04 MST"))
	}
	p.say("fires %s, …", strings.Join(times, ", "))
	if s.Delay > 0 {
		p.say("its place in the spread: %s later", time.Duration(s.Delay)*time.Second)
	}
}

// checkKind is what the scheduler asks of the kinds that this program has.
func checkKind(kind string, args []byte) error {
	for _, b := range builtins {
		if b.kind == kind {
			_, err := b.decode(args)
			return err
		}
	}
	if strings.HasPrefix(kind, ownPrefix) {
		return usagef("kind %s is unknown to this version; the built-in kinds are %s", quote(kind), strings.Join(builtinKinds(), ", "))
	}
	return nil
}

// calendarDays reads days as on the command line: 2026-12-24 or
// 2026-12-24..2026-12-26.
func calendarDays(texts []string) (ranges []calendar.DayRange) {
	for _, text := range texts {
		from, to, _ := strings.Cut(text, "..")
		ranges = append(ranges, calendar.DayRange{From: from, To: to})
	}
	return ranges
}
