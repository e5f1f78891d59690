package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/centre"
	"github.com/headgate/headgate/worker/claim"
	"github.com/headgate/headgate/worker/kinds"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Worker runs jobs. Make one with [New], register kinds, then Run it, or Start
// and Stop it. All methods are safe for concurrent use; registering is not.
type Worker struct {
	cfg    Config
	meter  *telemetry.Worker
	tracer telemetry.Tracer
	id     string // the name in outcomes
	pools  *tenantdb.Pools

	centre *centre.Centre // set by Start: which tenant databases are this central database's
	kinds  map[string]*kind
	wrong  []error // what registering found, reported by Start

	refusals refusals
	fellBack telemetry.Repeats                                      // lines of jobs that read from the primary in a replica's place
	lease    *claim.Lease                                           // set by Start
	session  string                                                 // set by Start: the application_name of these connections
	schema   string                                                 // set by Start: that River is told; "": the first of the search_path
	central  *pgxpool.Pool                                          // set by Start: the worker's own connections to the central database
	driver   func(central *pgxpool.Pool) riverdriver.Driver[pgx.Tx] // takes claims and ends under that lease

	lifeMu sync.Mutex      // guards life, end, exhausted, and what Health reads: lease and keeper
	life   context.Context // ends when this incarnation is found to have been declared dead
	end    context.CancelCauseFunc

	goroutines chan func()   // that wait for another attempt
	closing    chan struct{} // set by Start, closed by Stop: the goroutines are not needed any more

	stuck     atomic.Int64  // handlers that ignore the end of their context
	exhausted chan struct{} // guarded by lifeMu; closed when there are too many of them

	errorCalls *errorHook // set by Start
	lines      endedLines

	cycle     *lifecycle.Cycle
	client    *river.Client[pgx.Tx] // set by Start
	keeper    *claim.Keeper         // set by Start
	unobserve func() error          // set by Start
	stopping  atomic.Bool           // tells a job that was cancelled by Stop from one that was cancelled itself
}

// New checks the configuration and returns a worker that does nothing yet.
func New(cfg Config) (*Worker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	meter, err := telemetry.NewWorker(cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("making the instruments of the worker's metrics: %w", err)
	}
	if cfg.TopTenants {
		if err := meter.TopTenants(); err != nil {
			return nil, fmt.Errorf("making the instruments of tenants' metrics: %w", err)
		}
	}
	w := &Worker{cfg: cfg, meter: meter, tracer: telemetry.NewTracer(cfg.Tracer), kinds: map[string]*kind{}, exhausted: make(chan struct{}), goroutines: make(chan func())}
	w.lines = newEndedLines(cfg.Logger, cfg.EndedLines)
	w.cycle = lifecycle.New(lifecycle.Parts{Name: "the worker", Begin: w.begin, Loop: w.loop, Quit: w.quit, End: w.shutDown})
	w.driver = func(central *pgxpool.Pool) riverdriver.Driver[pgx.Tx] {
		return claim.NewDriver(central, cfg.Listen, w.lease)
	}
	w.life, w.end = context.WithCancelCause(context.Background())
	return w, nil
}

func (w *Worker) add(k *kind) {
	if err := k.check(); err != nil {
		w.wrong = append(w.wrong, jobs.AsInputError("kind", err))
	}
	if k.name == "" {
		return
	}
	if w.kinds[k.name] != nil {
		w.wrong = append(w.wrong, jobs.Inputf("kind", k.name, "it is registered twice: register each kind once"))
	}
	w.kinds[k.name] = k
}

// Run works until ctx ends, then stops gracefully. It returns nil after a clean
// stop, at once with an error if it cannot start, and ErrStuck after it has
// drained because too many handlers are stuck.
func (w *Worker) Run(ctx context.Context) error { return w.cycle.Run(ctx) }

// loop only waits, because River's client and the keeper have loops of their own.
func (w *Worker) loop(ctx context.Context) error { return w.Wait(ctx) }

