package workcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
)

// jobView is the shape of `job show -o json`: attempts and lines are there, if only none.
type jobView struct {
	jobs.Record
	Attempts   []jobs.Outcome `json:"attempts"`
	Log        []jobs.LogLine `json:"log"` // the last mostLines
	EarlierLog bool           `json:"earlier_log,omitempty"`

	refusals []explain.Fact // why the tenant or its database takes no work; of a job that has not ended
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
				view := jobView{Record: job, Attempts: append([]jobs.Outcome{}, job.Attempts...), Log: lines, EarlierLog: earlier}
				if app.Output == "table" && waits(job) {
					if view.refusals, err = refusals(ctx, central, job.UID); err != nil {
						return err
					}
				}
				return showJob(app, view)
			})
		}),
	}
}

// waits says that no attempt at a job is under way, and that another one may come.
func waits(job jobs.Record) bool {
	switch job.State {
	case jobs.Waiting, jobs.Scheduled, jobs.Failed, jobs.Snoozed:
		return !job.Gone
	}
	return false
}

// refusals are why nothing of a job's tenant or database runs, as `job explain` has it.
func refusals(ctx context.Context, central cli.Central, uid string) (list []explain.Fact, err error) {
	explained, err := central.Explain.Explain(ctx, uid)
	if err != nil {
		return nil, err
	}
	for _, f := range explained.Facts {
		switch f.Code {
		case explain.CodeTenantStatus, explain.CodeTenantMoving, explain.CodeServerState, explain.CodeDatabaseState:
			list = append(list, f)
		}
	}
	return list, nil
}

func showJob(app *cli.App, view jobView) error {
	if app.Output != "table" {
		return cli.One(app, view, jobViewColumns())
	}
	if err := showLines(app, view); err != nil {
		return err
	}
	if view.Gone {
		app.Say("its row has left the queue, and its arguments with it: this is what the history keeps")
	}
	if err := app.Print(""); err != nil {
		return err
	}
	if view.Earlier {
		app.Say("the last %s; `headgate job attempts %s` lists all", jobs.Count(len(view.Attempts), "attempt"), view.UID)
	}
	if err := showAttempts(app, view.Record); err != nil {
		return err
	}
	return showLog(app, view)
}

// showLines shows what is known of a job, a line each. A line that says nothing of a job in its
// state is left out: one that has ended is not due, and one that has not has no end.
func showLines(app *cli.App, view jobView) error {
	job, ended := view.Record, view.FinishedAt != nil
	brand, cancel, never, held := "", "", neverBegun(job), ""
	if job.Brand != nil {
		brand = cli.Plain(*job.Brand)
	}
	if c := job.Cancel; c != nil && job.State != jobs.Succeeded && never == "" {
		cancel = "asked for"
		if c.By != "" {
			cancel += " by " + c.By
		}
		if c.Reason != "" {
			cancel += ": " + c.Reason
		}
	}
	if h := job.Held; h != nil && waits(job) {
		held = fmt.Sprintf("%s, since %s, by %s that used none", h.Class, app.Cell(h.Since), jobs.Count(h.Times, "attempt"))
	}
	for _, line := range []struct {
		name  string
		value any
		shown bool
	}{
		{"uid", job.UID, true},
		{"kind", job.Kind, true},
		{"state", string(job.State), true},
		{"tenant", job.Tenant, true},
		{"brand", brand, brand != ""}, // most jobs are of all brands
		{"database", job.Database, true},
		{"queue", job.Queue, !job.Gone},
		{"priority", job.Priority, !job.Gone},
		{"attempt", attemptOf(job), true},
		{"schedule", job.Schedule, true},
		{"rerun of", job.RerunOf, job.RerunOf != ""},
		{"args", compact(job.Args), !job.Gone},
		{"tags", job.Tags, !job.Gone},
		{"enqueued", job.EnqueuedAt, !job.Gone},
		{"due", job.ScheduledAt, !job.Gone && !ended},
		{"held", held, held != ""},
		{"cancel", cancel, cancel != ""},
		{"tombstone", job.Tombstone, job.Tombstone != ""},
		{"finished", job.FinishedAt, ended},
		{"ended", never, never != ""},
	} {
		if line.shown {
			if err := app.Paragraph(fmt.Sprintf("%-9s ", line.name), app.Cell(line.value)); err != nil {
				return err
			}
		}
	}
	for _, f := range view.refusals {
		if err := app.Paragraph("stopped   ", f.Fact); err != nil {
			return err
		}
	}
	return nil
}

