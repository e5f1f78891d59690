// Package schedulecmd has the verbs of schedules.
//
//	schedule.go  the commands, and whose a schedule is
//	create.go    schedule create; edit.go, control.go (pause, resume, delete)
//	policy.go    a schedule's policies as flags; preview.go has those of timing
//	list.go      schedule list; show.go, preview.go, why.go, forecast.go
//	trigger.go   schedule trigger, backfill
//	file.go      a file of schedules; plan.go has plan, apply and drift
//	yaml.go      YAML to one document for each part; yaml_read.go reads it into structs,
//	             yaml_json.go turns it into JSON with its literals kept
//	calendar.go  exclusion calendars; blackout.go has maintenance windows too
package schedulecmd

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Schedule is the verbs on schedules.
func Schedule(app *cli.App) *cobra.Command {
	return cli.Group("schedule", "Schedules: jobs that come back, by the clock of a tenant",
		scheduleCreate(app), scheduleList(app), scheduleShow(app), scheduleEdit(app), schedulePause(app), scheduleResume(app),
		scheduleTrigger(app), scheduleBackfill(app), schedulePreview(app), scheduleWhy(app), scheduleDelete(app),
		schedulePlan(app), scheduleApply(app), scheduleDrift(app), scheduleForecast(app), scheduleCalendar(app), scheduleBlackout(app), scheduleMaintenanceWindow(app))
}

var scheduleColumns = []cli.Column[schedule.Schedule]{
	{Name: "tenant", Of: func(s schedule.Schedule) any { return s.Tenant }},
	{Name: "name", Of: func(s schedule.Schedule) any { return s.Name }},
	{Name: "kind", Of: func(s schedule.Schedule) any { return s.Kind }},
	{Name: "cron", Of: func(s schedule.Schedule) any { return s.Cron }},
	{Name: "zone", Of: func(s schedule.Schedule) any { return s.Zone }},
	{Name: "next_run_at", Of: func(s schedule.Schedule) any { return s.NextRunAt }},
	{Name: "last_run_at", Of: func(s schedule.Schedule) any { return s.LastRunAt }},
	{Name: "note", Of: func(s schedule.Schedule) any { return scheduleNote(s) }},
}

// scheduleNote says why a schedule has no next time.
func scheduleNote(s schedule.Schedule) string {
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

func (o *owner) actorFlag(app *cli.App, cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.actor, "actor", "", "who does it, for the record of changes (default: $USER)")
	o.actor = app.Actor()
}

func (o *owner) of(name string) (schedule.Key, error) {
	if (o.tenant == "") == (o.database == "") {
		return schedule.Key{}, cli.Usagef("whose schedule? give one of --tenant and --database")
	}
	return schedule.Key{Tenant: o.tenant, Database: o.database, Name: name}, nil
}

// onSchedule makes the RunE of a command on one schedule.
func onSchedule(app *cli.App, o *owner, work func(ctx context.Context, central cli.Central, of schedule.Key) error) func(*cobra.Command, []string) error {
	return cli.Brief(func(ctx context.Context, args []string) error {
		of, err := o.of(args[0])
		if err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error { return cli.BadValue(work(ctx, central, of)) })
	})
}

// onTemplate is onSchedule for the schedule of a selector, which has no one owner.
func onTemplate(app *cli.App, o *owner, work func(ctx context.Context, central cli.Central, name string) error) func(*cobra.Command, []string) error {
	return cli.Brief(func(ctx context.Context, args []string) error {
		if o.tenant != "" || o.database != "" {
			return cli.Usagef("whose schedule? give one of --tenant, --database and --template")
		}
		return app.Open(ctx, nil, func(central cli.Central) error { return cli.BadValue(work(ctx, central, args[0])) })
	})
}
