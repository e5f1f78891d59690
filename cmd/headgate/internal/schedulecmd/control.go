package schedulecmd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/schedule"
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

var pausedColumns = []cli.Column[pausedView]{
	{Name: "tenant", Of: func(v pausedView) any { return v.Tenant }},
	{Name: "schedule", Of: func(v pausedView) any { return v.Schedule }},
	{Name: "paused", Of: func(v pausedView) any { return v.Paused }},
	{Name: "note", Of: func(v pausedView) any { return v.Note }},
	{Name: "until", Of: func(v pausedView) any { return v.Until }},
}

func viewOf(of schedule.Key) pausedView {
	return pausedView{Tenant: of.Tenant, Database: of.Database, Schedule: of.Name}
}

func schedulePause(app *cli.App) *cobra.Command {
	var o owner
	var note, until string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "pause NAME --tenant TENANT",
		Short: "Keep a schedule from firing until it is resumed",
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		end, err := cli.TimeFlag("until", until)
		if err != nil {
			return err
		}
		err = dry.Do(ctx, central, func(tx pgx.Tx) error {
			return central.Schedules.PauseTx(ctx, tx, of, &schedule.PauseOpts{Note: note, Until: end, Actor: o.actor})
		})
		if err != nil {
			return err
		}
		defer dry.Say(app, "")
		view := viewOf(of)
		view.Paused, view.Note, view.Until = true, note, pointer(end.UTC())
		return cli.One(app, view, pausedColumns)
	})
	o.flags(cmd)
	o.actorFlag(app, cmd)
	cmd.Flags().StringVar(&note, "note", "", "why, for whoever wonders later")
	cmd.Flags().StringVar(&until, "until", "", "when it resumes by itself, RFC 3339 (default: never)")
	dry.Flag(cmd)
	return cmd
}

func scheduleResume(app *cli.App) *cobra.Command {
	var o owner
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "resume NAME --tenant TENANT",
		Short: "Let a paused schedule, or one in error, fire again",
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Schedules.ResumeTx(ctx, tx, of, o.actor) })
		if err != nil {
			return err
		}
		defer dry.Say(app, "")
		return cli.One(app, viewOf(of), pausedColumns)
	})
	o.flags(cmd)
	o.actorFlag(app, cmd)
	dry.Flag(cmd)
	return cmd
}

func scheduleDelete(app *cli.App) *cobra.Command {
	var o owner
	cmd := &cobra.Command{
		Use:   "delete NAME --tenant TENANT | --database DATABASE | --template",
		Short: "Remove a schedule; jobs that it has enqueued go on",
		Args:  cli.Args("NAME"),
	}
	var template bool
	var confirm cli.Confirmation
	var dry cli.DryRun
	confirm.Flags(cmd)
	dry.Flag(cmd)
	cmd.Flags().BoolVar(&template, "template", false, "the schedule for a selector of that name, with all rows of tenants that come from it")
	single := onSchedule(app, &o, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Schedules.DeleteTx(ctx, tx, of, o.actor) })
		if err != nil {
			return err
		}
		defer dry.Say(app, "")
		view := viewOf(of)
		view.Deleted = true
		return cli.One(app, view, pausedColumns)
	})
	all := onTemplate(app, &o, func(ctx context.Context, central cli.Central, name string) error {
		return confirm.Do(ctx, app, func() error {
			there, err := central.Schedules.Templates.Get(ctx, name)
			if err != nil {
				return err
			}
			deletion := schedule.TemplateDeletion{Actor: o.actor}
			if !dry.On() {
				deletion.ExpectTenants, err = confirm.Expect(there.Select.String()+" matches", func() (int, error) { return there.Tenants, nil })
				if err != nil {
					return err
				}
			}
			err = dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Schedules.Templates.DeleteTx(ctx, tx, name, deletion) })
			if err != nil {
				return err
			}
			defer dry.Say(app, jobs.Count(there.Tenants, "tenant"))
			return cli.One(app, pausedView{Schedule: name, Deleted: true}, pausedColumns)
		})
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if template {
			return all(cmd, args)
		}
		return single(cmd, args)
	}
	o.flags(cmd)
	o.actorFlag(app, cmd)
	return cmd
}
