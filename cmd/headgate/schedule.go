package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/calendar"
)

func (p *program) scheduleCommand() *cobra.Command {
	return group("schedule", "Schedules: jobs of a tenant that come back", p.scheduleCreate(), p.scheduleList(), p.schedulePreview(), p.schedulePause(), p.scheduleResume())
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
	switch {
	case s.Error != "":
		return "in error: " + s.Error
	case s.Paused && s.PausedNote != "":
		return "paused: " + s.PausedNote
	case s.Paused:
		return "paused"
	}
	return ""
}

const scheduleLong = `Give a tenant a schedule: a job of this kind, with these arguments, whenever the
cron text says so.

The text has five fields (minute hour day month weekday), or is @hourly, @daily,
@weekly, @monthly, @yearly, or @every with a duration. It goes by the time zone,
daylight saving included: a time that the clocks skip fires at the end of the
jump, a time that comes twice fires once.`

func (p *program) scheduleCreate() *cobra.Command {
	var a asked
	var kind, cron, zone string
	cmd := &cobra.Command{
		Use:     "create NAME --tenant TENANT --kind KIND --cron CRON",
		Short:   "Give a tenant a schedule",
		Long:    scheduleLong,
		Example: "  headgate schedule create nightly --tenant acme --kind headgate.purge --cron '30 2 * * *' --zone Europe/Berlin \\\n    --args '{\"table\": \"events\", \"column\": \"at\", \"older_than\": \"90d\"}'",
		Args:    names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		if err := required(cmd, "tenant", "kind", "cron"); err != nil {
			return err
		}
		if err := notZero(cmd, "priority", "max-attempts", "queue"); err != nil {
			return err
		}
		kindArgs, err := a.read(ctx, p, kind)
		if err != nil {
			return err
		}
		if jobs.KindOptsOf(kindArgs).Scope == jobs.ScopeDatabase {
			return usagef("kind %s works on a whole database; schedules are for the kinds of tenants", kind)
		}
		return p.createSchedule(ctx, orchestrator.ScheduleParams{
			Tenant: a.tenant, Name: args[0], Args: kindArgs, Cron: cron, Zone: zone, Opts: &a.opts,
		})
	})
	a.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&cron, "cron", "", "when, as in '30 2 * * *'")
	flags.StringVar(&zone, "zone", "", "the IANA time zone (default: the tenant's)")
	complete(cmd, "kind", builtinKinds())
	return cmd
}

func (p *program) createSchedule(ctx context.Context, params orchestrator.ScheduleParams) error {
	return p.open(ctx, nil, func(r rooms) error {
		schedule, err := r.client.CreateSchedule(ctx, params)
		if err != nil {
			return badValue(err)
		}
		if schedule.NextRunAt != nil {
			next := schedule.NextRunAt.UTC()
			schedule.NextRunAt = &next
		}
		p.preview(schedule)
		return one(p, schedule, scheduleColumns)
	})
}

// preview tells what is probably not meant, and the first times.
func (p *program) preview(s orchestrator.Schedule) {
	cron, err := calendar.Parse(s.Cron, s.Zone)
	if err != nil || s.NextRunAt == nil {
		return // the client has just accepted it
	}
	warnings := cron.Warnings()
	for _, warning := range warnings {
		p.say("warning: %s", warning)
	}
	if p.output != "table" && len(warnings) == 0 {
		return
	}
	var times []string
	at := s.NextRunAt.Add(-time.Second)
	for range 5 {
		if at = cron.Next(at); at.IsZero() {
			break
		}
		times = append(times, at.Format("Mon 2006-01-02 15:04 MST"))
	}
	p.say("fires %s, …", strings.Join(times, ", "))
}

func (p *program) scheduleList() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules, by tenant and name",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
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
	return cmd
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
		filter.AfterTenant, filter.AfterName = last.Tenant, last.Name
	}
}

// pausedView is the shape of `schedule pause -o json` and resume.
type pausedView struct {
	Tenant   string `json:"tenant"`
	Schedule string `json:"schedule"`
	Paused   bool   `json:"paused"`
	Note     string `json:"note,omitempty"`
}

var pausedColumns = []column[pausedView]{
	{"tenant", func(v pausedView) any { return v.Tenant }},
	{"schedule", func(v pausedView) any { return v.Schedule }},
	{"paused", func(v pausedView) any { return v.Paused }},
	{"note", func(v pausedView) any { return v.Note }},
}

func (p *program) schedulePause() *cobra.Command {
	var tenant, note string
	cmd := &cobra.Command{
		Use:   "pause NAME --tenant TENANT",
		Short: "Keep a schedule from firing until it is resumed",
		Args:  names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		if err := required(cmd, "tenant"); err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error {
			if err := r.client.PauseSchedule(ctx, tenant, args[0], note); err != nil {
				return badValue(err)
			}
			return one(p, pausedView{Tenant: tenant, Schedule: args[0], Paused: true, Note: note}, pausedColumns)
		})
	})
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose schedule, by slug, UUID or org_id")
	cmd.Flags().StringVar(&note, "note", "", "why, for whoever wonders later")
	return cmd
}

func (p *program) scheduleResume() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "resume NAME --tenant TENANT",
		Short: "Let a paused schedule fire again, from the next time on",
		Args:  names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		if err := required(cmd, "tenant"); err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error {
			if err := r.client.ResumeSchedule(ctx, tenant, args[0]); err != nil {
				return badValue(err)
			}
			return one(p, pausedView{Tenant: tenant, Schedule: args[0]}, pausedColumns)
		})
	})
	cmd.Flags().StringVar(&tenant, "tenant", "", "whose schedule, by slug, UUID or org_id")
	return cmd
}