// quit begins to stop: no further claim begins.
func (w *Worker) quit() {
	if w.stopping.Swap(true) {
		return
	}
	w.lease.Close()
	close(w.closing)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.client.Stop(ended) // it says that it did not wait
}

// Wait returns nil when ctx ends, or an ErrStuck when more handlers are stuck
// than Config.MaxStuck allows; a program that calls Start and Stop itself should
// then Stop, and end.
func (w *Worker) Wait(ctx context.Context) error {
	w.lifeMu.Lock()
	exhausted := w.exhausted
	w.lifeMu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case <-exhausted:
		return fmt.Errorf("%w: %d of them; the worker drains, start its process again", ErrStuck, w.stuck.Load())
	}
}

// Start begins to claim and run jobs and returns. ctx is for starting only: the
// worker goes on until Stop. It refuses a central schema that does not fit this
// program (*migrations.VersionError), and it is an error while the worker runs. After
// Stop, or a Start that failed, it begins again, but not while handlers of before are
// stuck (ErrStuck).
func (w *Worker) Start(ctx context.Context) error { return w.cycle.Start(ctx) }

func (w *Worker) begin(ctx context.Context) error {
	if n := w.stuck.Load(); n > 0 { // they use what a Start replaces
		return fmt.Errorf("starting the worker: %w: %d of them since before it stopped; start its process again", ErrStuck, n)
	}
	if err := w.complete(); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	if err := w.openCentral(ctx); err != nil {
		return fmt.Errorf("starting the worker: %w", err)
	}
	w.renew()
	if err := w.start(ctx); err != nil {
		close(w.closing)
		w.central.Close()
		return fmt.Errorf("starting the worker: %w", err)
	}
	return nil
}

// renew forgets what was of the time before the last Stop.
func (w *Worker) renew() {
	w.lifeMu.Lock()
	defer w.lifeMu.Unlock()
	w.lease, w.closing = claim.NewLease(), make(chan struct{})
	w.keeper = nil
	w.stopping.Store(false)
	select {
	case <-w.exhausted:
		w.exhausted = make(chan struct{})
	default: // somebody may wait for it
	}
}

// start is Start with the central database open.
func (w *Worker) start(ctx context.Context) error {
	client, err := w.newClient()
	if err != nil {
		return err
	}
	w.id = client.ID()
	if w.centre, err = centre.Start(ctx, w.central, w.cfg.Logger); err != nil {
		return err
	}
	tenants := w.cfg.Tenants
	tenants.Heard, tenants.Centre = w.heard, w.centre
	w.pools = tenantdb.New(tenants) // before the keeper, which looks at it
	w.lease.Connect(w.pools)
	w.errorCalls = startErrorHook(w.cfg.OnError, w.cfg.OnErrorTimeout, w.cfg.Logger)
	keeper := w.newKeeper(w.id)
	unobserve, err := w.observe(keeper)
	if err != nil {
		unobserve = func() error { return nil }
	}
	if err == nil {
		err = w.publishKinds(ctx)
	}
	if err == nil {
		err = keeper.Start(ctx)
	}
	if err == nil {
		if err = client.Start(context.WithoutCancel(ctx)); err != nil {
			err = errors.Join(err, keeper.Stop(ctx))
		}
	}
	if err != nil {
		err = errors.Join(err, unobserve())
		w.errorCalls.stop(ctx)
		w.pools.Close()
		w.centre.Stop()
		return err
	}
	w.client, w.unobserve = client, unobserve
	w.lifeMu.Lock()
	w.keeper = keeper
	w.lifeMu.Unlock()
	w.cfg.Logger.Info("worker started", "worker", client.ID(), "kinds", len(w.kinds))
	return nil
}

// Stop claims nothing more, lets running jobs end for Config.StopTimeout, then
// cancels the rest, and returns when all is written and every tenant connection
// closed, but for those of stuck handlers. It gives up, with an error, when ctx
// ends, and 30 seconds after it has cancelled; then it may be called again. It may be
// called twice, or without a Start.
func (w *Worker) Stop(ctx context.Context) error { return w.cycle.Stop(ctx) }

