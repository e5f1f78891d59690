package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Mark leaves a row in the database where it runs.
type Mark struct {
	Waits bool `json:"waits"` // for the test, after its row is written
}

func (Mark) Kind() string { return "mark" }

const marks = `CREATE TABLE marks (uid text); GRANT SELECT, INSERT ON marks TO headgate_job`

// asked resolves without a memory.
type asked struct{ env *jobstest.Env }

func (a asked) fresh() *catalog.Catalog { return catalog.New(a.env.Pool, a.env.CatalogKeys()) }

func (a asked) ResolveTenant(ctx context.Context, id string, login jobs.Login) (jobs.Tenant, address.Place, error) {
	return a.fresh().ResolveTenant(ctx, id, login)
}

func (a asked) ResolveDatabase(ctx context.Context, name string, login jobs.Login) (address.Place, error) {
	return a.fresh().ResolveDatabase(ctx, name, login)
}

// mover has a tenant, acme, that lives in database a, and another database, b.
type mover struct {
	t       *testing.T
	env     *jobstest.Env
	a, b    *jobstest.Database
	started chan struct{}
	release chan struct{}
}

func newMover(t *testing.T) *mover {
	t.Helper()
	env := jobstest.New(t)
	m := &mover{t: t, env: env, started: make(chan struct{}, 1), release: make(chan struct{})}
	m.a = env.Database("a", jobstest.DatabaseOpts{Kind: catalog.KindDedicated, Schema: marks})
	m.b = env.Database("b", jobstest.DatabaseOpts{Kind: catalog.KindDedicated, Schema: marks})
	env.Tenant("acme", "a")
	cfg := env.Config()
	cfg.Resolver = asked{env}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Mark]) error {
			if _, err := tx.Exec(ctx, `INSERT INTO marks VALUES ($1)`, job.UID); err != nil || !job.Args.Waits {
				return err
			}
			m.started <- struct{}{}
			select {
			case <-m.release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	return m
}

func (m *mover) sql(text string, args ...any) error {
	_, err := m.env.Pool.Exec(context.Background(), text, args...)
	return err
}

func (m *mover) enqueue(args Mark) string {
	m.t.Helper()
	result, err := m.env.Client.Enqueue(context.Background(), "acme", args, nil)
	require.NoError(m.t, err)
	return result.UID
}

// begins sets the tenant moving, as if that were long ago.
func (m *mover) begins() {
	m.t.Helper()
	require.NoError(m.t, m.sql(`UPDATE headgate.tenants SET status = 'moving'`))
	m.ages()
}

// ages has the tenant's status be a minute old. No trigger lets a writer do so.
func (m *mover) ages() {
	m.t.Helper()
	require.NoError(m.t, m.sql(`DO $$ BEGIN
		SET LOCAL session_replication_role = replica;
		UPDATE headgate.tenants SET status_since = now() - interval '1 minute';
	END $$`))
}

func (m *mover) to(db *jobstest.Database) error {
	return m.sql(`UPDATE headgate.tenants SET database_id = $1`, db.ID)
}

func (m *mover) active() {
	m.t.Helper()
	require.NoError(m.t, m.sql(`UPDATE headgate.tenants SET status = 'active'`))
}

func (m *mover) marks(db *jobstest.Database) (n int) {
	m.t.Helper()
	require.NoError(m.t, db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM marks`).Scan(&n))
	return n
}

func refusedMove(t *testing.T, err error, says string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "HG020", pgErr.Code, pgErr.Message)
	require.Contains(t, pgErr.Message, says)
	require.NotEmpty(t, pgErr.Hint)
}

// C15: a tenant was moved by UPDATE while a job of it ran, and the job committed in the old
// database after the tenant was active in the new one.
func TestATenantDoesNotLeaveWhileItsJobRuns(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	refusedMove(t, m.to(m.b), "has status active, and its database changes only while it is moving")
	long := m.enqueue(Mark{Waits: true})
	receive(t, m.started)
	require.NoError(t, m.sql(`UPDATE headgate.tenants SET status = 'moving'`))
	refusedMove(t, m.to(m.b), "a worker may remember for ten seconds where it lived")
	m.ages()
	refusedMove(t, m.to(m.b), "1 of its jobs run")
	waits := m.enqueue(Mark{})
	close(m.release)
	require.Equal(t, jobs.Succeeded, m.env.Wait(long).State)
	require.NoError(t, m.to(m.b))
	m.active()
	require.Equal(t, jobs.Succeeded, m.env.Wait(waits).State)
	require.Equal(t, 1, m.marks(m.a))
	require.Equal(t, 1, m.marks(m.b), "what waited runs where the tenant lives now")
	var generation int
	require.NoError(t, m.env.Pool.QueryRow(t.Context(), `SELECT generation FROM headgate.tenants`).Scan(&generation))
	require.Equal(t, 2, generation)
}

// Without the triggers the row of the job that runs is lost to the tenant.
func TestATenantDoesNotLeaveWhileItsJobRunsControl(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	require.NoError(t, m.sql(`DROP TRIGGER begin_move ON headgate.tenants`))
	require.NoError(t, m.sql(`DROP TRIGGER check_move ON headgate.tenants`))
	long := m.enqueue(Mark{Waits: true})
	receive(t, m.started)
	m.begins()
	require.NoError(t, m.to(m.b))
	m.active()
	require.Equal(t, jobs.Succeeded, m.env.Wait(m.enqueue(Mark{})).State)
	require.Equal(t, 1, m.marks(m.b), "the tenant lives in the new database")
	require.Equal(t, 0, m.marks(m.a))
	close(m.release)
	require.Equal(t, jobs.Succeeded, m.env.Wait(long).State)
	require.Equal(t, 1, m.marks(m.a), "lost")
}

// A job that was given back may have had its effect in the old database, whose ledger alone
// knows; the new one would let it have that again.
func TestATenantDoesNotLeaveAnOpenAttempt(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	m.begins()
	uid := m.enqueue(Mark{})
	require.NoError(t, m.sql(`UPDATE river_job SET metadata = metadata || jsonb_build_object('open_since', floor(extract(epoch FROM now()))) WHERE id = $1`, m.env.RowOf(uid)))
	refusedMove(t, m.to(m.b), "0 of its jobs run, and of 1 more an attempt may have had its effect")
	m.active()
	require.Equal(t, jobs.Succeeded, m.env.Wait(uid).State)
	m.begins()
	require.NoError(t, m.to(m.b))
}

// An older snapshot would not show what was claimed since.
func TestAMoveNeedsAFreshSnapshot(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	m.begins()
	tx, err := m.env.Pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `UPDATE headgate.tenants SET database_id = $1`, m.b.ID)
	refusedMove(t, err, "read committed only")
}

// A tenant goes to and fro while its jobs are claimed without a pause: no job has its effect
// in a database that the tenant has left.
func TestMovesBesideClaimsLoseNothing(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var uids []string
	left := map[string]int{}
	here, there := m.a, m.b
	for range 8 {
		for range 40 {
			uids = append(uids, m.enqueue(Mark{}))
		}
		m.begins()
		for err := m.to(there); err != nil; err = m.to(there) {
			var pgErr *pgconn.PgError
			require.True(t, errors.As(err, &pgErr) && pgErr.Code == "HG020", "%v", err)
			require.NoError(t, ctx.Err())
		}
		left[here.Name] = m.marks(here)
		if n, was := left[there.Name]; was {
			require.Equal(t, n, m.marks(there), "something was written to %s while the tenant lived elsewhere", there.Name)
		}
		here, there = there, here
		m.active()
	}
	for _, uid := range uids {
		require.Equal(t, jobs.Succeeded, m.env.Wait(uid).State)
	}
	require.Equal(t, left[there.Name], m.marks(there))
	require.Equal(t, len(uids), m.marks(m.a)+m.marks(m.b), fmt.Sprint(left))
}

// The jobs of a detached database wait without an attempt, and those of its neighbours go on.
func TestJobsOfADetachedDatabaseWait(t *testing.T) {
	t.Parallel()
	m := newMover(t)
	m.env.Tenant("brick", "b")
	require.Equal(t, jobs.Succeeded, m.env.Wait(m.enqueue(Mark{})).State, "its lane is there")
	_, err := m.env.Catalog.Hosting().Detach(t.Context(), "a", catalog.Decision{Reason: "restore"})
	require.NoError(t, err)
	waits := m.enqueue(Mark{})
	require.Equal(t, jobs.Succeeded, m.env.Run("brick", Mark{}).State)
	var state string
	var attempt int
	require.NoError(t, m.env.Pool.QueryRow(t.Context(), `SELECT state, attempt FROM river_job WHERE id = $1`, m.env.RowOf(waits)).Scan(&state, &attempt))
	require.Equal(t, "available", state)
	require.Zero(t, attempt)
	_, err = m.env.Catalog.Hosting().Reattach(t.Context(), catalog.Reattachment{Database: "a", Job: m.a.Job, Owner: m.a.Owner})
	require.NoError(t, err)
	last := m.env.Wait(waits)
	require.Equal(t, jobs.Succeeded, last.State)
	require.Equal(t, 1, last.Attempt)
}
