package worker_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
)

// Calling is a job whose handler returns the error of a call of its own.
type Calling struct {
	What string `json:"what"`
}

func (Calling) Kind() string            { return "calling" }
func (Calling) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 2} }

// CallingOut is Calling without a connection.
type CallingOut struct {
	What string `json:"what"`
}

func (CallingOut) Kind() string            { return "calling_out" }
func (CallingOut) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 2} }

// foreign are errors of what a handler may do beside its transaction. closed is
// an address where nobody listens.
func foreign(closed string) map[string]func(ctx context.Context) error {
	calls := map[string]func(ctx context.Context) error{
		"http": func(ctx context.Context) error {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+closed, nil)
			if err != nil {
				return err
			}
			answer, err := http.DefaultClient.Do(request)
			if err == nil {
				err = answer.Body.Close()
			}
			return err
		},
		"another server": func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, "postgres://u:p@"+closed+"/d")
			if err == nil {
				err = conn.Close(ctx)
			}
			return err
		},
		"dns": func(context.Context) error {
			return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "crm.invalid", IsNotFound: true}}
		},
		"disk": func(context.Context) error {
			return fmt.Errorf("storing the export: %w", &fs.PathError{Op: "write", Path: "/export", Err: syscall.ENOSPC})
		},
		"file": func(context.Context) error { _, err := os.Open("/does/not/exist"); return err },
		"connect error": func(context.Context) error {
			return &tenantdb.ConnectError{Class: jobs.ClassUnreachable, Err: context.DeadlineExceeded}
		},
		"unknown tenant":  func(context.Context) error { return fmt.Errorf("enqueuing: %w", jobs.ErrUnknownTenant) },
		"wrong database":  func(context.Context) error { return tenantdb.ErrWrongDatabase },
		"tenant is moved": func(context.Context) error { return jobs.ErrTenantMoving },
	}
	for _, code := range []string{"57P01", "3D000", "53300", "25006", "53100", "55P03", "40001", "40P01", "42501", "57014", "2D000", "28P01"} {
		calls["warehouse "+code] = func(context.Context) error {
			return fmt.Errorf("the warehouse: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "as it says"})
		}
	}
	return calls
}

// What a handler's own calls return is the job's own, whatever its type or code:
// it uses an attempt, and the last one ends the job. Neither form of kind speaks
// of the tenant's server by it, and no breaker opens.
func TestAHandlersOwnCallsSayNothingOfTheServer(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	countBreakers(t, env)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())
	calls := foreign(closed)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Calling]) error { return calls[job.Args.What](ctx) })
		worker.NoConn(w, func(ctx context.Context, job *jobs.Job[CallingOut]) error { return calls[job.Args.What](ctx) })
	})
	uids := map[string]string{}
	for what := range calls {
		for _, args := range []jobs.Args{Calling{what}, CallingOut{what}} {
			r, err := env.Client.Enqueue(ctx, "acme", args, nil)
			require.NoError(t, err)
			uids[args.Kind()+" "+what] = r.UID
		}
	}
	for what, uid := range uids {
		first := env.WaitFor(uid, func(jobs.Outcome) bool { return true })
		require.Equal(t, jobs.ClassJobError, first.Class, "%s: %s", what, first.Message)
		last := env.Wait(uid)
		require.Equal(t, jobs.Discarded, last.State, what)
		require.Equal(t, 2, last.Attempt, what)
	}
	require.Zero(t, opened(t, env))
}

// countBreakers notes each breaker that opens from now on; opened returns how many.
func countBreakers(t *testing.T, env *jobstest.Env) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
CREATE TABLE opened (scope text, class text);
CREATE FUNCTION note_breaker() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN INSERT INTO public.opened VALUES (NEW.scope, NEW.class); RETURN NEW; END $$;
CREATE TRIGGER note_breaker AFTER INSERT ON headgate.breakers FOR EACH ROW EXECUTE FUNCTION note_breaker()`)
	require.NoError(t, err)
}

func opened(t *testing.T, env *jobstest.Env) (n int) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM opened`).Scan(&n))
	return n
}

// Raising is a job whose own SQL raises an error with a code.
type Raising struct {
	Code string `json:"code"`
	Late bool   `json:"late"` // when the transaction commits
}

func (Raising) Kind() string            { return "raising" }
func (Raising) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1} }

