package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

func (p *program) scheduleCommand() *cobra.Command {
	return group("schedule", "Schedules: jobs that come back, by the clock of a tenant",
		p.scheduleCreate(), p.scheduleList(), p.scheduleShow(), p.scheduleEdit(), p.schedulePause(), p.scheduleResume(),
		p.scheduleTrigger(), p.scheduleBackfill(), p.schedulePreview(), p.scheduleWhy(), p.scheduleDelete(),
		p.schedulePlan(), p.scheduleApply(), p.scheduleDrift(), p.scheduleForecast(), p.scheduleCalendar(), p.scheduleClosure())
}

var scheduleColumns = []column[orchestrator.Schedule]{
	{"tenant", func(s orchestrator.Schedule) any { return s.Tenant }},
	{"name", func(s orchestrator.Schedule) any { return s.Name }},
	{"kind", func(s orchestrator.Schedule) any { return s.Kind }},
	{"cron", func(s orchestrator.Schedule) any { return s.Cron }},
	{"zone", func(s orchestrator.Schedule) any { return s.Zone }},
	{"next_run_at", func(s orchestrator.Schedule) any { return s.NextRunAt }},
	{"last_run_at", func(s orchestrator.Schedule) any { return s.LastRunAt }},
	{"note", func(s orchestrator.Schedule) any { return scheduleNote(s) }},
}

// scheduleNote says why a schedule has no next time.
func scheduleNote(s orchestrator.Schedule) string {
	paused := "paused"
	if s.PausedUntil != nil {
		paused += " until " + s.PausedUntil.Format(time.RFC3339)
	}
	switch {
	case s.Error != "":
		return "in error: " + s.Error
	case s.Paused && s.PausedNote != "":
		return paused + ": " + s.PausedNote
	case s.Paused:
		return paused
	case s.Database != "":
		return "of database " + s.Database
	case s.NextRunAt == nil:
		return "ended"
	}
	return ""
}

// owner are the flags that say whose a schedule is.
type owner struct{ tenant, database, actor string }

func (o *owner) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.tenant, "tenant", "", "whose schedule, by slug, UUID or org_id")
	flags.StringVar(&o.database, "database", "", "the database, for a schedule of a kind that works on a whole one")
}

func (o *owner) actorFlag(p *program, cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.actor, "actor", "", "who does it, for the record of changes (default: $USER)")
	o.actor = p.env("USER")
}

func (o *owner) of(name string) (orchestrator.ScheduleOf, error) {
	if (o.tenant == "") == (o.database == "") {
		return orchestrator.ScheduleOf{}, usagef("whose schedule? give one of --tenant and --database")
	}
	return orchestrator.ScheduleOf{Tenant: o.tenant, Database: o.database, Name: name}, nil
}

// onSchedule makes the RunE of a command on one schedule.
func (p *program) onSchedule(o *owner, work func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error) func(*cobra.Command, []string) error {
	return brief(func(ctx context.Context, args []string) error {
		of, err := o.of(args[0])
		if err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error { return badValue(work(ctx, r, of)) })
	})
}

// onFleet is onSchedule for the schedule of a selector, which has no one owner.
func (p *program) onFleet(o *owner, work func(ctx context.Context, r rooms, name string) error) func(*cobra.Command, []string) error {
	return brief(func(ctx context.Context, args []string) error {
		if o.tenant != "" || o.database != "" {
			return usagef("whose schedule? give one of --tenant, --database and --fleet")
		}
		return p.open(ctx, nil, func(r rooms) error { return badValue(work(ctx, r, args[0])) })
	})
}

func (p *program) scheduleList() *cobra.Command {
	var tenant string
	var fleets bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules, by tenant and name",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				if fleets {
					all, err := r.client.Fleets(ctx)
					if err != nil {
						return err
					}
					return list(p, all, "no fleet schedules: headgate schedule create NAME --select all --kind KIND --cron CRON", fleetColumns)
				}
				filter := orchestrator.ScheduleFilter{Limit: page}
				if tenant != "" {
					found, err := r.catalog.Tenant(ctx, tenant)
					if err != nil {
						return err
					}
					filter.Tenant = found.Slug
				}
				schedules, err := schedulePages(ctx, r.client, filter)
				if err != nil {
					return err
				}
				return list(p, schedules, "no schedules: headgate schedule create NAME --tenant TENANT --kind KIND --cron CRON", scheduleColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "only this tenant's, by slug, UUID or org_id")
	cmd.Flags().BoolVar(&fleets, "fleets", false, "list the schedules for selectors instead of the tenants' own rows")
	return cmd
}

