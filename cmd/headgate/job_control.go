package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

// onJob is a verb on one job that the client does and that leaves something to
// print.
func onJob[T any](p *program, use, short, long string, do func(context.Context, *orchestrator.Client, string) (T, error), show func(T) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " UID|NUMBER", Short: short, Long: long, Args: names("UID|NUMBER"),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				result, err := do(ctx, r.client, args[0])
				if err != nil {
					return err
				}
				return show(result)
			})
		}),
	}
}

var cancelColumns = []column[orchestrator.CancelResult]{
	{"uid", func(c orchestrator.CancelResult) any { return c.UID }},
	{"id", func(c orchestrator.CancelResult) any { return c.ID }},
	{"state", func(c orchestrator.CancelResult) any { return c.State }},
}

func (p *program) jobCancel() *cobra.Command {
	opts := orchestrator.CancelOpts{}
	cmd := onJob(p, "cancel", "End a job for good", `End a job for good. A job that was never begun is cancelled at once. A job that runs is
told to stop and its transaction rolled back. Of a job that waits between two attempts
the tenant's ledger is asked first. Until the answer is known the state is cancelling.`,
		func(ctx context.Context, client *orchestrator.Client, name string) (orchestrator.CancelResult, error) {
			opts.Actor = p.env("USER")
			return client.Cancel(ctx, name, &opts)
		},
		func(result orchestrator.CancelResult) error { return one(p, result, cancelColumns) })
	cmd.Flags().StringVar(&opts.Reason, "reason", "", "why; it stands in the job's history")
	return cmd
}

var retryColumns = []column[orchestrator.RetryResult]{
	{"uid", func(r orchestrator.RetryResult) any { return r.UID }},
	{"id", func(r orchestrator.RetryResult) any { return r.ID }},
	{"was", func(r orchestrator.RetryResult) any { return r.Was }},
	{"max_attempts", func(r orchestrator.RetryResult) any { return r.MaxAttempts }},
}

func (p *program) jobRetry() *cobra.Command {
	return onJob(p, "retry", "Try a failed job again, under the same UID", `Try a job again that failed, was cancelled or is in quarantine, or that waits for its
time. It keeps its UID: if an attempt has had its effect after all, it succeeds
without doing it again.`,
		func(ctx context.Context, client *orchestrator.Client, name string) (orchestrator.RetryResult, error) {
			return client.Retry(ctx, name)
		},
		func(result orchestrator.RetryResult) error { return one(p, result, retryColumns) })
}

var rerunColumns = []column[orchestrator.EnqueueResult]{
	{"uid", func(r orchestrator.EnqueueResult) any { return r.UID }},
	{"id", func(r orchestrator.EnqueueResult) any { return r.ID }},
	{"rerun_of", func(r orchestrator.EnqueueResult) any { return r.RerunOf }},
}

func (p *program) jobRerun() *cobra.Command {
	return onJob(p, "rerun", "Do a job once more, as a new job", `Ask for the same work once more, whatever became of the first: a new job with a new
UID, whose effect happens in addition to the old one's.`,
		func(ctx context.Context, client *orchestrator.Client, name string) (orchestrator.EnqueueResult, error) {
			result, err := client.Rerun(ctx, name, nil)
			if err == nil {
				p.say("a new job: what the first one did, it does again")
			}
			return result, err
		},
		func(result orchestrator.EnqueueResult) error { return one(p, result, rerunColumns) })
}

var factColumns = []column[orchestrator.Fact]{
	{"code", func(f orchestrator.Fact) any { return string(f.Code) }},
	{"fact", func(f orchestrator.Fact) any { return f.Fact }},
	{"since", func(f orchestrator.Fact) any { return f.Since }},
	{"until", func(f orchestrator.Fact) any { return f.Until }},
	{"next", func(f orchestrator.Fact) any { return f.Next }},
}

const explainLong = `Say why a job is not running, or what became of it: what stops it, in the order in
which that must pass, since when and until when where that is known, and what can
be done. The answer comes from the rows by which workers claim. What runs is what
the workers held at their last claims.

In JSON each fact has a code that does not change; the sentences may.`

// factTable is what people read of facts: the sentences say until when.
var factTable = []column[orchestrator.Fact]{factColumns[1], factColumns[2], factColumns[4]}

func (p *program) jobExplain() *cobra.Command {
	return onJob(p, "explain", "Say why a job is not running, or what became of it", explainLong,
		func(ctx context.Context, client *orchestrator.Client, name string) (orchestrator.Explanation, error) {
			return client.Explain(ctx, name)
		},
		func(explained orchestrator.Explanation) error {
			if p.output != "table" {
				return list(p, explained.Facts, "", factColumns)
			}
			if err := p.print("%s  %s  %s\n", explained.Job.UID, explained.Job.Kind, explained.Job.State); err != nil {
				return err
			}
			return list(p, explained.Facts, "nothing holds it", factTable)
		})
}

var workerColumns = []column[orchestrator.Worker]{
	{"worker", func(w orchestrator.Worker) any { return w.Name }},
	{"state", func(w orchestrator.Worker) any { return string(w.State) }},
	{"host", func(w orchestrator.Worker) any { return w.Host }},
	{"pid", func(w orchestrator.Worker) any { return w.PID }},
	{"running", func(w orchestrator.Worker) any { return w.Running }},
	{"queues", func(w orchestrator.Worker) any { return w.Queues }},
	{"started_at", func(w orchestrator.Worker) any { return w.StartedAt }},
	{"beat_at", func(w orchestrator.Worker) any { return w.BeatAt }},
}

func (p *program) workerList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "The workers: alive, draining, stopped, lost", Args: names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				found, err := r.client.Workers(ctx)
				if err != nil {
					return err
				}
				return list(p, found, "no worker has run in the last seven days: start one with headgate serve", workerColumns)
			})
		}),
	}
}
