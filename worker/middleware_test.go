package worker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// ledger of what middleware and handlers did, by job.
type steps struct {
	mu   sync.Mutex
	of   map[string][]string
	told map[string]jobs.Info
}

func newSteps() *steps { return &steps{of: map[string][]string{}, told: map[string]jobs.Info{}} }

func (s *steps) note(job jobs.Info, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of[job.UID] = append(s.of[job.UID], what)
	s.told[job.UID] = job
}

func (s *steps) list(uid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.of[uid])
}

func (s *steps) middleware(name string) worker.Middleware {
	return func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		s.note(job, name+" in")
		err := next(context.WithValue(ctx, stepKey{}, name))
		s.note(job, name+" out")
		return err
	}
}

type stepKey struct{}

// Sums is a kind without a connection.
type Sums struct{}

func (Sums) Kind() string { return "sums" }

// Reads is a kind that only reads.
type Reads struct{}

func (Reads) Kind() string { return "reads" }

// Middleware is around the handlers of all forms, the first outermost, with the job and its
// tenant, and what it puts into the context reaches the handler.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	seen := newSteps()
	cfg := env.Config()
	cfg.Middleware = []worker.Middleware{seen.middleware("outer"), seen.middleware("inner")}
	handled := func(ctx context.Context, job jobs.Info) error {
		seen.note(job, fmt.Sprint("handler in ", ctx.Value(stepKey{})))
		return nil
	}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Transfer]) error { return handled(ctx, job.Info) })
		worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Reads]) error { return handled(ctx, job.Info) })
		worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, job *jobs.Job[again]) error { return handled(ctx, job.Info) })
		worker.NoConn(w, func(ctx context.Context, job *jobs.Job[Sums]) error { return handled(ctx, job.Info) })
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[CountTables]) error { return handled(ctx, job.Info) })
	})
	for _, args := range []jobs.Args{Transfer{}, Reads{}, again{}, Sums{}, CountTables{}} {
		var job jobs.EnqueueResult
		var err error
		whole := jobs.KindOptsOf(args).Scope == jobs.ScopeDatabase
		if whole {
			job, err = env.Client.EnqueueDatabase(t.Context(), "acme", args, nil)
		} else {
			job, err = env.Client.Enqueue(t.Context(), "acme", args, nil)
		}
		require.NoError(t, err)
		require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State, args.Kind())
		require.Equal(t, []string{"outer in", "inner in", "handler in inner", "inner out", "outer out"}, seen.list(job.UID), args.Kind())
		info := seen.told[job.UID]
		require.Equal(t, args.Kind(), info.Kind)
		require.Equal(t, "acme", info.Database)
		require.Equal(t, 1, info.Attempt)
		if !whole {
			require.Equal(t, acme.ID, info.Tenant.ID)
			require.Equal(t, "acme", info.Tenant.Slug)
		}
	}
}

