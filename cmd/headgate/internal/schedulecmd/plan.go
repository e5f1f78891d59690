package schedulecmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var planColumns = []cli.Column[schedule.PlanStep]{
	{Name: "action", Of: func(s schedule.PlanStep) any { return s.Action }},
	{Name: "what", Of: func(s schedule.PlanStep) any { return s.What }},
	{Name: "name", Of: func(s schedule.PlanStep) any { return s.Name }},
	{Name: "select", Of: func(s schedule.PlanStep) any { return s.Select }},
	{Name: "tenants_before", Of: func(s schedule.PlanStep) any { return s.Before }},
	{Name: "tenants", Of: func(s schedule.PlanStep) any { return s.Tenants }},
	{Name: "fields", Of: func(s schedule.PlanStep) any { return s.Fields }},
}

func schedulePlan(app *cli.App) *cobra.Command {
	return fileCommand(app, "plan", "Say what applying a file of schedules would do", func(ctx context.Context, central cli.Central, file schedule.File) error {
		steps, err := central.Schedules.Files.Plan(ctx, file)
		if err != nil {
			return cli.BadValue(err)
		}
		warn(app, steps)
		return cli.List(app, steps, "nothing: the database is as the file says", planColumns)
	})
}

func scheduleApply(app *cli.App) *cobra.Command {
	var confirm cli.Confirmation
	cmd := fileCommand(app, "apply", "Make the schedules what a file says, in one transaction", func(ctx context.Context, central cli.Central, file schedule.File) error {
		return confirm.Do(ctx, app, func() (err error) {
			file.ExpectSchedules, err = confirm.Expect("the file "+file.Name+" changes schedules of", func() (int, error) {
				steps, err := central.Schedules.Files.Plan(ctx, file)
				return schedule.Touched(steps), cli.BadValue(err)
			})
			if err != nil {
				return err
			}
			steps, err := central.Schedules.Files.Apply(ctx, file)
			if err != nil {
				return cli.BadValue(err)
			}
			warn(app, steps)
			return cli.List(app, steps, "nothing to do: the database was as the file says", planColumns)
		})
	})
	confirm.Flags(cmd)
	return cmd
}

// warn says what of a plan is probably not meant.
func warn(app *cli.App, steps []schedule.PlanStep) {
	for _, s := range steps {
		for _, warning := range s.Warnings {
			app.Say("warning: schedule %s: %s", s.Name, warning)
		}
	}
}

// driftView is one thing that is otherwise than the file says.
type driftView struct {
	Schedule string `json:"schedule"`
	Tenant   string `json:"tenant,omitempty"` // of a tenant's own row
	Is       string `json:"is"`
}

var driftColumns = []cli.Column[driftView]{
	{Name: "schedule", Of: func(v driftView) any { return v.Schedule }},
	{Name: "tenant", Of: func(v driftView) any { return v.Tenant }},
	{Name: "is", Of: func(v driftView) any { return v.Is }},
}

func scheduleDrift(app *cli.App) *cobra.Command {
	return fileCommand(app, "drift", "Say what is otherwise than a file says; exit 1 if so", func(ctx context.Context, central cli.Central, file schedule.File) error {
		steps, rows, err := central.Schedules.Files.Drift(ctx, file)
		if err != nil {
			return cli.BadValue(err)
		}
		var views []driftView
		for _, s := range steps {
			is := map[string]string{"add": "missing", "delete": "not in the file", "change": "changed: " + strings.Join(s.Fields, "; ")}[s.Action]
			views = append(views, driftView{Schedule: s.Name, Is: is})
		}
		for _, row := range rows {
			views = append(views, driftView(row))
		}
		if err := cli.List(app, views, "no drift: the database is as the file says", driftColumns); err != nil || len(views) == 0 {
			return err
		}
		return fmt.Errorf("%s from the file; `headgate schedule apply -f FILE` puts right what is not paused or in error by itself", jobs.Count(len(views), "difference"))
	})
}

func fileCommand(app *cli.App, verb, short string, work func(context.Context, cli.Central, schedule.File) error) *cobra.Command {
	var path string
	var adopt bool
	var limit time.Duration
	var o owner
	cmd := &cobra.Command{
		Use: verb + " -f schedules.yaml", Short: short, Args: cli.Args(),
		Example: "  headgate schedule " + verb + " -f schedules.yaml",
	}
	cmd.RunE = cli.Within(&limit, "; nothing was changed; --timeout gives it longer", func(ctx context.Context, _ []string) error {
		if err := cli.Required(cmd, "file"); err != nil {
			return err
		}
		file, err := readScheduleFile(ctx, app, path, o.actor)
		if err != nil {
			return err
		}
		file.Adopt = adopt
		return app.Open(ctx, nil, func(central cli.Central) error { return work(ctx, central, file) })
	})
	cmd.Flags().StringVarP(&path, "file", "f", "", "the file of schedules, or - for standard input")
	cmd.Flags().BoolVar(&adopt, "adopt", false, "make schedules and calendars of its names the file's, also those of another file or made by hand")
	cli.DurationVar(cmd.Flags(), &limit, "timeout", 10*time.Minute, "how long it may take")
	o.actorFlag(app, cmd)
	return cmd
}
