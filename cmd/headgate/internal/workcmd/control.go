package workcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// onJob is a verb on one job that the client does and that leaves something to
// print.
func onJob[T any](app *cli.App, use, short, long string, do func(context.Context, cli.Central, string) (T, error), show func(T) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " UID", Short: short, Long: long, Args: cli.Args("UID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				result, err := do(ctx, central, args[0])
				if err != nil {
					return err
				}
				return show(result)
			})
		}),
	}
}

var cancelColumns = []cli.Column[jobs.CancelResult]{
	{Name: "uid", Of: func(c jobs.CancelResult) any { return c.UID }},
	{Name: "state", Of: func(c jobs.CancelResult) any { return string(c.State) }},
}

func jobCancel(app *cli.App) *cobra.Command {
	opts := jobs.CancelOpts{}
	cmd := onJob(app, "cancel", "End a job for good", `End a job for good. A job that was never begun is cancelled at once. A job that runs is
told to stop and its transaction rolled back. Of a job that waits between two attempts
the tenant's ledger is asked first. Until the answer is known the state is cancelling.`,
		func(ctx context.Context, central cli.Central, name string) (jobs.CancelResult, error) {
			opts.Actor = app.Actor()
			return central.Client.Cancel(ctx, name, &opts)
		},
		func(result jobs.CancelResult) error { return cli.One(app, result, cancelColumns) })
	cmd.Flags().StringVar(&opts.Reason, "reason", "", "why; it stands in the job's history")
	return cmd
}

var retryColumns = []cli.Column[jobs.RetryResult]{
	{Name: "uid", Of: func(r jobs.RetryResult) any { return r.UID }},
	{Name: "was", Of: func(r jobs.RetryResult) any { return string(r.Was) }},
	{Name: "max_attempts", Of: func(r jobs.RetryResult) any { return r.MaxAttempts }},
}

func jobRetry(app *cli.App) *cobra.Command {
	return onJob(app, "retry", "Try a failed job again, under the same UID", `Try a job again that failed, was cancelled or is in quarantine, or that waits for its
time. It keeps its UID: if an attempt has had its effect after all, it succeeds
without doing it again.`,
		func(ctx context.Context, central cli.Central, name string) (jobs.RetryResult, error) {
			return central.Client.Retry(ctx, name)
		},
		func(result jobs.RetryResult) error { return cli.One(app, result, retryColumns) })
}

var rerunColumns = []cli.Column[jobs.EnqueueResult]{
	{Name: "uid", Of: func(r jobs.EnqueueResult) any { return r.UID }},
	{Name: "rerun_of", Of: func(r jobs.EnqueueResult) any { return r.RerunOf }},
}

func jobRerun(app *cli.App) *cobra.Command {
	return onJob(app, "rerun", "Do a job once more, as a new job", `Ask for the same work once more, whatever became of the first: a new job with a new
UID, whose effect happens in addition to the old one's.`,
		func(ctx context.Context, central cli.Central, name string) (jobs.EnqueueResult, error) {
			result, err := central.Client.Rerun(ctx, name, nil)
			if err == nil {
				app.Say("a new job: what the first one did, it does again")
			}
			return result, err
		},
		func(result jobs.EnqueueResult) error { return cli.One(app, result, rerunColumns) })
}
