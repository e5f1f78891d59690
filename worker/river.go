package worker

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/worker/claim"
)

// newClient makes the River client: stock but for the pilot.
func (w *Worker) newClient() (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	for _, k := range w.kinds {
		river.AddWorkerArgs(workers, kindArgs{k.name}, &riverWorker{around: []rivertype.WorkerMiddleware{&attempts{w: w, kind: k}}})
	}
	queues := map[string]river.QueueConfig{}
	for name, slots := range w.cfg.Queues {
		queues[name] = river.QueueConfig{MaxWorkers: slots}
	}
	w.lease.Slots(w.cfg.Queues)
	w.lease.Apart(w.apart())
	w.lease.Measure(w.measureClaim)
	w.lease.Sessions(w.session, w.stay())
	client, err := river.NewClient(w.driver(w.central), &river.Config{
		ID:                  w.cfg.ID,
		Schema:              w.schema,
		Queues:              queues,
		Workers:             workers,
		Logger:              quiet(w.cfg.Logger),
		FetchCooldown:       w.cfg.FetchCooldown,
		FetchPollInterval:   w.cfg.PollInterval,
		PollOnly:            w.cfg.PollOnly && w.cfg.Listen == nil,
		FetchOnlyKnownKinds: true,
		JobTimeout:          -1, // execute.go has the kind's own
		RetryPolicy:         retries{w},
		SoftStopTimeout:     w.cfg.StopTimeout,

		CompletedJobRetentionPeriod: w.cfg.KeepSucceeded,
		CancelledJobRetentionPeriod: w.cfg.KeepCancelled,
		DiscardedJobRetentionPeriod: w.cfg.KeepDiscarded,
	})
	if err != nil {
		return nil, err
	}
	return client, claim.AssertPilot(client)
}

// kindArgs tells River a kind's name, and nothing of its arguments: they are read in
// kind.bind, where a misfit has a class and an outcome.
type kindArgs struct{ kind string }

// Kind is called by River.
func (a kindArgs) Kind() string { return a.kind }

// riverWorker joins one kind to River, by a middleware around what River does for a
// job: around the decoding of arguments, which we do ourselves, and River's own
// resumable steps, some 4 us a job.
type riverWorker struct {
	river.WorkerDefaults[kindArgs]
	around []rivertype.WorkerMiddleware
}

// Middleware is called by River for each attempt.
func (r *riverWorker) Middleware(*rivertype.JobRow) []rivertype.WorkerMiddleware { return r.around }

// Work is not called while River calls the middleware.
func (r *riverWorker) Work(context.Context, *river.Job[kindArgs]) error {
	return errors.New("this River does not leave jobs to their kind's middleware: use the version that Headgate was built with")
}

// attempts makes the attempts of one kind.
type attempts struct {
	river.MiddlewareDefaults
	w    *Worker
	kind *kind
}

// Work is called by River, once for each attempt.
func (m *attempts) Work(ctx context.Context, row *rivertype.JobRow, _ func(context.Context) error) error {
	return m.w.handle(ctx, m.kind, row)
}
