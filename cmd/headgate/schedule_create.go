package main

import (
	"cmp"
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

func (p *program) scheduleEdit() *cobra.Command {
	var o owner
	var f policyFlags
	var kind, args, note string
	var version int
	var fleet bool
	var selector []string
	var confirm confirmation
	cmd := &cobra.Command{
		Use:     "edit NAME --tenant TENANT | --database DATABASE | --fleet",
		Short:   "Change a schedule; what is not given stays",
		Long:    "Change a schedule. What is not given stays. A firing is either before the edit or\nafter it, never half of both. A schedule in error is set going again.\n\nWith --fleet it is the schedule for a selector of that name, and with it those of\nall its tenants.",
		Example: "  headgate schedule edit nightly --tenant acme --cron '0 4 * * *' --overlap buffer_one\n  headgate schedule edit nightly --fleet --select plan=pro --confirm 120",
		Args:    names("NAME"),
	}
	// read makes the edit of what was given, for a schedule that has these now.
	read := func(ctx context.Context, now func() (kind string, args []byte, err error)) (edit orchestrator.ScheduleEdit, err error) {
		edit = orchestrator.ScheduleEdit{Cron: f.cron, Zone: f.zone, Version: version, Actor: o.actor, Note: note}
		if err := notZero(cmd, "cron", "zone", "kind", "version"); err != nil {
			return edit, err
		}
		if err := f.apply(cmd.Flags(), &orchestrator.SchedulePolicy{}); err != nil {
			return edit, err
		}
		edit.Policy = func(policy *orchestrator.SchedulePolicy) { _ = f.apply(cmd.Flags(), policy) } // it has just been read
		if !cmd.Flags().Changed("args") && !cmd.Flags().Changed("kind") {
			return edit, nil
		}
		nowKind, nowArgs, err := now()
		if err != nil {
			return edit, err
		}
		if !cmd.Flags().Changed("args") {
			args = string(nowArgs)
		}
		a := asked{tenant: o.tenant, database: o.database, args: args}
		edit.Args, err = a.read(ctx, p, cmp.Or(kind, nowKind))
		return edit, err
	}
	single := p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		edit, err := read(ctx, func() (string, []byte, error) {
			s, err := r.client.GetSchedule(ctx, of)
			return s.Kind, s.Args, err
		})
		if err != nil {
			return err
		}
		s, err := r.client.EditSchedule(ctx, of, edit)
		if err != nil {
			return err
		}
		p.announce(ctx, r, s)
		return one(p, s, scheduleColumns)
	})
	all := func(ctx context.Context, r rooms, name string) error {
		change, err := read(ctx, func() (string, []byte, error) {
			f, err := r.client.GetFleet(ctx, name)
			return f.Kind, f.Args, err
		})
		if err != nil {
			return err
		}
		edit := orchestrator.FleetEdit{ScheduleEdit: change, Confirm: confirm.check("fleet schedule " + name + " is for")}
		if len(selector) > 0 {
			parsed, err := orchestrator.ParseSelector(selector)
			if err != nil {
				return usagef("--select: %w", err)
			}
			edit.Select, edit.Confirm = &parsed, confirm.check(parsed.String()+" matches")
		}
		return p.confirmed(ctx, &confirm, func() error {
			after, err := r.client.EditFleet(ctx, name, edit)
			if err != nil {
				return badValue(err)
			}
			return one(p, after, fleetColumns)
		})
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !fleet && len(selector) > 0:
			return usagef("--select is for the schedule of a selector: give --fleet with it")
		case !fleet:
			return single(cmd, args)
		case o.tenant != "" || o.database != "":
			return usagef("whose schedule? give one of --tenant, --database and --fleet")
		}
		return brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error { return all(ctx, r, args[0]) })
		})(cmd, args)
	}
	confirm.flags(cmd)
	cmd.Flags().BoolVar(&fleet, "fleet", false, "the schedule for a selector of that name, and those of all its tenants")
	cmd.Flags().StringArrayVar(&selector, "select", nil, "with --fleet: for all tenants that equal it from now on; may be repeated")
	o.flags(cmd)
	o.actorFlag(p, cmd)
	f.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.zone, "zone", "", "the IANA time zone")
	flags.StringVar(&kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&args, "args", "", "the arguments: JSON, @FILE, or - for standard input")
	flags.StringVar(&note, "note", "", "why, for the record of changes")
	flags.IntVar(&version, "version", 0, "only change the schedule if it has this version")
	return cmd
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
