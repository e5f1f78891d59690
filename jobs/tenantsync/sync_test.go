package tenantsync_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenantsync"
	"github.com/headgate/headgate/worker"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

var (
	_ jobs.WithKindOpts = tenantsync.Args{}
	_ jobs.WithCheck    = tenantsync.Args{}
)

const schema = `
CREATE TABLE accounts (id bigint PRIMARY KEY, handle text);
INSERT INTO accounts SELECT n, 'account-' || n FROM generate_series(1, 2500) n;
CREATE VIEW tenants AS SELECT id AS org_id, handle AS slug FROM accounts`

func setup(t *testing.T) (*jobstest.Env, *jobstest.Database) {
	t.Helper()
	env := jobstest.New(t)
	return env, env.Database("saas", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
}

func work(env *jobstest.Env, sync tenantsync.Syncer) {
	env.Work(nil, func(w *worker.Worker) { worker.ReadOnly(w, tenantsync.New(sync)) })
}

func enqueue(t *testing.T, env *jobstest.Env) string {
	t.Helper()
	r, err := env.Client.EnqueueDatabase(t.Context(), "saas", tenantsync.Args{Table: "public.tenants"}, &jobs.EnqueueOpts{MaxAttempts: 1})
	require.NoError(t, err)
	return r.UID
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	_, saas := setup(t)
	jobstest.PrepareQueries(t, ".", saas.Pool)
}

// The rows are read page by page, and can be read again.
func TestRowsAreReadAgain(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		for range 2 {
			n, last := 0, ""
			if err := rows.Each(ctx, func(row []byte) error { n++; last = string(row); return nil }); err != nil {
				return result, err
			}
			result.Output += fmt.Sprint(rows.Columns, " ", n, " ", last, "\n")
			if _, err := saas.Pool.Exec(ctx, `INSERT INTO accounts VALUES (9999, 'later') ON CONFLICT DO NOTHING`); err != nil {
				return result, err
			}
		}
		return result, rows.Ours(ctx)
	})
	last := env.Wait(enqueue(t, env))
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, `[org_id slug] 2500 {"slug": "account-2500", "org_id": 2500}
[org_id slug] 2501 {"slug": "later", "org_id": 9999}
`, last.Result.Output)
}

// What is done with a row may fail: the error is the job's.
func TestARowIsRefused(t *testing.T) {
	t.Parallel()
	env, _ := setup(t)
	refused := errors.New("not this one")
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		err = rows.Each(ctx, func([]byte) error { return refused })
		if !errors.Is(err, refused) {
			return result, nil
		}
		return result, err
	})
	require.Contains(t, env.Wait(enqueue(t, env)).Message, "not this one")
}

// A process that has lost its session may be taken for dead, and another one may have read
// later rows: Ours says so before anything is written.
func TestALostLockIsNoticedBeforeTheCatalogIsWritten(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	wrote := make(chan struct{}, 1)
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		if err := rows.Each(ctx, func([]byte) error { return nil }); err != nil {
			return result, err
		}
		if _, err := saas.Pool.Exec(ctx, `SELECT pg_terminate_backend(pid, 60000) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
			return result, err
		}
		if err := rows.Ours(ctx); err != nil {
			return result, err
		}
		wrote <- struct{}{}
		return result, nil
	})
	last := env.WaitFor(enqueue(t, env), func(o jobs.Outcome) bool { return o.Class == jobs.ClassInterrupted })
	require.Contains(t, last.Message, "the lock on \"public\".\"tenants\" may be lost")
	require.Empty(t, wrote)
}

// Two workers: the second job finds the lock taken and comes again, without an attempt used.
func TestSyncsOfOneTableFollowEachOther(t *testing.T) {
	t.Parallel()
	env, _ := setup(t)
	inside, release := make(chan string, 4), make(chan struct{})
	sync := func(ctx context.Context, job *jobs.Job[tenantsync.Args], _ tenantsync.Rows) (result jobs.Result, err error) {
		inside <- job.UID
		select {
		case <-release:
			return result, nil
		case <-ctx.Done():
			return result, ctx.Err()
		}
	}
	work(env, sync)
	work(env, sync)
	uids := []string{enqueue(t, env), enqueue(t, env), enqueue(t, env)}
	first := <-inside
	for _, uid := range uids {
		if uid != first {
			env.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
		}
	}
	require.Empty(t, inside)
	close(release)
	for _, uid := range uids {
		last := env.Wait(uid)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
		require.Equal(t, 1, last.Attempt)
	}
}

// Another process has the lock of the table: the job comes again, and reads nothing before.
func TestTheLockOfAnotherProcess(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	inside := make(chan string, 1)
	work(env, func(_ context.Context, job *jobs.Job[tenantsync.Args], _ tenantsync.Rows) (result jobs.Result, err error) {
		inside <- job.UID
		return result, nil
	})
	tx, err := saas.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended('headgate.sync "public"."tenants"', 0))`)
	require.NoError(t, err)
	uid := enqueue(t, env)
	env.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Snoozed })
	require.Empty(t, inside)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
}

// hurried is the kind with three seconds for an attempt.
type hurried struct{ tenantsync.Args }

func (h hurried) KindOpts() jobs.KindOpts {
	opts := h.Args.KindOpts()
	opts.Timeout = 3 * time.Second
	return opts
}

// A source that hangs ends by the job's timeout. The next sync of the same table finds the
// lock free.
func TestASourceThatHangs(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	_, err := saas.Pool.Exec(t.Context(), `
		CREATE TABLE patience (s int); INSERT INTO patience VALUES (3600);
		CREATE VIEW hangs AS SELECT handle AS slug, pg_sleep(s)::text AS name FROM accounts, patience;
		ALTER TABLE patience OWNER TO `+saas.Owner.User+`; ALTER VIEW hangs OWNER TO `+saas.Owner.User)
	require.NoError(t, err)
	handler := tenantsync.New(func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		return result, rows.Each(ctx, func([]byte) error { result.Rows++; return nil })
	})
	env.Work(nil, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[hurried]) error {
			return handler(ctx, tx, &jobs.Job[tenantsync.Args]{Info: job.Info, Args: job.Args.Args})
		})
	})
	for _, want := range [][]jobs.Class{{jobs.ClassTimeout, jobs.ClassStatementTimeout}, {""}} {
		r, err := env.Client.EnqueueDatabase(t.Context(), "saas", tenantsync.Args{Table: "public.hangs"}, &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		last := env.Wait(r.UID)
		require.Contains(t, want, last.Class, last.Message)
		_, err = saas.Pool.Exec(t.Context(), `UPDATE patience SET s = 0`)
		require.NoError(t, err)
	}
}

// Names that the kind accepts cannot end a quoted word of a shell: the commands that messages
// print have them.
func FuzzCheckedArgumentsAreWords(f *testing.F) {
	f.Add("public.t", "crm", "shared-1")
	f.Add("public.t'; rm x", "a'b", "\n")
	f.Fuzz(func(t *testing.T, table, source, database string) {
		args := tenantsync.Args{Table: table, Source: source, NewTenantsIn: database}
		if args.Check() != nil {
			return
		}
		for _, text := range []string{table, source, database} {
			require.Regexp(t, `\A[A-Za-z0-9_$.-]*\z`, text)
		}
	})
}