// neverBegun is what the history says of a job that has ended without an attempt, or "".
func neverBegun(job jobs.Record) string {
	if last := job.Last(); last != nil && last.Attempt == 0 {
		return last.Message
	}
	return ""
}

// attemptOf is which attempt a job is at, and of how many.
func attemptOf(job jobs.Record) string {
	switch {
	case job.Attempt == 0 && job.FinishedAt != nil:
		return "none was made"
	case job.Attempt == 0:
		return "none yet of " + cli.Plain(job.MaxAttempts)
	case job.Gone:
		return cli.Plain(job.Attempt)
	}
	return cli.Plain(job.Attempt) + " of " + cli.Plain(job.MaxAttempts)
}

var attemptColumns = []cli.Column[jobs.Outcome]{
	{Name: "attempt", Of: func(o jobs.Outcome) any { return o.Attempt }},
	{Name: "state", Of: func(o jobs.Outcome) any { return string(o.State) }},
	{Name: "class", Of: func(o jobs.Outcome) any { return string(o.Class) }},
	{Name: "started_at", Of: func(o jobs.Outcome) any { return o.StartedAt }},
	{Name: "took", Of: func(o jobs.Outcome) any { return o.EndedAt.Sub(o.StartedAt).Round(time.Millisecond).String() }},
	{Name: "rows", Of: func(o jobs.Outcome) any { return o.Result.Rows }},
	{Name: "message", Of: func(o jobs.Outcome) any { return strings.TrimSpace(o.Message + " " + o.Result.Output) }, Aside: true},
}

// listAttempts lists attempts, and in a table below it what each has said, which no column has
// room for.
func listAttempts(app *cli.App, list []jobs.Outcome, none string) error {
	if err := cli.List(app, list, none, attemptColumns); err != nil || app.Output != "table" {
		return err
	}
	for _, o := range list {
		label := fmt.Sprintf("attempt %d: ", o.Attempt)
		for _, text := range []string{o.Message, o.Result.Output} {
			for line := range strings.SplitSeq(text, "\n") {
				if strings.TrimSpace(line) == "" {
					continue
				}
				if err := app.Paragraph(label, line); err != nil {
					return err
				}
				label = strings.Repeat(" ", len(label))
			}
		}
	}
	return nil
}

// showAttempts shows what attempts came to, and by which features of the tenant.
func showAttempts(app *cli.App, job jobs.Record) error {
	begun := slices.DeleteFunc(slices.Clone(job.Attempts), func(o jobs.Outcome) bool { return o.Attempt == 0 })
	if err := listAttempts(app, begun, noAttempt(job)); err != nil {
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

// noAttempt says of a job why no attempt at it is in the history.
func noAttempt(job jobs.Record) string {
	switch {
	case job.FinishedAt != nil && job.Attempt == 0:
		return "no attempt was made"
	case job.FinishedAt != nil:
		return "the history has no attempt at it"
	case job.State == jobs.Running:
		return fmt.Sprintf("attempt %d is under way: `headgate job explain %s` says where", job.Attempt, job.UID)
	case job.State == jobs.Cancelling:
		return fmt.Sprintf("it is being cancelled: `headgate job explain %s` says how far that is", job.UID)
	}
	return fmt.Sprintf("no attempt has ended: `headgate job explain %s` says what the job waits for", job.UID)
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