var fleetColumns = []column[orchestrator.Fleet]{
	{"name", func(f orchestrator.Fleet) any { return f.Name }},
	{"select", func(f orchestrator.Fleet) any { return f.Select.String() }},
	{"tenants", func(f orchestrator.Fleet) any { return f.Tenants }},
	{"kind", func(f orchestrator.Fleet) any { return f.Kind }},
	{"cron", func(f orchestrator.Fleet) any { return f.Cron }},
	{"zone", func(f orchestrator.Fleet) any { return f.Zone }},
	{"file", func(f orchestrator.Fleet) any { return f.ManagedBy }},
}

func schedulePages(ctx context.Context, c *orchestrator.Client, filter orchestrator.ScheduleFilter) ([]orchestrator.Schedule, error) {
	var all []orchestrator.Schedule
	for {
		schedules, err := c.Schedules(ctx, filter)
		if err != nil {
			return nil, err
		}
		all = append(all, schedules...)
		if len(schedules) < filter.Limit {
			return all, nil
		}
		last := all[len(all)-1]
		filter.AfterTenant, filter.AfterDatabase, filter.AfterName = last.Tenant, last.Database, last.Name
	}
}

// scheduleView is the shape of `schedule show -o json`.
type scheduleView struct {
	orchestrator.Schedule
	Words       string                        `json:"words"`
	Warnings    []string                      `json:"warnings"`
	Occurrences []orchestrator.Occurrence     `json:"occurrences"` // the last ones
	Changes     []orchestrator.ScheduleChange `json:"changes"`     // the last ones
}

var scheduleViewColumns = []column[scheduleView]{
	{"tenant", func(v scheduleView) any { return v.Tenant }},
	{"name", func(v scheduleView) any { return v.Name }},
	{"kind", func(v scheduleView) any { return v.Kind }},
	{"words", func(v scheduleView) any { return v.Words }},
	{"next_run_at", func(v scheduleView) any { return v.NextRunAt }},
	{"overlap", func(v scheduleView) any { return string(v.Policy.Overlap) }},
	{"catch_up", func(v scheduleView) any { return string(v.Policy.CatchUp) }},
	{"version", func(v scheduleView) any { return v.Version }},
	{"note", func(v scheduleView) any { return scheduleNote(v.Schedule) }},
}

func (p *program) scheduleShow() *cobra.Command {
	var o owner
	var last int
	cmd := &cobra.Command{
		Use:   "show NAME --tenant TENANT",
		Short: "Show a schedule, what became of its last occurrences, and who changed it",
		Args:  names("NAME"),
	}
	cmd.RunE = p.onSchedule(&o, func(ctx context.Context, r rooms, of orchestrator.ScheduleOf) error {
		if last < 1 || last > 1000 {
			return usagef("--last is %d: give 1 to 1000", last)
		}
		s, err := r.client.GetSchedule(ctx, of)
		if err != nil {
			return err
		}
		view := scheduleView{Schedule: s, Warnings: []string{}}
		if table, err := r.client.Timetable(ctx, s); err == nil {
			view.Words, view.Warnings = table.Words(), append(view.Warnings, table.Warnings()...)
		}
		if view.Occurrences, err = r.client.Occurrences(ctx, s.ID, time.Time{}, last); err != nil {
			return err
		}
		if view.Changes, err = r.client.ScheduleChanges(ctx, s.ID, last); err != nil {
			return err
		}
		if err := one(p, view, scheduleViewColumns); err != nil || p.output != "table" {
			return err
		}
		if len(view.Occurrences) == 0 {
			p.say("nothing has come due yet")
			return nil
		}
		return tableRows(p, view.Occurrences, occurrenceColumns)
	})
	o.flags(cmd)
	cmd.Flags().IntVar(&last, "last", 10, "how many occurrences and changes")
	return cmd
}

var occurrenceColumns = []column[orchestrator.Occurrence]{
	{"nominal_at", func(o orchestrator.Occurrence) any { return o.NominalAt }},
	{"outcome", func(o orchestrator.Occurrence) any { return string(o.Outcome) }},
	{"count", func(o orchestrator.Occurrence) any { return o.Count }},
	{"origin", func(o orchestrator.Occurrence) any { return o.Origin }},
	{"job", func(o orchestrator.Occurrence) any { return o.JobUID }},
	{"note", func(o orchestrator.Occurrence) any { return occurrenceNote(o) }},
}

func occurrenceNote(o orchestrator.Occurrence) string {
	if o.Count > 1 {
		return fmt.Sprintf("to %s; %s", o.LastAt.Format(time.RFC3339), o.Note)
	}
	return o.Note
}
