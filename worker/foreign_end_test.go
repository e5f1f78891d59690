package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Lingering is a job that has its effect and then goes on until the test lets it end.
type Lingering struct{}

func (Lingering) Kind() string { return "lingering" }

func (Lingering) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{MaxAttempts: 3, Timeout: 3 * time.Minute}
}

// lingering starts a worker and such a job, and returns when the job has its effect, which is not
// committed. end lets it end; a job that is stopped ends by itself.
func lingering(t *testing.T, env *jobstest.Env) (uid string, end func()) {
	t.Helper()
	began, may := make(chan struct{}, 3), make(chan struct{})
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Lingering]) error {
			if _, err := tx.Exec(ctx, `INSERT INTO transfers (org_id, job_uid, source, target, amount) VALUES ($1, $2, 0, 0, 0)`, job.Tenant.OrgID, job.UID); err != nil {
				return err
			}
			began <- struct{}{}
			select {
			case <-may:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	job, err := env.Client.Enqueue(t.Context(), "acme", Lingering{}, nil)
	require.NoError(t, err)
	receive(t, began)
	return job.UID, func() { close(may) }
}

// rescued hears what River's rescuer says that it has done.
type rescued struct {
	slog.Handler
	discarded, retried chan int64
}

func (r rescued) Enabled(context.Context, slog.Level) bool { return true }

func (r rescued) WithAttrs([]slog.Attr) slog.Handler { return r }

func (r rescued) WithGroup(string) slog.Handler { return r }

func (r rescued) Handle(_ context.Context, line slog.Record) error {
	line.Attrs(func(a slog.Attr) bool {
		for name, into := range map[string]chan int64{"num_jobs_discarded": r.discarded, "num_jobs_retry_scheduled": r.retried} {
			if a.Key == name && a.Value.Int64() > 0 {
				select {
				case into <- a.Value.Int64():
				default:
				}
			}
		}
		return true
	})
	return nil
}

// theirs is a stock worker of a kind of jobs.
type theirs[K river.JobArgs] struct {
	river.WorkerDefaults[K]
}

func (theirs[K]) Work(context.Context, *river.Job[K]) error { return nil }

// leads starts a stock client of another program, to which jobs that run for a millisecond are
// lost, and waits until the client leads. rescue has it look for such jobs, and says how many it
// has discarded and how many it has made wait.
func leads(t *testing.T, env *jobstest.Env, knows bool) (rescue func() (discarded, retried int)) {
	t.Helper()
	heard := rescued{slog.DiscardHandler, make(chan int64, 1), make(chan int64, 1)}
	workers := river.NewWorkers()
	river.AddWorker(workers, theirs[Ending]{})
	if knows {
		river.AddWorker(workers, theirs[Lingering]{})
	}
	client, err := river.NewClient(riverpgxv5.New(env.Pool), &river.Config{
		ID: "stock", Logger: slog.New(heard), JobTimeout: time.Millisecond, RescueStuckJobsAfter: time.Millisecond,
		Queues: map[string]river.QueueConfig{"theirs": {MaxWorkers: 1}}, Workers: workers,
	})
	require.NoError(t, err)
	_, err = env.Pool.Exec(t.Context(), `
CREATE FUNCTION not_elected() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER not_elected BEFORE INSERT ON river_leader FOR EACH ROW WHEN (NEW.leader_id <> 'stock') EXECUTE FUNCTION not_elected()`)
	require.NoError(t, err, "else a Headgate worker may be elected")
	require.NoError(t, client.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(func() { require.NoError(t, client.StopAndCancel(context.Background())) })
	require.Eventually(t, func() (leads bool) {
		err := env.Pool.QueryRow(t.Context(), `SELECT coalesce(max(leader_id), '') = 'stock' FROM river_leader`).Scan(&leads)
		return err == nil && leads
	}, time.Minute, 20*time.Millisecond)
	return func() (discarded, retried int) {
		// Who resigns is elected again, and its rescuer begins anew. If the request gets lost
		// the rescuer looks every 30 seconds.
		require.NoError(t, client.Notify().RequestResign(t.Context()))
		select {
		case n := <-heard.discarded:
			return int(n), 0
		case n := <-heard.retried:
			return 0, int(n)
		case <-time.After(2 * time.Minute):
			t.Fatal("River's rescuer has rescued nothing for two minutes")
		}
		return 0, 0
	}
}

// written is what another client may have changed of a row.
type written struct {
	State   string
	Rescues bool
	Errors  int
	Token   bool
	Attempt int
}

func writtenOf(t *testing.T, env *jobstest.Env, uid string) (row written) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `
SELECT state::text, metadata ? 'river:rescue_count', coalesce(cardinality(errors), 0), headgate.is_claimed(attempted_by), attempt FROM river_job WHERE id = $1`, env.RowOf(uid)).
		Scan(&row.State, &row.Rescues, &row.Errors, &row.Token, &row.Attempt))
	return row
}

