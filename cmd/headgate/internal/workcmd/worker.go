package workcmd

import (
	"cmp"
	"context"
	"fmt"
	"strings"

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
	{Name: "running", Of: workerRunning},
	{Name: "claims", Of: func(w explain.WorkerStatus) any { return workerClaims(w) }},
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

// workerRunning is nil where nobody can count the jobs.
func workerRunning(w explain.WorkerStatus) any {
	if w.Running == nil {
		return nil
	}
	return *w.Running
}

// workerClaims says whose claims fail and since when; the error is in JSON, and on stderr.
func workerClaims(w explain.WorkerStatus) string {
	if w.State != explain.WorkerAlive {
		return "-"
	}
	var fail []string
	for _, f := range w.Claims.Failing {
		if f.Lasts() {
			fail = append(fail, fmt.Sprintf("%s fail since %s", f.Queue, cli.Stamp(f.Since)))
		}
	}
	return cmp.Or(strings.Join(fail, ", "), "ok")
}

// sayFailing tells why jobs cannot be counted, and the errors of claims that fail.
func sayFailing(app *cli.App, workers []explain.WorkerStatus) {
	for _, w := range workers {
		if w.RunningUnknown != "" && app.Output == "table" {
			app.Say("how many jobs run is not known: %s", w.RunningUnknown)
			break
		}
	}
	for _, w := range workers {
		for _, f := range w.Claims.Failing {
			if w.State == explain.WorkerAlive && f.Lasts() && app.Output == "table" {
				app.Say("%s: %s of queue %s have failed in a row: %s", w.Name, jobs.Count(f.Times, "claim"), f.Queue, f.Error)
			}
		}
	}
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
				sayFailing(app, found)
				return cli.List(app, found, "no worker has run in the last seven days: start one with headgate serve", workerColumns)
			})
		}),
	}
}
