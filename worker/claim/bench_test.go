package claim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// rig is one River client on a database of its own: stock, or through our
// driver.
type rig struct {
	name   string
	driver riverdriver.Driver[pgx.Tx]
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]

	mu     sync.Mutex
	acts   map[string]handler           // by queue/name
	events map[int64][]river.EventKind  // by job
	queues map[string][]river.EventKind // by queue
	lease  *claim.Lease                 // nil: stock
}

type handler func(ctx context.Context, job *river.Job[act]) error

// act is the one kind of the conformance tests. What it does is a function of
// the test.
type act struct {
	Do string `json:"do" river:"unique"`
	N  int    `json:"n" river:"unique"`
}

func (act) Kind() string { return "act" }

// other is a kind that no client here knows.
type other struct{}

func (other) Kind() string { return "other" }

const never = time.Hour

func newRig(t *testing.T, ours bool) *rig {
	pool, err := pgxpool.New(context.Background(), jobstest.Central(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	r := &rig{name: "stock", driver: riverpgxv5.New(pool), pool: pool, acts: map[string]handler{}, events: map[int64][]river.EventKind{}, queues: map[string][]river.EventKind{}}
	if ours {
		r.name, r.lease = "headgate", claim.NewLease()
		r.driver = claim.NewDriver(pool, nil, r.lease)
	}
	return r
}

// start makes the client and starts it. change may be nil.
func (r *rig) start(t *testing.T, change func(*river.Config)) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &actor{r: r})
	cfg := &river.Config{
		Logger: slog.New(slog.DiscardHandler), Workers: workers, TestOnly: true,
		Queues:        map[string]river.QueueConfig{"default": {MaxWorkers: 10}},
		FetchCooldown: 5 * time.Millisecond, FetchPollInterval: 100 * time.Millisecond,
		FetchOnlyKnownKinds: true, ErrorHandler: r,
	}
	if r.lease != nil {
		cfg.Middleware = []rivertype.Middleware{&tokens{}}
	}
	if change != nil {
		change(cfg)
	}
	var err error
	r.client, err = river.NewClient(r.driver, cfg)
	require.NoError(t, err)
	events, unsubscribe := r.client.SubscribeConfig(&river.SubscribeConfig{ChanSize: 10_000, Kinds: []river.EventKind{
		river.EventKindJobCancelled, river.EventKindJobCompleted, river.EventKindJobFailed, river.EventKindJobInterrupted,
		river.EventKindJobSnoozed, river.EventKindQueuePaused, river.EventKindQueueResumed,
	}})
	go r.listen(events)
	require.NoError(t, r.client.Start(context.Background()))
	t.Cleanup(func() {
		require.NoError(t, r.client.StopAndCancel(context.Background()))
		unsubscribe()
	})
}

func (r *rig) listen(events <-chan *river.Event) {
	for event := range events {
		r.mu.Lock()
		if event.Job != nil {
			r.events[event.Job.ID] = append(r.events[event.Job.ID], event.Kind)
		} else {
			r.queues[event.Queue.Name] = append(r.queues[event.Queue.Name], event.Kind)
		}
		r.mu.Unlock()
	}
}

func (r *rig) act(queue, name string) handler {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acts[queue+"/"+name]
}

// HandleError is called by River.
func (r *rig) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	return r.handled(ctx, job, fmt.Sprint("error ", err))
}

// HandlePanic is called by River.
func (r *rig) HandlePanic(ctx context.Context, job *rivertype.JobRow, value any, _ string) *river.ErrorHandlerResult {
	return r.handled(ctx, job, fmt.Sprint("panic ", value))
}

// handled gives errors to the behaviour that wants them, if it does: its
// handler "handled" is called with the error as the job's Do.
func (r *rig) handled(ctx context.Context, job *rivertype.JobRow, what string) *river.ErrorHandlerResult {
	handle := r.act(job.Queue, "handled")
	if handle == nil {
		return nil
	}
	err := handle(ctx, &river.Job[act]{JobRow: job, Args: act{Do: what}})
	return &river.ErrorHandlerResult{SetCancelled: err != nil}
}

// actor works all acts.
type actor struct {
	river.WorkerDefaults[act]
	r *rig
}

func (a *actor) Work(ctx context.Context, job *river.Job[act]) error {
	if do := a.r.act(job.Queue, job.Args.Do); do != nil {
		return do(ctx, job)
	}
	return nil
}

// NextRetry is at once, or never if the arguments say so.
func (a *actor) NextRetry(job *river.Job[act]) time.Time {
	if job.Args.Do == "fail for long" {
		return time.Now().Add(never)
	}
	return time.Now().Add(time.Millisecond)
}

