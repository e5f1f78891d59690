package workcmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

var lineColumns = []cli.Column[jobs.LogLine]{
	{Name: "attempt", Of: func(l jobs.LogLine) any { return l.Attempt }},
	{Name: "at", Of: func(l jobs.LogLine) any { return l.At }},
	{Name: "level", Of: func(l jobs.LogLine) any { return l.Level }},
	{Name: "line", Of: func(l jobs.LogLine) any { return strings.TrimSpace(l.Message + " " + string(l.Attrs)) }},
}

// showLog shows the last lines that a job has logged, if there are any.
func showLog(app *cli.App, view jobView) error {
	if len(view.Log) == 0 {
		return nil
	}
	if err := app.Print("\n"); err != nil {
		return err
	}
	if view.EarlierLog {
		app.Say("the last %s that it has logged; `headgate job logs %s` lists all", jobs.Count(len(view.Log), "line"), view.UID)
	}
	return cli.List(app, view.Log, "", lineColumns)
}

func jobLogs(app *cli.App) *cobra.Command {
	var page jobs.Page
	cmd := &cobra.Command{
		Use:   "logs UID",
		Short: "List what a job's handler has logged within 14 days",
		Args:  cli.Args("UID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, next, err := central.Client.JobLogs(ctx, args[0], page)
				if err != nil {
					return err
				}
				if len(found) == 0 && page.After == "" { // is there such a job?
					if _, err := central.Client.Job(ctx, args[0]); err != nil {
						return err
					}
				}
				defer cli.More(app, next)
				return cli.List(app, found, "it has logged nothing that is kept: the lines of job.Log() from level info on are, for 14 days", lineColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind this one, as the list before said")
	cli.IntIn(cmd.Flags(), &page.Limit, "limit", 100, 1, 1000, "at most so many, 1 to 1000")
	return cmd
}