func (w *Worker) shutDown(ctx context.Context) (over bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.StopTimeout+w.cfg.StuckAfter+30*time.Second)
	defer cancel()
	if err := w.keeper.Drain(ctx); err != nil {
		w.cfg.Logger.WarnContext(ctx, "could not say that this worker is draining", "error", err)
	}
	if err := w.client.Stop(ctx); err != nil {
		return false, err // jobs may still be using the connections, and their rows are still this worker's
	}
	w.errorCalls.stop(ctx)
	w.lines.flush()
	if w.stuck.Load() > 0 {
		go w.pools.Close() // it waits for the stuck handlers' connections: ends with them, or with the process
	} else {
		w.pools.Close()
	}
	err = w.keeper.Stop(ctx)
	err = errors.Join(err, w.endObserving(ctx))
	w.centre.Stop()
	w.central.Close()
	return true, err
}

// apart are the kinds that need no connection to a tenant's server.
func (w *Worker) apart() []string {
	kinds := []string{}
	for name, k := range w.kinds {
		if k.form == noConn {
			kinds = append(kinds, name)
		}
	}
	return kinds
}

// stay is how long a session that runs a job of each kind may outlast this process, if
// the process stops: the server ends it then, unless a statement of the job's takes longer.
func (w *Worker) stay() map[string]time.Duration {
	stay := map[string]time.Duration{}
	for name, k := range w.kinds {
		switch k.form {
		case noConn:
		case onConn:
			stay[name] = min(k.timeout(w.cfg.JobTimeout)+lendLonger, math.MaxInt32*time.Millisecond)
		default:
			stay[name] = k.idleTimeout()
		}
	}
	return stay
}

func (w *Worker) newKeeper(id string) *claim.Keeper {
	return claim.NewKeeper(claim.KeeperConfig{
		Pool: w.central, Lease: w.lease, Worker: id, Logger: w.cfg.Logger, Fenced: w.fenced,
		Kinds: slices.Sorted(maps.Keys(w.kinds)), Queues: slices.Sorted(maps.Keys(w.cfg.Queues)),
		Every: w.cfg.HeartbeatEvery, DeadAfter: w.cfg.DeadAfter, BlameWindow: w.cfg.BlameWindow, RescueForeignAfter: w.cfg.RescueForeignAfter,
		ClockSlack: w.cfg.ClockSlack, Servers: w.serverLoad, Tell: w.publishKinds,
	})
}

// publishKinds says which kinds this process has. That holds while others take the process
// for alive.
func (w *Worker) publishKinds(ctx context.Context) error {
	var forms []kinds.Form
	for _, k := range w.kinds {
		if k.form != settles {
			forms = append(forms, kinds.FormOf(k.like))
		}
	}
	return kinds.Publish(ctx, w.central, forms, w.cfg.DeadAfter+3*w.cfg.HeartbeatEvery)
}

var errFenced = errors.New("this worker was declared dead while it slept; the job went to another")

// fenced cancels all that runs under the old incarnation and begins a new life.
func (w *Worker) fenced() {
	w.lifeMu.Lock()
	defer w.lifeMu.Unlock()
	w.end(errFenced)
	w.life, w.end = context.WithCancelCause(context.Background())
}

// within derives a job's context from the worker's present life as well: it
// ends with whichever ends first.
func (w *Worker) within(ctx context.Context) (context.Context, context.CancelFunc) {
	w.lifeMu.Lock()
	life := w.life
	w.lifeMu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() { stop(); cancel(nil) }
}

// complete adds the kinds that Headgate enqueues for itself, and says what is wrong
// with those that were registered.
func (w *Worker) complete() error {
	if len(w.wrong) > 0 {
		return errors.Join(w.wrong...)
	}
	if len(w.kinds) == 0 {
		return jobs.AsInputError("kind", errors.New("no kind is registered: call InTx, ReadOnly or OnConn first"))
	}
	if w.kinds[wire.Tombstone{}.Kind()] == nil { // a Start that failed has done it
		registerInternal(w)
	}
	return errors.Join(w.wrong...)
}