func (a *actor) Timeout(job *river.Job[act]) time.Duration {
	if job.Args.Do == "time out" {
		return 10 * time.Millisecond
	}
	return 0
}

// tokens does what Headgate's worker does: it hands the lease token on.
type tokens struct{ river.MiddlewareDefaults }

func (*tokens) Work(ctx context.Context, job *rivertype.JobRow, next func(context.Context) error) error {
	if err := river.MetadataSet(ctx, claim.LeaseKey, claim.Token(job.AttemptedBy)); err != nil {
		return err
	}
	return next(ctx)
}

// bench is one behaviour on one rig, in a goroutine and a queue of its own. What
// it notes must be the same on both rigs.
type bench struct {
	*rig
	t     *testing.T // nil: one of many
	ctx   context.Context
	queue string

	mu    sync.Mutex
	seen  []string
	wrong []string
}

// Errorf and FailNow make it do for require, away from the test's goroutine.
func (b *bench) Errorf(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

// FailNow ends the behaviour, or the test if it is the only one.
func (b *bench) FailNow() {
	if b.t != nil {
		b.t.Fatal(b.wrong)
	}
	runtime.Goexit()
}

func (b *bench) note(what ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, fmt.Sprintln(what...))
}

// on says what jobs of this behaviour's queue do.
func (b *bench) on(name string, do handler) { b.onIn(b.queue, name, do) }

func (b *bench) onIn(queue, name string, do handler) {
	b.rig.mu.Lock()
	defer b.rig.mu.Unlock()
	b.acts[queue+"/"+name] = do
}

func (b *bench) insert(do string, opts *river.InsertOpts) int64 {
	own := river.InsertOpts{}
	if opts != nil {
		own = *opts
	}
	if own.Queue == "" {
		own.Queue = b.queue
	}
	result, err := b.client.Insert(b.ctx, act{Do: do}, &own)
	require.NoError(b, err)
	return result.Job.ID
}

// row is what both systems must agree on.
func (b *bench) row(id int64) string {
	var state, errs, metadata, tags string
	var attempt, most, claims, priority int
	var finalized, waits, attempted bool
	err := b.pool.QueryRow(b.ctx, `
SELECT state, attempt, max_attempts, coalesce(array_length(attempted_by, 1), 0), priority, array_to_string(tags, ','),
       finalized_at IS NOT NULL, scheduled_at > now() + interval '10 minutes', attempted_at IS NOT NULL,
       (SELECT coalesce(json_agg(json_build_object('attempt', e->'attempt', 'error', e->'error', 'trace', e->>'trace' <> '')), '[]') FROM unnest(errors) e)::text,
       (metadata - 'cancel_attempted_at' || CASE WHEN metadata ? 'cancel_attempted_at' THEN '{"cancel_attempted_at": true}'::jsonb ELSE '{}' END)::text
FROM river_job WHERE id = $1`, id).Scan(&state, &attempt, &most, &claims, &priority, &tags, &finalized, &waits, &attempted, &errs, &metadata)
	if errors.Is(err, pgx.ErrNoRows) {
		return "gone"
	}
	require.NoError(b, err)
	return fmt.Sprintf("%s attempt %d/%d claims %d priority %d tags %s finalized %t waits %t attempted %t errors %s metadata %s",
		state, attempt, most, claims, priority, tags, finalized, waits, attempted, errs, metadata)
}

// until waits for a job's state and notes its row.
func (b *bench) until(id int64, state rivertype.JobState) {
	b.wait(fmt.Sprintf("job %d is %s", id, state), func() bool {
		var now string
		err := b.pool.QueryRow(b.ctx, `SELECT state FROM river_job WHERE id = $1`, id).Scan(&now)
		return err == nil && now == string(state)
	})
	b.note(b.row(id))
}

// told waits until a job's events have come.
func (b *bench) told(id int64, kinds ...river.EventKind) {
	b.wait(fmt.Sprintf("events of job %d: %s", id, kinds), func() bool {
		b.rig.mu.Lock()
		defer b.rig.mu.Unlock()
		return slices.Equal(kinds, b.events[id])
	})
	b.note("events", kinds)
}

func (b *bench) wait(what string, is func() bool) {
	ctx, cancel := context.WithTimeout(b.ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			require.Fail(b, "waited in vain", what)
		case <-tick.C:
		}
	}
}

// exec changes a row behind River's back.
func (b *bench) exec(sql string, args ...any) {
	_, err := b.pool.Exec(b.ctx, sql, args...)
	require.NoError(b, err)
}

// inTx runs do in a transaction that it commits, or rolls back with the error.
func (b *bench) inTx(do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(b.ctx, b.pool, do)
}
