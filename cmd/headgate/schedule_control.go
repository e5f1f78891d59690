package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"maps"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// pausedView is the shape of `schedule pause -o json`, resume and delete.
type pausedView struct {
	Tenant   string     `json:"tenant"`
	Database string     `json:"database,omitempty"`
	Schedule string     `json:"schedule"`
	Paused   bool       `json:"paused"`
	Note     string     `json:"note,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Deleted  bool       `json:"deleted,omitempty"`
}

var pausedColumns = []column[pausedView]{
	{"tenant", func(v pausedView) any { return v.Tenant }},
	{"schedule", func(v pausedView) any { return v.Schedule }},
	{"paused", func(v pausedView) any { return v.Paused }},
	{"note", func(v pausedView) any { return v.Note }},
	{"until", func(v pausedView) any { return v.Until }},
}

func viewOf(of orchestrator.ScheduleOf) pausedView {
	return pausedView{Tenant: of.Tenant, Database: of.Database, Schedule: of.Name}
}

func (p *program) schedulePause() *cobra.Command {
	var o owner
	var note, until string
	cmd := &cobra.Command{
		Use:   "pause NAME --tenant TENANT",
		Short: "Keep a schedule from firing until it is resumed",
		Args:  names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		end, err := timeFlag("until", until)
		if err != nil {
			return err
		}
		if err := r.client.PauseSchedule(ctx, of, &orchestrator.SchedulePauseOpts{Note: note, Until: end, Actor: o.actor}); err != nil {
			return err
		}
		view := viewOf(of)
		view.Paused, view.Note, view.Until = true, note, pointer(end.UTC())
		return one(p, view, pausedColumns)
	})
	o.flags(cmd)
	o.actorFlag(p, cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for whoever wonders later")
	cmd.Flags().StringVar(&until, "until", "", "when it resumes by itself, RFC 3339 (default: never)")
	return cmd
}

func (p *program) scheduleResume() *cobra.Command {
	var o owner
	cmd := &cobra.Command{
		Use:   "resume NAME --tenant TENANT",
		Short: "Let a paused schedule, or one in error, fire again, from the next time on",
		Args:  names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		if err := r.client.ResumeSchedule(ctx, of, o.actor); err != nil {
			return err
		}
		return one(p, viewOf(of), pausedColumns)
	})
	o.flags(cmd)
	o.actorFlag(p, cmd)
	return cmd
}

func (p *program) scheduleDelete() *cobra.Command {
	var o owner
	cmd := &cobra.Command{
		Use:   "delete NAME --tenant TENANT | --database DATABASE | --fleet",
		Short: "Remove a schedule; jobs that it has enqueued go on",
		Args:  names("NAME"),
	}
	var fleet bool
	var confirm confirmation
	confirm.flags(cmd)
	cmd.Flags().BoolVar(&fleet, "fleet", false, "the schedule for a selector of that name, with all rows of tenants that come from it")
	single := p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		if err := r.client.DeleteSchedule(ctx, of, o.actor); err != nil {
			return err
		}
		view := viewOf(of)
		view.Deleted = true
		return one(p, view, pausedColumns)
	})
	all := p.onFleet(&o, func(ctx context.Context, r rooms, name string) error {
		return p.confirmed(ctx, &confirm, func() error {
			there, err := r.client.GetFleet(ctx, name)
			if err != nil {
				return err
			}
			if err := confirm.check(there.Select.String() + " matches")(there.Tenants); err != nil {
				return err
			}
			if err := r.client.DeleteFleet(ctx, name, o.actor); err != nil {
				return err
			}
			return one(p, pausedView{Schedule: name, Deleted: true}, pausedColumns)
		})
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if fleet {
			return all(cmd, args)
		}
		return single(cmd, args)
	}
	o.flags(cmd)
	o.actorFlag(p, cmd)
	return cmd
}

var triggeredColumns = []column[orchestrator.Triggered]{
	{"uid", func(v orchestrator.Triggered) any { return v.UID }},
	{"nominal_at", func(v orchestrator.Triggered) any { return v.Nominal }},
	{"waiting", func(v orchestrator.Triggered) any { return v.Waiting }},
}

func (p *program) scheduleTrigger() *cobra.Command {
	var o owner
	var overlap string
	cmd := &cobra.Command{
		Use:   "trigger NAME --tenant TENANT",
		Short: "Run a schedule's job now, beside its own times",
		Args:  names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		result, err := r.client.TriggerSchedule(ctx, of, &orchestrator.TriggerOpts{Overlap: orchestrator.Overlap(overlap), Actor: o.actor})
		if err != nil {
			return err
		}
		return one(p, result, triggeredColumns)
	})
	o.flags(cmd)
	o.actorFlag(p, cmd)
	cmd.Flags().StringVar(&overlap, "overlap", "", "instead of the schedule's own: skip, buffer_one, buffer_all, cancel, allow")
	return cmd
}

var backfilledColumns = []column[orchestrator.Backfilled]{
	{"occurrences", func(v orchestrator.Backfilled) any { return v.Occurrences }},
	{"fired_before", func(v orchestrator.Backfilled) any { return v.Fired }},
	{"backfilled_before", func(v orchestrator.Backfilled) any { return v.Again }},
	{"jobs", func(v orchestrator.Backfilled) any { return v.Jobs }},
	{"waiting", func(v orchestrator.Backfilled) any { return v.Waiting }},
	{"first", func(v orchestrator.Backfilled) any { return v.First }},
	{"last", func(v orchestrator.Backfilled) any { return v.Last }},
}

func (p *program) scheduleBackfill() *cobra.Command {
	var o owner
	var from, to, overlap string
	params := orchestrator.BackfillParams{}
	cmd := &cobra.Command{
		Use:     "backfill NAME --tenant TENANT --from TIME --to TIME",
		Short:   "Fire the occurrences of a time that lies behind, each once",
		Example: "  headgate schedule backfill nightly --tenant acme --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --dry-run",
		Args:    names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) (err error) {
		if err := required(cmd, "from", "to"); err != nil {
			return err
		}
		if params.From, err = timeFlag("from", from); err != nil {
			return err
		}
		if params.To, err = timeFlag("to", to); err != nil {
			return err
		}
		params.Overlap, params.Actor = orchestrator.Overlap(overlap), o.actor
		result, err := r.client.Backfill(ctx, of, params)
		if err != nil {
			return err
		}
		if params.DryRun {
			p.say("nothing was done: a dry run")
		}
		return one(p, result, backfilledColumns)
	})
	o.flags(cmd)
	o.actorFlag(p, cmd)
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "the first nominal time, RFC 3339")
	flags.StringVar(&to, "to", "", "the last nominal time, RFC 3339")
	flags.IntVar(&params.Max, "max", 1000, "refuse to fire more than so many, 1 to 10000")
	flags.BoolVar(&params.Missed, "missed", false, "leave out those that have fired")
	flags.BoolVar(&params.DryRun, "dry-run", false, "only say what would be fired")
	flags.StringVar(&overlap, "overlap", "", "allow (all at once, the default) or buffer_all (one after the other)")
	return cmd
}

// calendarView is one exclusion calendar.
type calendarView struct {
	Name string              `json:"name"`
	Days []calendar.DayRange `json:"days"`
}

var calendarColumns = []column[calendarView]{
	{"name", func(v calendarView) any { return v.Name }},
	{"days", func(v calendarView) any {
		var texts []string
		for _, r := range v.Days {
			text := r.From
			if r.To != r.From {
				text += ".." + r.To
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ", ")
	}},
}

func (p *program) scheduleCalendar() *cobra.Command {
	var days []string
	set := &cobra.Command{
		Use:     "set NAME --day 2026-12-25 --day 2026-12-27..2026-12-31",
		Short:   "Store an exclusion calendar, anew or instead of the one of that name",
		Example: "  headgate schedule calendar set holidays --day 2026-12-25 --day 2027-01-01",
		Args:    names("NAME"),
	}
	set.RunE = brief(func(ctx context.Context, args []string) error {
		return p.open(ctx, nil, func(r rooms) error {
			if err := r.client.SetCalendar(ctx, args[0], calendarDays(days)); err != nil {
				return badValue(err)
			}
			all, err := r.client.Calendars(ctx)
			if err != nil {
				return err
			}
			return one(p, calendarView{args[0], all[args[0]].Ranges}, calendarColumns)
		})
	})
	set.Flags().StringArrayVar(&days, "day", nil, "a day, or a range FROM..TO; may be repeated")
	show := &cobra.Command{
		Use: "list", Short: "List exclusion calendars", Args: names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				all, err := r.client.Calendars(ctx)
				if err != nil {
					return err
				}
				var views []calendarView
				for _, name := range slices.Sorted(maps.Keys(all)) {
					views = append(views, calendarView{name, all[name].Ranges})
				}
				return list(p, views, "no calendars: headgate schedule calendar set NAME --day 2026-12-25", calendarColumns)
			})
		}),
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Remove an exclusion calendar that no schedule names", Args: names("NAME"),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				if err := r.client.DeleteCalendar(ctx, args[0]); err != nil {
					return badValue(err)
				}
				return one(p, calendarView{Name: args[0], Days: []calendar.DayRange{}}, calendarColumns)
			})
		}),
	}
	return group("calendar", "Days on which nothing fires, shared by schedules", set, show, remove)
}