// Whatever a middleware does, a job has its effect once or not at all.
func TestMiddlewareBreaksNoGuarantee(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	late, begun, mayEnd := make(chan struct{}), make(chan struct{}), make(chan struct{})
	cfg.Middleware = []worker.Middleware{func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		how := ""
		if len(job.Tags) > 0 {
			how = job.Tags[0]
		}
		switch how {
		case "error-before":
			return errors.New("not today")
		case "error-after":
			if err := next(ctx); err != nil {
				return err
			}
			return errors.New("the counter is full")
		case "panic-after":
			_ = next(ctx)
			panic("a counter below zero")
		case "twice", "twice-and-content":
			err := errors.Join(next(ctx), next(ctx))
			if how == "twice" {
				return err
			}
			return nil
		case "swallow":
			_ = next(ctx)
			return nil
		case "skip":
			return nil
		case "cancel":
			return jobs.Cancel(fmt.Errorf("refused: %w", next(ctx)))
		case "leave":
			go func() { // ends with the handler
				defer close(late)
				_ = next(ctx)
			}()
			<-begun
			close(mayEnd)
			return nil
		}
		return next(ctx)
	}}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			if job.Args.How == "slow" {
				close(begun)
				<-mayEnd
				if _, err := tx.Exec(ctx, `SELECT pg_sleep(0.05)`); err != nil {
					return err
				}
			}
			return end(ctx, tx, job)
		})
	})
	for _, c := range []struct {
		middleware, handler string
		state               jobs.State
		class               jobs.Class
		says                string
		rows                int
	}{
		{"", "", jobs.Succeeded, "", "", 1},
		{"error-before", "", jobs.Discarded, jobs.ClassJobError, "not today", 0},
		{"error-after", "", jobs.Discarded, jobs.ClassJobError, "the counter is full", 0},
		{"panic-after", "", jobs.Discarded, jobs.ClassPanic, "a counter below zero", 0},
		{"twice", "", jobs.Discarded, jobs.ClassJobError, "called next twice", 0},
		{"twice-and-content", "", jobs.Discarded, jobs.ClassJobError, "called next twice", 0},
		{"swallow", "error", jobs.Succeeded, "", "", 1},
		{"swallow", "bad sql, hidden", jobs.Discarded, jobs.ClassJobError, "its error was not returned", 0},
		{"skip", "", jobs.Succeeded, "", "", 0},
		{"cancel", "error", jobs.Cancelled, "", "refused: no such invoice", 0},
		{"leave", "slow", jobs.Succeeded, "", "", 1},
	} {
		job, err := env.Client.Enqueue(t.Context(), "acme", Ending{How: c.handler}, &jobs.EnqueueOpts{Tags: tagged(c.middleware), MaxAttempts: 1})
		require.NoError(t, err)
		got := env.Wait(job.UID)
		require.Equal(t, c.state, got.State, "%+v: %s", c, got.Message)
		require.Equal(t, c.class, got.Class, "%+v", c)
		require.Contains(t, got.Message, c.says, "%+v", c)
		var rows int
		require.NoError(t, db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM transfers WHERE job_uid = $1`, job.UID).Scan(&rows))
		require.Equal(t, c.rows, rows, "%+v", c)
	}
	<-late
}

func tagged(tag string) []string {
	if tag == "" {
		return nil
	}
	return []string{tag}
}

// A middleware that does not let an unsafe job's handler begin leaves no doubt about the job.
func TestMiddlewareBeforeAnUnsafeJob(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	cfg.Middleware = []worker.Middleware{func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		if job.Attempt == 1 {
			return errors.New("not at the first attempt")
		}
		return next(ctx)
	}}
	d := &diary{}
	env.Work(&cfg, func(w *worker.Worker) { registerOutside(w, d) })
	job, err := env.Client.Enqueue(t.Context(), "acme", onlyOnce{}, nil)
	require.NoError(t, err)
	got := env.Wait(job.UID)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 2, got.Attempt)
	require.Equal(t, 1, d.count(job.UID))
}

// Arguments that do not fit an unsafe kind leave no doubt about the job either: no handler has
// seen them.
func TestArgumentsOfAnUnsafeJobThatDoNotFit(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	d := &diary{}
	job, err := env.Client.Enqueue(t.Context(), "acme", onlyOnce{}, nil)
	require.NoError(t, err)
	_, err = env.Pool.Exec(t.Context(), `UPDATE river_job SET args = '[]' WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) { registerOutside(w, d) })
	got := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassBadArgs })
	require.NotContains(t, got.Message, "unsafe")
	require.Zero(t, d.count(job.UID))
	_, err = env.Pool.Exec(t.Context(), `UPDATE river_job SET args = '{}' WHERE id = $1`, env.RowOf(job.UID))
	require.NoError(t, err)
	if _, err := env.Client.Retry(t.Context(), job.UID); err != nil {
		require.ErrorIs(t, err, jobs.ErrRetryRefused) // it goes on by itself
	}
	require.Equal(t, jobs.Succeeded, env.Wait(job.UID).State)
	require.Equal(t, 1, d.count(job.UID))
}
