package sqlscript_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// bundle is two connections to a database of the test's own, both the
// superuser's, so that what is refused is not refused for want of privileges.
type bundle struct {
	t    *testing.T
	conn *pgx.Conn // the job's
	look *pgx.Conn // sees what is committed
}

// setup makes the table effect, in which a row is a statement that was committed.
func setup(t *testing.T) *bundle {
	t.Helper()
	name := jobstest.EmptyDatabase(t)
	b := &bundle{t: t, conn: connect(t, name), look: connect(t, name)}
	b.exec(b.look, "CREATE TABLE effect (n int)")
	return b
}

func connect(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), jobstest.ServerURL(t, database))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (b *bundle) exec(conn *pgx.Conn, sql string, args ...any) {
	b.t.Helper()
	_, err := conn.Exec(context.Background(), sql, args...)
	require.NoError(b.t, err, sql)
}

// run does a job as a worker would, in one transaction that has a number and an
// organisation. Whatever the job did to the transaction, none is open afterwards.
func (b *bundle) run(args sqlscript.Args) (jobs.Result, error) {
	b.t.Helper()
	ctx := context.Background()
	tx, err := b.conn.Begin(ctx)
	require.NoError(b.t, err)
	defer func() {
		if b.conn.PgConn().TxStatus() != 'I' {
			b.exec(b.conn, "ROLLBACK")
		}
		b.exec(b.conn, "RESET ALL; RESET SESSION AUTHORIZATION")
	}()
	b.exec(b.conn, "SELECT pg_current_xact_id(), set_config('headgate.context', $1, true)", "of organisation 1")
	job := &jobs.Job[sqlscript.Args]{Args: args, Info: jobs.Info{Kind: args.Kind(), Result: &jobs.Result{}}}
	if err := sqlscript.Run(ctx, tx, job); err != nil {
		return *job.Result, err
	}
	return *job.Result, tx.Commit(ctx)
}

// refusal runs a job whose first statement leaves a row, sees to it that the job
// ended for good and that the row is not there, and returns the reason.
func (b *bundle) refusal(list ...sqlscript.Statement) error {
	b.t.Helper()
	list = append([]sqlscript.Statement{{SQL: "INSERT INTO effect VALUES (1)"}}, list...)
	_, err := b.run(sqlscript.Args{Statements: list})
	var cancel *jobs.CancelError
	require.ErrorAs(b.t, err, &cancel, "%.60q can never work", list[1].SQL)
	require.Zero(b.t, b.effects(), "%.60q left rows", list[1].SQL)
	return err
}

// refuses is refusal for a reason that holds want.
func (b *bundle) refuses(want string, list ...sqlscript.Statement) {
	b.t.Helper()
	require.ErrorContains(b.t, b.refusal(list...), want, "%.60q", list[0].SQL)
}

// effects counts what is committed.
func (b *bundle) effects() (n int) {
	b.t.Helper()
	require.NoError(b.t, b.look.QueryRow(context.Background(), "SELECT count(*) FROM effect").Scan(&n))
	return n
}

func one(sql string, params ...sqlscript.Param) sqlscript.Args {
	return sqlscript.Args{SQL: sql, Params: params}
}

// read decodes arguments as a worker does.
func read(t *testing.T, text string) sqlscript.Args {
	t.Helper()
	args := sqlscript.Args{}
	require.NoError(t, json.Unmarshal([]byte(text), &args))
	return args
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(context.Background(), jobstest.ServerURL(t, jobstest.EmptyDatabase(t)))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	jobstest.PrepareQueries(t, ".", pool)
}
