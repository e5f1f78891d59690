package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Worker runs jobs. Make one with [New], register kinds, then Run it, or Start
// and Stop it. All methods are safe for concurrent use; registering is not.
type Worker struct {
	cfg   Config
	pools *tenantdb.Pools
	kinds map[string]*kind
	wrong []error // what registering found, reported by Start

	mu       sync.Mutex // guards what Start and Stop change
	client   *river.Client[pgx.Tx]
	stopped  bool
	stopping atomic.Bool // tells a job that was cancelled by Stop from one that was cancelled itself
}

// New checks the configuration and returns a worker that does nothing yet.
func New(cfg Config) (*Worker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, kinds: map[string]*kind{}}, nil
}

func (w *Worker) add(k *kind) {
	if err := k.check(); err != nil {
		w.wrong = append(w.wrong, err)
	}
	if w.kinds[k.name] != nil {
		w.wrong = append(w.wrong, fmt.Errorf("kind %s is registered twice", k.name))
	}
	w.kinds[k.name] = k
}

// Run works until ctx ends, then stops gracefully. It returns nil after a clean
// stop, and at once with an error if it cannot start.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return w.Stop(context.WithoutCancel(ctx))
}

// Start begins to claim and run jobs and returns. ctx is for starting only: the
// worker goes on until Stop. It refuses a central schema that does not fit this
// program (*migrations.VersionError).
func (w *Worker) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil || w.stopped {
		return errors.New("the worker was started before: make a new one")
	}
	client, err := w.newClient()
	if err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	if err := migrations.Check(ctx, w.cfg.Pool); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	w.pools = tenantdb.New(w.cfg.Tenants)
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		w.pools.Close()
		return fmt.Errorf("starting the worker: %w", err)
	}
	w.client = client
	w.cfg.Logger.Info("worker started", "worker", client.ID(), "kinds", len(w.kinds))
	return nil
}

// Stop claims nothing more, lets running jobs end for Config.StopTimeout, then
// cancels the rest, and returns when all is written and every tenant connection
// closed. ctx bounds the whole. It may be called twice, or without a Start.
func (w *Worker) Stop(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.client == nil {
		return nil
	}
	w.stopping.Store(true)
	err := w.client.Stop(ctx)
	if err == nil { // otherwise jobs may still be using the connections
		w.pools.Close()
	}
	return err
}

// newClient makes the River client: stock but for the pilot.
func (w *Worker) newClient() (*river.Client[pgx.Tx], error) {
	if len(w.wrong) > 0 {
		return nil, errors.Join(w.wrong...)
	}
	if len(w.kinds) == 0 {
		return nil, errors.New("no kind is registered: call InTx, ReadOnly or OnConn first")
	}
	rescueAfter, err := w.rescueAfter()
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	for _, k := range w.kinds {
		river.AddWorkerArgs(workers, rawArgs{kind: k.name}, &riverWorker{w: w, kind: k})
	}
	queues := map[string]river.QueueConfig{}
	for name, slots := range w.cfg.Queues {
		queues[name] = river.QueueConfig{MaxWorkers: slots}
	}
	client, err := river.NewClient(claim.NewDriver(w.cfg.Pool), &river.Config{
		ID:                   w.cfg.ID,
		Queues:               queues,
		Workers:              workers,
		Logger:               quiet(w.cfg.Logger),
		FetchCooldown:        w.cfg.FetchCooldown,
		FetchPollInterval:    w.cfg.PollInterval,
		FetchOnlyKnownKinds:  true,
		JobTimeout:           rescueAfter, // a backstop only: execute.go has the kind's own
		RescueStuckJobsAfter: rescueAfter,
		SoftStopTimeout:      w.cfg.StopTimeout,
	})
	if err != nil {
		return nil, err
	}
	return client, claim.AssertPilot(client)
}

// rescueAfter is Config.RescueAfter or its default, checked against the kinds.
func (w *Worker) rescueAfter() (time.Duration, error) {
	longest := w.cfg.JobTimeout
	for _, k := range w.kinds {
		longest = max(longest, k.timeout(w.cfg.JobTimeout))
	}
	after := cmp.Or(w.cfg.RescueAfter, longest+time.Hour)
	if after <= longest {
		return 0, fmt.Errorf("worker.Config.RescueAfter is %s, but a job may run for %s: give more than that", after, longest)
	}
	return after, nil
}

// rawArgs leaves the arguments as they are: they are read in kind.run, where a
// misfit has a class and an outcome.
type rawArgs struct{ kind string }

// Kind is called by River.
func (a rawArgs) Kind() string { return a.kind }

// UnmarshalJSON is called by River.
func (a *rawArgs) UnmarshalJSON([]byte) error { return nil }

// MarshalJSON is never needed; without it the type would marshal to nothing.
func (a rawArgs) MarshalJSON() ([]byte, error) { return json.Marshal(a.kind) }

// riverWorker joins one kind to River.
type riverWorker struct {
	river.WorkerDefaults[rawArgs]
	w    *Worker
	kind *kind
}

// Work is called by River, once for each attempt.
func (r *riverWorker) Work(ctx context.Context, job *river.Job[rawArgs]) error {
	return r.w.handle(ctx, r.kind, job.JobRow)
}

// NextRetry is called by River after a failed attempt and for a rescued job.
func (r *riverWorker) NextRetry(job *river.Job[rawArgs]) time.Time {
	return time.Now().Add(r.w.cfg.RetryDelay(job.Attempt))
}

var _ rivertype.JobArgs = rawArgs{}