func raise(ctx context.Context, tx pgx.Tx, job *jobs.Job[Raising]) error {
	if job.Args.Late {
		_, err := tx.Exec(ctx, `INSERT INTO late_errors VALUES ($1)`, job.Args.Code)
		return err
	}
	_, err := tx.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN RAISE 'the disk of my table is full' USING ERRCODE = '%s'; END $$`, job.Args.Code))
	return err
}

const lateErrors = schema + `;
CREATE TABLE late_errors (code text, org_id bigint DEFAULT headgate.current_org());
ALTER TABLE late_errors ENABLE ROW LEVEL SECURITY;
CREATE POLICY org ON late_errors TO headgate_job USING (org_id = (SELECT headgate.current_org()));
GRANT INSERT ON late_errors TO headgate_job;
CREATE FUNCTION raise_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'late' USING ERRCODE = NEW.code; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late_errors DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION raise_late()`

// One tenant's SQL that raises what a server in trouble says opens no breaker,
// neither at once nor at COMMIT, in a shared database or in one of its own: a
// probe of the worker's own finds the server well.
func TestRaisedErrorsOpenNoBreaker(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("shared", jobstest.DatabaseOpts{Kind: "shared", Schema: lateErrors})
	env.Tenant("free1", "shared")
	neighbour := env.Tenant("free2", "shared")
	open(t, db, neighbour.OrgID, 2)
	env.Database("own", jobstest.DatabaseOpts{Kind: "dedicated", Schema: lateErrors})
	env.Tenant("acme", "own")
	countBreakers(t, env)
	cfg := env.Config()
	cfg.Logger = quietLogger()
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, raise)
		worker.InTx(w, transfer)
	})
	var uids []string
	for i := range 40 {
		for _, code := range []string{"53100", "25006", "53300", "57P03"} {
			for _, tenant := range []string{"free1", "acme"} {
				r, err := env.Client.Enqueue(ctx, tenant, Raising{Code: code, Late: i%2 == 0}, nil)
				require.NoError(t, err)
				uids = append(uids, r.UID)
			}
		}
	}
	require.Equal(t, jobs.Succeeded, env.Run("free2", Transfer{From: 1, To: 2, Amount: 1}).State)
	for _, uid := range uids {
		end := env.Wait(uid)
		require.Equal(t, jobs.Discarded, end.State, end.Message)
		require.Equal(t, jobs.ClassJobError, end.Class, end.Message)
	}
	require.Zero(t, opened(t, env))
}

// Hasty is a job with less time than an attempt waits for another one of it.
type Hasty struct{}

func (Hasty) Kind() string            { return "hasty" }
func (Hasty) KindOpts() jobs.KindOpts { return jobs.KindOpts{MaxAttempts: 1, Timeout: time.Second} }

// An attempt that waits for another open one of its job uses none, also where
// the job's time is shorter than the wait for a lock.
func TestWaitingForAnOpenAttemptUsesNoneOfAHastyJob(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	r, err := env.Client.Enqueue(ctx, "acme", Hasty{}, nil)
	require.NoError(t, err)
	other, err := db.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = other.Rollback(ctx) }()
	_, err = other.Exec(ctx, `INSERT INTO headgate.ledger (org_id, job_uid) VALUES ($1, $2)`, acme.OrgID, r.UID)
	require.NoError(t, err)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Hasty]) error { return nil })
	})
	// On a slow machine connecting may take the job's second, which uses no attempt either.
	held := env.WaitFor(r.UID, func(o jobs.Outcome) bool { return o.Class != jobs.ClassConnectTimeout })
	require.Equal(t, jobs.ClassConflict, held.Class, held.Message)
	require.Equal(t, jobs.Snoozed, held.State)
	require.NoError(t, other.Rollback(ctx))
	done := env.Wait(r.UID)
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.Equal(t, 1, done.Attempt)
}

// A table that the job login may not read is a fault of the set-up: the job
// waits, says which GRANT is missing, and goes on when it is there. A row that
// row-level security refuses is the job's own fault, with the same code.
func TestAMissingGrantWaits(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	db := env.Database("acme", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema + `; CREATE TABLE events (id serial)`})
	env.Tenant("acme", "acme")
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Calling]) error {
			_, err := tx.Exec(ctx, job.Args.What)
			return err
		})
	})
	r, err := env.Client.Enqueue(ctx, "acme", Calling{`INSERT INTO events DEFAULT VALUES`}, nil)
	require.NoError(t, err)
	held := env.WaitFor(r.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.Snoozed, held.State, held.Message)
	require.Equal(t, jobs.Class("not_permitted"), held.Class)
	require.Equal(t, "42501", held.SQLState)
	require.Contains(t, held.Message, "TO headgate_job")
	_, err = db.Pool.Exec(ctx, `GRANT INSERT ON events TO headgate_job; GRANT USAGE ON SEQUENCE events_id_seq TO headgate_job`)
	require.NoError(t, err)
	done := env.Wait(r.UID)
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.Equal(t, 1, done.Attempt)

	own := env.Run("acme", Calling{`INSERT INTO accounts VALUES (-7, 1, 1)`})
	require.Equal(t, jobs.Discarded, own.State)
	require.Equal(t, jobs.ClassJobError, own.Class, own.Message)
	require.Equal(t, "42501", own.SQLState)
}

// A transaction that Postgres could not serialise is tried again soon, and uses
// no attempt.
func TestAConflictUsesNoAttempt(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	var calls atomic.Int32
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Raising]) error {
			if calls.Add(1) > 4 {
				return nil
			}
			return raise(ctx, tx, job)
		})
	})
	for _, code := range []string{"40001", "40P01"} {
		calls.Store(0)
		done := env.Run("acme", Raising{Code: code})
		require.Equal(t, jobs.Succeeded, done.State, done.Message)
		require.Equal(t, 1, done.Attempt)
		attempts, err := env.Attempts(context.Background(), done.JobUID)
		require.NoError(t, err)
		require.Len(t, attempts, 5)
		require.Equal(t, jobs.ClassConflict, attempts[0].Class)
	}
}

// The log and the outcome of a stuck handler name its tenant and database.
func TestAStuckHandlersTenantIsTold(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("db1", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "db1")
	cfg := env.Config()
	said := &logWatch{word: `"tenant":"acme","database":"db1","kind":"deaf"`, seen: make(chan struct{})}
	cfg.Logger, cfg.StuckAfter = lockedLogger(said), 100*time.Millisecond
	free := make(chan struct{})
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Deaf]) error { <-free; return nil })
	})
	end := env.Run("acme", Deaf{})
	close(free)
	require.Equal(t, jobs.ClassTimeout, end.Class, end.Message)
	require.Equal(t, db.ID, end.DatabaseID)
	receive(t, said.seen)
	require.NoError(t, w.Stop(context.Background()))
}
