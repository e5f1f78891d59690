// Package workcmd has the verbs that ask for work, bound it, and say what became of it.
//
//	job.go      job list, show
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
	"encoding/json"
	"strings"
	"time"

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

// jobView is the shape of `job show -o json`: attempts and lines are there, if only none.
type jobView struct {
	jobs.Record
	Attempts   []jobs.Outcome `json:"attempts"`
	Log        []jobs.LogLine `json:"log"` // the last mostLines
	EarlierLog bool           `json:"earlier_log,omitempty"`
}

// mostLines is how many lines of a job's log `job show` prints.
const mostLines = 100

func jobShow(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "show UID",
		Short: "Show one job, its attempts, why they failed, what they logged",
		Args:  cli.Args("UID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				job, err := central.Client.Job(ctx, args[0])
				if err != nil {
					return err
				}
				lines, earlier, err := central.Client.LastJobLogs(ctx, job.UID, mostLines)
				if err != nil {
					return err
				}
				return showJob(app, jobView{Record: job, Attempts: append([]jobs.Outcome{}, job.Attempts...), Log: lines, EarlierLog: earlier})
			})
		}),
	}
}

var attemptColumns = []cli.Column[jobs.Outcome]{
	{Name: "attempt", Of: func(o jobs.Outcome) any { return o.Attempt }},
	{Name: "state", Of: func(o jobs.Outcome) any { return string(o.State) }},
	{Name: "class", Of: func(o jobs.Outcome) any { return string(o.Class) }},
	{Name: "started_at", Of: func(o jobs.Outcome) any { return o.StartedAt }},
	{Name: "took", Of: func(o jobs.Outcome) any { return o.EndedAt.Sub(o.StartedAt).Round(time.Millisecond).String() }},
	{Name: "rows", Of: func(o jobs.Outcome) any { return o.Result.Rows }},
	{Name: "message", Of: func(o jobs.Outcome) any { return strings.TrimSpace(o.Message + " " + o.Result.Output) }},
}

func showJob(app *cli.App, view jobView) error {
	if app.Output != "table" {
		return cli.One(app, view, jobViewColumns())
	}
	show := showRow
	if view.Gone {
		show = showGone
	}
	if err := show(app, view.Record); err != nil {
		return err
	}
	return showLog(app, view)
}

// showRow shows a job that has a row in the queue.
func showRow(app *cli.App, job jobs.Record) error {
	t := cli.NewTable()
	for _, line := range []struct {
		name  string
		value any
	}{
		{"uid", job.UID}, {"kind", job.Kind}, {"state", string(job.State)}, {"tenant", job.Tenant}, {"brand", job.Brand}, {"database", job.Database},
		{"queue", job.Queue}, {"priority", job.Priority}, {"attempt", cli.Plain(job.Attempt) + " of " + cli.Plain(job.MaxAttempts)},
		{"schedule", job.Schedule}, {"args", compact(job.Args)}, {"tags", job.Tags},
		{"enqueued", job.EnqueuedAt}, {"due", job.ScheduledAt}, {"finished", job.FinishedAt},
	} {
		if line.name == "brand" && job.Brand == nil {
			continue // most jobs are of all brands
		}
		t.AppendRow([]any{line.name, app.Cell(line.value)})
	}
	if err := app.Print("%s\n", t.Render()); err != nil {
		return err
	}
	sayEarlier(app, job)
	return showAttempts(app, job)
}

// showAttempts shows what attempts came to, and by which features of the tenant.
func showAttempts(app *cli.App, job jobs.Record) error {
	if err := cli.List(app, job.Attempts, "no attempt has ended yet", attemptColumns); err != nil {
		return err
	}
	said := ""
	for _, o := range job.Attempts {
		if text := compact(o.Features); text != "" && text != said {
			app.Say("attempt %d went by these features: %s", o.Attempt, text)
			said = text
		}
	}
	return nil
}

// showGone shows what the history keeps of a job without a row.
func showGone(app *cli.App, job jobs.Record) error {
	t := cli.NewTable()
	for _, line := range []struct {
		name  string
		value any
	}{
		{"uid", job.UID}, {"kind", job.Kind}, {"state", string(job.State)}, {"tenant", job.Tenant}, {"database", job.Database},
		{"attempt", job.Attempt}, {"schedule", job.Schedule}, {"finished", job.FinishedAt},
	} {
		t.AppendRow([]any{line.name, app.Cell(line.value)})
	}
	if err := app.Print("%s\n", t.Render()); err != nil {
		return err
	}
	app.Say("its row has left the queue, and its arguments with it: this is what the history keeps")
	sayEarlier(app, job)
	return showAttempts(app, job)
}

func sayEarlier(app *cli.App, job jobs.Record) {
	if job.Earlier {
		app.Say("the last %s; `headgate job attempts %s` lists all", jobs.Count(len(job.Attempts), "attempt"), job.UID)
	}
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
				return cli.List(app, found, "no attempt has ended yet", attemptColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind this one, as the list before said")
	cli.IntIn(cmd.Flags(), &page.Limit, "limit", 100, 1, 1000, "at most so many, 1 to 1000")
	return cmd
}

func jobViewColumns() []cli.Column[jobView] {
	columns := make([]cli.Column[jobView], len(jobColumns))
	for i, c := range jobColumns {
		columns[i] = cli.Column[jobView]{Name: c.Name, Of: func(v jobView) any { return c.Of(v.Record) }}
	}
	return columns
}

func compact(raw json.RawMessage) string {
	const most = 200
	if text := string(raw); len(text) <= most {
		return text
	}
	return cli.CutTo(string(raw), most) + " (-o json shows all)"
}
