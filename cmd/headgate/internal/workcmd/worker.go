package workcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
)

var workerColumns = []cli.Column[explain.WorkerStatus]{
	{Name: "worker", Of: func(w explain.WorkerStatus) any { return w.Name }},
	{Name: "state", Of: func(w explain.WorkerStatus) any { return workerState(w) }},
	{Name: "host", Of: func(w explain.WorkerStatus) any { return w.Host }},
	{Name: "pid", Of: func(w explain.WorkerStatus) any { return w.PID }},
	{Name: "running", Of: func(w explain.WorkerStatus) any { return w.Running }},
	{Name: "beat_at", Of: func(w explain.WorkerStatus) any { return w.BeatAt }},
	{Name: "started_at", Of: func(w explain.WorkerStatus) any { return w.StartedAt }},
	{Name: "queues", Of: func(w explain.WorkerStatus) any { return w.Queues }},
	{Name: "kinds", Of: func(w explain.WorkerStatus) any { return w.Kinds }},
}

// workerState is the state in a table; JSON has the word alone.
func workerState(w explain.WorkerStatus) string {
	if w.State == explain.WorkerSilent {
		return "silent since " + cli.Stamp(w.BeatAt)
	}
	return string(w.State)
}

// WorkerList is the verb worker list.
func WorkerList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The workers: alive, draining, silent, stopped, lost", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, err := cli.All(func(page jobs.Page) ([]explain.WorkerStatus, string, error) {
					return central.Explain.Workers(ctx, page)
				})
				if err != nil {
					return err
				}
				return cli.List(app, found, "no worker has run in the last seven days: start one with headgate serve", workerColumns)
			})
		}),
	}
}