// A stock client that leads takes what runs for long as lost. It discards kinds that it does
// not know, and tries others again, although the attempt still runs and has its effect.
func TestAStockLeaderRescuesNothingThatRuns(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name           string
		knows, guarded bool
		after          string
		final          jobs.State
	}{
		{"a kind that it does not know", false, true, "running", jobs.Succeeded},
		{"a kind that it knows", true, true, "running", jobs.Succeeded},
		{"control: the kind is discarded, and has its effect", false, false, "discarded", jobs.Discarded},
		{"control: it is to be tried again, and has its effect", true, false, "retryable", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			env, db, _ := acme(t)
			if !x.guarded {
				unguarded(t, env)
			}
			rescue := leads(t, env, x.knows)
			uid, end := lingering(t, env)
			discarded, retried := rescue()
			require.Equal(t, x.knows, retried == 1, "%d were retried", retried)
			require.Equal(t, !x.knows, discarded == 1, "%d were discarded", discarded)
			after := writtenOf(t, env, uid)
			if x.after == "retryable" && after.State == "available" { // the leader has made it due since
				after.State = "retryable"
			}
			if x.guarded {
				require.Equal(t, written{State: "running", Token: true, Attempt: 1}, after)
			} else {
				require.Equal(t, written{State: x.after, Rescues: true, Errors: 1, Token: true, Attempt: 1}, after)
			}
			end()
			outcome := env.WaitFor(uid, func(jobs.Outcome) bool { return true })
			require.Equal(t, jobs.Succeeded, outcome.State, outcome.Message)
			require.Equal(t, 1, outcome.Attempt)
			if x.final != "" {
				require.Equal(t, x.final, stateOf(t, env, uid))
			}
			require.Equal(t, 1, effects(t, db, uid))
		})
	}
}

// Whoever ends a row that runs, by whatever statement, does not end the job.
func TestAnEndWrittenByHandOfAJobThatRuns(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		set     string
		guarded bool
		after   string
		outcome jobs.State
		final   jobs.State
		effects int
	}{
		"cancelled":                {`state = 'cancelled', finalized_at = now()`, true, "running", jobs.Cancelled, jobs.Cancelled, 0},
		"cancelled, no object":     {`state = 'cancelled', finalized_at = now(), metadata = '[]'`, true, "running", jobs.Cancelled, jobs.Cancelled, 0},
		"cancelled, and unclaimed": {`state = 'cancelled', finalized_at = now(), attempted_by = NULL`, true, "running", jobs.Cancelled, jobs.Cancelled, 0},
		"completed":                {`state = 'completed', finalized_at = now()`, true, "running", jobs.Succeeded, jobs.Succeeded, 1},
		"discarded":                {`state = 'discarded', finalized_at = now(), errors = ARRAY['{}'::jsonb]`, true, "running", jobs.Succeeded, jobs.Succeeded, 1},
		"control":                  {`state = 'cancelled', finalized_at = now()`, false, "cancelled", jobs.Succeeded, jobs.Cancelled, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, db, _ := acme(t)
			if !x.guarded {
				unguarded(t, env)
			}
			uid, end := lingering(t, env)
			_, err := env.Pool.Exec(t.Context(), `UPDATE river_job SET `+x.set+` WHERE id = $1`, env.RowOf(uid))
			require.NoError(t, err)
			if x.outcome == jobs.Succeeded {
				require.Equal(t, written{State: x.after, Token: true, Attempt: 1}, writtenOf(t, env, uid))
				end()
			}
			require.Equal(t, x.outcome, env.Wait(uid).State)
			require.Equal(t, x.final, stateOf(t, env, uid))
			require.Equal(t, x.effects, effects(t, db, uid))
		})
	}
}

// A program of before the triggers does not say that its ends are Headgate's own: they stand
// while both are at work. The control is a worker that says so.
func TestTheEndsOfOlderWorkersStand(t *testing.T) {
	t.Parallel()
	for marks, after := range map[bool]string{false: "completed", true: "running"} {
		t.Run(fmt.Sprint(marks), func(t *testing.T) {
			t.Parallel()
			env, _, _ := acme(t)
			uid, end := lingering(t, env)
			_, err := env.Pool.Exec(t.Context(), `UPDATE headgate.workers SET marks_ends = $1`, marks)
			require.NoError(t, err)
			_, err = env.Pool.Exec(t.Context(), `UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1`, env.RowOf(uid))
			require.NoError(t, err)
			require.Equal(t, after, writtenOf(t, env, uid).State)
			end()
		})
	}
}

