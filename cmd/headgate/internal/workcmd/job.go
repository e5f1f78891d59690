// Package workcmd has the verbs that ask for work, bound it, and say what became of it.
//
//	job.go      job list, attempts
//	jobshow.go  job show
//	joblog.go   job logs
//	enqueue.go  job enqueue
//	control.go  job cancel, retry, rerun
//	explain.go  job explain, tenant explain
//	worker.go   worker list
//	limit.go    limit set, list, clear
//	pause.go    pause, pause list, resume
//	scope.go    what limits and pauses are about
package workcmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// Job is the verbs on jobs.
func Job(app *cli.App) *cobra.Command {
	return cli.Group("job", "Jobs: ask for one, see what became of it, stop or repeat it",
		jobEnqueue(app), jobList(app), jobShow(app), jobAttempts(app), jobLogs(app), jobExplain(app), jobCancel(app), jobRetry(app), jobRerun(app))
}

var jobColumns = []cli.Column[jobs.Record]{
	{Name: "uid", Of: func(j jobs.Record) any { return j.UID }},
	{Name: "kind", Of: func(j jobs.Record) any { return j.Kind }},
	{Name: "state", Of: func(j jobs.Record) any { return string(j.State) }},
	{Name: "tenant", Of: func(j jobs.Record) any { return j.Tenant }},
	{Name: "database", Of: func(j jobs.Record) any { return j.Database }},
	{Name: "attempt", Of: func(j jobs.Record) any { return j.Attempt }},
	{Name: "schedule", Of: func(j jobs.Record) any { return j.Schedule }},
	{Name: "scheduled_at", Of: func(j jobs.Record) any { return j.ScheduledAt }},
	{Name: "finished_at", Of: func(j jobs.Record) any { return j.FinishedAt }},
}

func jobList(app *cli.App) *cobra.Command {
	var filter jobs.JobFilter
	var state string
	var selecting cli.Selecting
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs, newest first; finished ones leave after a while",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			if state != "" {
				if err := cli.OneOf("--state", state, jobs.StateWords()); err != nil {
					return err
				}
			}
			filter.State = jobs.State(state)
			none := "no such jobs: `headgate job enqueue KIND --tenant TENANT` makes one"
			if selecting.Given() {
				read, err := selecting.Read()
				if err != nil {
					return err
				}
				filter.Select, none = read.String(), "no such jobs of tenants that are like that: `headgate selector test EXPRESSION` says which are"
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, next, err := central.Client.Jobs(ctx, filter)
				if err != nil {
					return err
				}
				defer cli.More(app, next)
				return cli.List(app, found, none, jobColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "", "only those in this state: "+strings.Join(jobs.StateWords(), ", "))
	flags.StringVar(&filter.Kind, "kind", "", "only those of this kind")
	flags.StringVar(&filter.Tenant, "tenant", "", "only those of this tenant, by slug, UUID or org_id")
	selecting.Flag(cmd, "only those of tenants that an expression selects, as in 'region = eu and plan = pro'")
	flags.BoolVar(&filter.Oldest, "oldest", false, "the job that was enqueued first comes first")
	flags.StringVar(&filter.After, "after", "", "go on behind this one, as the list before said")
	cli.IntIn(flags, &filter.Limit, "limit", 50, 1, 1000, "at most so many, 1 to 1000")
	cli.Complete(cmd, "state", jobs.StateWords())
	cli.Complete(cmd, "kind", kinds.Names())
	return cmd
}

func jobAttempts(app *cli.App) *cobra.Command {
	var page jobs.Page
	cmd := &cobra.Command{
		Use:   "attempts UID",
		Short: "List the ended attempts of a job, oldest first, from the history",
		Args:  cli.Args("UID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, next, err := central.Client.Attempts(ctx, args[0], page)
				if err != nil {
					return err
				}
				if len(found) == 0 && page.After == "" { // the history has nothing; does the queue?
					if _, err := central.Client.Job(ctx, args[0]); err != nil {
						return err
					}
				}
				defer cli.More(app, next)
				return listAttempts(app, found, "no attempt has ended")
			})
		}),
	}
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind this one, as the list before said")
	cli.IntIn(cmd.Flags(), &page.Limit, "limit", 100, 1, 1000, "at most so many, 1 to 1000")
	return cmd
}
