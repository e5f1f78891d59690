package workcmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

var lineColumns = []cli.Column[jobs.LogLine]{
	{Name: "attempt", Of: func(l jobs.LogLine) any { return l.Attempt }},
	{Name: "at", Of: func(l jobs.LogLine) any { return l.At }},
	{Name: "level", Of: func(l jobs.LogLine) any { return l.Level }},
	{Name: "line", Of: lineOf},
}

func lineOf(l jobs.LogLine) any { return strings.TrimSpace(l.Message + " " + string(l.Attrs)) }

// listLines lists lines. In a table a line that is longer than a terminal's goes on below its
// beginning, as a paragraph does.
func listLines(app *cli.App, list []jobs.LogLine, none string) error {
	if app.Output != "table" || len(list) == 0 {
		return cli.List(app, list, none, lineColumns)
	}
	const form = "%-7v  %-23v  %-5v  "
	if err := app.Print("%s", fmt.Sprintf(form, "ATTEMPT", "AT", "LEVEL")+"LINE"); err != nil {
		return err
	}
	for _, l := range list {
		if err := app.Paragraph(fmt.Sprintf(form, l.Attempt, app.Cell(l.At), app.Cell(l.Level)), cli.Plain(lineOf(l))); err != nil {
			return err
		}
	}
	return nil
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
	return listLines(app, view.Log, "")
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
				return listLines(app, found, "it has logged nothing that is kept: the lines of job.Log() from level info on are, for 14 days")
			})
		}),
	}
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind this one, as the list before said")
	cli.IntIn(cmd.Flags(), &page.Limit, "limit", 100, 1, 1000, "at most so many, 1 to 1000")
	return cmd
}