// Whoever ends a row that waits and was begun asks for its end: its ledger decides.
func TestAnEndWrittenByHandOfAJobThatWasBegun(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]string{
		"cancelled":                `state = 'cancelled', finalized_at = now()`,
		"cancelled, no object":     `state = 'cancelled', finalized_at = now(), metadata = '[]'`,
		"cancelled, and unclaimed": `state = 'cancelled', finalized_at = now(), attempted_by = NULL`,
		"discarded":                `state = 'discarded', finalized_at = now(), metadata = metadata || '{"unique_key_conflict": "scheduler_discarded"}'`,
		"completed":                `state = 'completed', finalized_at = now()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, db, tenant := acme(t)
			ctx := t.Context()
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			givenBack(t, env, job.UID)
			open := zombie(t, db, tenant.OrgID, job.UID)
			_, err = env.Pool.Exec(ctx, `UPDATE river_job SET `+set+` WHERE id = $1`, env.RowOf(job.UID))
			require.NoError(t, err)
			require.Equal(t, jobs.Cancelling, stateOf(t, env, job.UID))
			refusesToForget(t, env, `DELETE FROM river_job WHERE id = $1`, env.RowOf(job.UID))
			env.Work(lockSoon(env), ends)
			wakes(t, open, tenant.OrgID, job.UID)
			require.Equal(t, jobs.Succeeded, env.WaitFor(job.UID, func(o jobs.Outcome) bool { return o.State != jobs.Snoozed }).State)
			require.Equal(t, 1, effects(t, db, job.UID))
		})
	}
}

func refusesToForget(t *testing.T, env *jobstest.Env, sql string, args ...any) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), sql, args...)
	var said *pgconn.PgError
	require.ErrorAs(t, err, &said, sql)
	require.Equal(t, "55006", said.Code, said.Message)
	require.Contains(t, said.Message, "begun and ha")
}

// That a job was begun is not forgotten, by whatever statement, before it has ended.
func TestWhatWasBegunIsNotForgotten(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := t.Context()
	enqueue := func() (uid string, id int64) {
		job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
		require.NoError(t, err)
		return job.UID, env.RowOf(job.UID)
	}
	enqueue() // which nobody has begun
	uid, id := enqueue()
	givenBack(t, env, uid)
	refusesToForget(t, env, `TRUNCATE river_job`)
	refusesToForget(t, env, `UPDATE river_job SET attempted_by = NULL, attempted_at = NULL WHERE id = $1`, id)
	_, err := env.Pool.Exec(ctx, `UPDATE river_job SET attempted_by = NULL WHERE id = $1`, id)
	require.NoError(t, err, "attempted_at still tells")
	refusesToForget(t, env, `DELETE FROM river_job WHERE id = $1`, id)
	_, err = env.Pool.Exec(ctx, `UPDATE river_job SET attempted_by = '{one:1}' WHERE id = $1`, id)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `DELETE FROM river_job WHERE id = $1`, id)
	require.NoError(t, err, "it was another client's")
	_, err = env.Pool.Exec(ctx, `TRUNCATE river_job`)
	require.NoError(t, err, "nothing that is there was begun")
}

// A program whose login has no right on schema headgate may end jobs, and is undone all the
// same. What such programs have begun themselves is theirs to end and to delete.
func TestTheRowsOfOtherClients(t *testing.T) {
	t.Parallel()
	env, _, _ := acme(t)
	ctx := t.Context()
	ours, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
	require.NoError(t, err)
	givenBack(t, env, ours.UID)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.Background())) }() // which takes the role along
	for _, sql := range []string{`CREATE ROLE other_program`, `GRANT SELECT, INSERT, UPDATE, DELETE ON river_job TO other_program`, `SET LOCAL ROLE other_program`} {
		_, err = tx.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	state := func(id int64) (state string) {
		require.NoError(t, tx.QueryRow(ctx, `SELECT state::text FROM river_job WHERE id = $1`, id).Scan(&state))
		return state
	}
	_, err = tx.Exec(ctx, `UPDATE river_job SET state = 'cancelled', finalized_at = now() WHERE id = $1`, env.RowOf(ours.UID))
	require.NoError(t, err)
	require.Equal(t, "available", state(env.RowOf(ours.UID)))

	for was, after := range map[string]string{"running": "completed", "retryable": "cancelled"} {
		var id int64
		require.NoError(t, tx.QueryRow(ctx, `
UPDATE river_job SET kind = 'theirs', attempted_by = '{host_2026_11_30}', state = $2::text::river_job_state WHERE id = $1 RETURNING id`, env.RowOf(ours.UID), was).Scan(&id))
		_, err = tx.Exec(ctx, `UPDATE river_job SET state = $2::text::river_job_state, finalized_at = now() WHERE id = $1`, id, after)
		require.NoError(t, err)
		require.Equal(t, after, state(id))
		_, err = tx.Exec(ctx, `UPDATE river_job SET state = 'retryable', finalized_at = NULL WHERE id = $1`, id)
		require.NoError(t, err)
	}
	_, err = tx.Exec(ctx, `DELETE FROM river_job WHERE id = $1`, env.RowOf(ours.UID))
	require.NoError(t, err)
}
