package worker_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/worker"
)

// Patient waits 40 minutes longer after each failure.
type Patient struct{}

func (Patient) Kind() string { return "patient" }

func (Patient) RetryDelay(attempt int) time.Duration {
	return time.Duration(attempt) * 40 * time.Minute
}

// Lost says no delay once its job has failed more often than Start asks about.
type Lost struct{}

func (Lost) Kind() string { return "lost" }

func (Lost) RetryDelay(attempt int) time.Duration {
	switch {
	case attempt == 99:
		panic("no such attempt")
	case attempt > 100:
		return 1000 * time.Hour
	case attempt > 50:
		return -time.Hour
	}
	return time.Minute
}

// A kind's own delay holds for its jobs, within its bounds, and Config.RetryDelay for others.
func TestRetryDelayOfAKind(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg := env.Config()
	cfg.RetryDelay = func(int) time.Duration { return 3 * time.Hour }
	fail := errors.New("not yet")
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[Patient]) error { return fail })
		worker.NoConn(w, func(context.Context, *jobs.Job[Sums]) error { return fail })
		worker.NoConn(w, func(context.Context, *jobs.Job[Lost]) error { return fail })
	})
	for args, want := range map[jobs.Args]time.Duration{Patient{}: 40 * time.Minute, Sums{}: 3 * time.Hour, Lost{}: time.Minute} {
		job, err := env.Client.Enqueue(t.Context(), "acme", args, nil)
		require.NoError(t, err)
		ended := env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
		var at time.Time
		require.NoError(t, env.Pool.QueryRow(t.Context(), `SELECT scheduled_at FROM river_job WHERE id = $1`, env.RowOf(job.UID)).Scan(&at))
		require.WithinDuration(t, ended.EndedAt.Add(want), at, 30*time.Second, args.Kind())
	}
	for attempt, want := range map[int]time.Duration{60: 0, 99: 3 * time.Hour, 200: jobs.MaxRetryDelay} {
		require.Equal(t, want, worker.RetryDelay(w, "lost", attempt))
	}
}

// Falling is a kind whose delay is out of bounds.
type Falling struct{}

func (Falling) Kind() string { return "falling" }

func (Falling) RetryDelay(attempt int) time.Duration { return time.Duration(7-attempt) * time.Second }

// Eternal is another.
type Eternal struct{}

func (Eternal) Kind() string { return "eternal" }

func (Eternal) RetryDelay(int) time.Duration { return 29 * 24 * time.Hour }

func TestRetryDelayOfAKindHasBounds(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	w, err := worker.New(env.Config())
	require.NoError(t, err)
	worker.NoConn(w, func(context.Context, *jobs.Job[Falling]) error { return nil })
	worker.NoConn(w, func(context.Context, *jobs.Job[Eternal]) error { return nil })
	err = w.Start(t.Context())
	require.ErrorContains(t, err, "kind falling: its RetryDelay says -1s for attempt 8: give 0 to 672h0m0s")
	require.ErrorContains(t, err, "kind eternal: its RetryDelay says 696h0m0s for attempt 1")
}

// Exact takes no fields but its own.
type Exact struct {
	Name  string `json:"name"`
	Inner struct {
		Deep int `json:"deep"`
	} `json:"inner,omitzero"`
}

func (Exact) Kind() string { return "exact" }

func (Exact) KindOpts() jobs.KindOpts { return jobs.KindOpts{StrictArgs: true} }

// A strict kind refuses stored arguments with a field that it does not have, by the field's
// name and without its value: whoever enqueues in Go is told at once, and a row of another
// client ends for good at its first attempt.
func TestStrictArgs(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	cfg, heard := env.Config(), &tracker{}
	cfg.OnError = heard.hear
	var passed sync.Map // the jobs whose attempts a middleware was around
	cfg.Middleware = []worker.Middleware{func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		passed.Store(job.UID, true)
		_ = next(ctx) // it turns every error into success
		return nil
	}}
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Exact]) error {
			_, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID)
			return err
		})
		worker.InTx(w, end)
	})
	require.EqualError(t, orchestrator.CheckStored(Exact{}, []byte(`{"name": "x", "nickname": "S3cret"}`)),
		`args of kind exact do not fit its struct: "nickname" is no field of the kind's, and the kind takes no others`)
	require.EqualError(t, orchestrator.CheckStored(Exact{}, []byte(`{"name": "x", "name": "S3cret"}`)), `args of kind exact do not fit its struct: "name" is given twice: one object has each name once`)
	require.EqualError(t, orchestrator.CheckStored(Exact{}, []byte(`{"name": null}`)), `args of kind exact do not fit its struct: "name" is null: give a string, or leave the field out`)
	require.NoError(t, orchestrator.CheckStored(Exact{}, []byte(`{"name": "x"}`)))
	require.NoError(t, orchestrator.CheckStored(Ending{}, []byte(`{"how": "", "else": 1}`)), "a kind that is not strict")

	byHand := func(kind, args string) (uid string) {
		var id int64
		require.NoError(t, env.Pool.QueryRow(t.Context(), `INSERT INTO river_job (kind, args, max_attempts, metadata) VALUES ($1, $2, 5, jsonb_build_object('tenant', $3::text)) RETURNING id`,
			kind, args, acme.ID).Scan(&id))
		return env.UIDOf(id)
	}
	for args, says := range map[string]string{
		`{"name": "x"}`: "",
		`{"name": "x", "nickname": "its-own-value"}`:  `"nickname" is no field`,
		`{"name": "x", "inner": {"deap": 77}}`:        `"deap" is no field`,
		`{"Name": "its-own-value"}`:                   `"Name" is no field`,
		`{"name": "x", "inner": {"deep": 1}}`:         "",
		`{"name": "x", "a \"quoted\" name\n": false}`: `"a \"quoted\" name\n" is no field`,
	} {
		uid := byHand("exact", args)
		got := env.Wait(uid)
		var rows int
		require.NoError(t, db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM transfers WHERE job_uid = $1`, uid).Scan(&rows))
		_, around := passed.Load(uid)
		require.Equal(t, says == "", around, "no middleware runs where no handler does")
		if says == "" {
			require.Equal(t, jobs.Succeeded, got.State, got.Message)
			require.Equal(t, 1, rows)
			continue
		}
		require.Equal(t, jobs.Cancelled, got.State, args)
		require.Equal(t, jobs.ClassBadArgs, got.Class)
		require.Equal(t, 1, got.Attempt)
		require.Contains(t, got.Message, says)
		require.NotContains(t, got.Message, "its-own-value")
		require.Zero(t, rows)
		require.Eventually(t, func() bool { return len(heard.of(uid)) == 1 }, time.Minute, 5*time.Millisecond)
	}
	require.Equal(t, jobs.Succeeded, env.Wait(byHand("ending", `{"how": "", "else": 1}`)).State, "the control: a kind that is not strict")
	require.NoError(t, w.Stop(t.Context()))
}
