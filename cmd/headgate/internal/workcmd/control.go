package workcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator"
)

// onJob is a verb on one job that the client does and that leaves something to
// print.
func onJob[T any](app *cli.App, use, short, long string, do func(context.Context, cli.Central, string) (T, error), show func(T) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " UID|NUMBER", Short: short, Long: long, Args: cli.Args("UID|NUMBER"),
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

var cancelColumns = []cli.Column[orchestrator.CancelResult]{
	{Name: "uid", Of: func(c orchestrator.CancelResult) any { return c.UID }},
	{Name: "id", Of: func(c orchestrator.CancelResult) any { return c.ID }},
	{Name: "state", Of: func(c orchestrator.CancelResult) any { return string(c.State) }},
}

func jobCancel(app *cli.App) *cobra.Command {
	opts := orchestrator.CancelOpts{}
	cmd := onJob(app, "cancel", "End a job for good", `End a job for good. A job that was never begun is cancelled at once. A job that runs is
told to stop and its transaction rolled back. Of a job that waits between two attempts
the tenant's ledger is asked first. Until the answer is known the state is cancelling.`,
		func(ctx context.Context, central cli.Central, name string) (orchestrator.CancelResult, error) {
			opts.Actor = app.Env("USER")
			return central.Client.Cancel(ctx, name, &opts)
		},
		func(result orchestrator.CancelResult) error { return cli.One(app, result, cancelColumns) })
	cmd.Flags().StringVar(&opts.Reason, "reason", "", "why; it stands in the job's history")
	return cmd
}

var retryColumns = []cli.Column[orchestrator.RetryResult]{
	{Name: "uid", Of: func(r orchestrator.RetryResult) any { return r.UID }},
	{Name: "id", Of: func(r orchestrator.RetryResult) any { return r.ID }},
	{Name: "was", Of: func(r orchestrator.RetryResult) any { return string(r.Was) }},
	{Name: "max_attempts", Of: func(r orchestrator.RetryResult) any { return r.MaxAttempts }},
}

func jobRetry(app *cli.App) *cobra.Command {
	return onJob(app, "retry", "Try a failed job again, under the same UID", `Try a job again that failed, was cancelled or is in quarantine, or that waits for its
time. It keeps its UID: if an attempt has had its effect after all, it succeeds
without doing it again.`,
		func(ctx context.Context, central cli.Central, name string) (orchestrator.RetryResult, error) {
			return central.Client.Retry(ctx, name)
		},
		func(result orchestrator.RetryResult) error { return cli.One(app, result, retryColumns) })
}

var rerunColumns = []cli.Column[orchestrator.EnqueueResult]{
	{Name: "uid", Of: func(r orchestrator.EnqueueResult) any { return r.UID }},
	{Name: "id", Of: func(r orchestrator.EnqueueResult) any { return r.ID }},
	{Name: "rerun_of", Of: func(r orchestrator.EnqueueResult) any { return r.RerunOf }},
}

func jobRerun(app *cli.App) *cobra.Command {
	return onJob(app, "rerun", "Do a job once more, as a new job", `Ask for the same work once more, whatever became of the first: a new job with a new
UID, whose effect happens in addition to the old one's.`,
		func(ctx context.Context, central cli.Central, name string) (orchestrator.EnqueueResult, error) {
			result, err := central.Client.Rerun(ctx, name, nil)
			if err == nil {
				app.Say("a new job: what the first one did, it does again")
			}
			return result, err
		},
		func(result orchestrator.EnqueueResult) error { return cli.One(app, result, rerunColumns) })
}
