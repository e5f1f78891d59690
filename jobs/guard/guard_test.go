package guard_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func setup(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), jobstest.ServerURL(t, jobstest.EmptyDatabase(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	run(t, conn, "CREATE TABLE effect (n int)")
	return conn
}

func run(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(context.Background(), sql)
	require.NoError(t, err, sql)
}

// However a transaction ended, even where nothing refused the command: the guard
// sees it.
func TestGuardSeesTheEnd(t *testing.T) {
	t.Parallel()
	conn := setup(t)
	for _, c := range []struct {
		sql      string
		numbered bool // the transaction has a number, as after the ledger's insert
	}{
		{"COMMIT", true},
		{"COMMIT", false},
		{"ROLLBACK", true},
		{"COMMIT AND CHAIN", true},
		{"COMMIT AND CHAIN", false},
		{"ROLLBACK AND CHAIN", true},
		{"ROLLBACK AND CHAIN", false},
		{"COMMIT; BEGIN", true},
		{"COMMIT; BEGIN; SELECT pg_current_xact_id()", true},
		{"COMMIT; BEGIN; SELECT pg_current_xact_id()", false},
	} {
		run(t, conn, "ROLLBACK")
		run(t, conn, "BEGIN")
		if c.numbered {
			run(t, conn, "SELECT pg_current_xact_id()")
		}
		watch, err := guard.Watch(context.Background(), conn.PgConn())
		require.NoError(t, err)
		require.NoError(t, watch.Check(context.Background()))
		run(t, conn, c.sql)
		err = watch.Check(context.Background())
		var escaped *guard.EscapedError
		require.ErrorAs(t, err, &escaped, "%s (%t)", c.sql, c.numbered)
		require.True(t, escaped.Ended)
		require.ErrorContains(t, err, "transaction ended by job SQL")
	}
}

// What a job may do leaves the guard silent.
func TestGuardIsSilent(t *testing.T) {
	t.Parallel()
	conn := setup(t)
	ctx := context.Background()
	run(t, conn, "BEGIN")
	watch, err := guard.Watch(ctx, conn.PgConn())
	require.NoError(t, err)
	for _, sql := range []string{
		"INSERT INTO effect VALUES (1)",
		"SAVEPOINT a", "INSERT INTO effect VALUES (1)", "ROLLBACK TO a", "RELEASE a",
		"SET LOCAL timezone TO 'Asia/Tokyo'", "SET LOCAL datestyle TO German", "SET LOCAL extra_float_digits TO 0", "SET LOCAL search_path TO pg_temp",
		"SET LOCAL app.org_id TO '5'", "CREATE TEMP TABLE pg_prepared_statements (from_sql boolean)",
		"DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
	} {
		run(t, conn, sql)
		require.NoError(t, watch.Check(ctx), sql)
	}
}

// A guard that cannot look says so, and not that all is well.
func TestGuardCannotLook(t *testing.T) {
	t.Parallel()
	conn := setup(t)
	ctx := context.Background()
	_, err := guard.Watch(ctx, conn.PgConn())
	require.ErrorContains(t, err, "there is no transaction to guard")
	run(t, conn, "BEGIN")
	watch, err := guard.Watch(ctx, conn.PgConn())
	require.NoError(t, err)
	_, err = conn.Exec(ctx, "SELECT 1/0")
	require.Error(t, err)
	require.ErrorContains(t, watch.Check(ctx), "25P02")
	require.NoError(t, conn.Close(ctx))
	var escaped *guard.EscapedError
	err = watch.Check(ctx)
	require.Error(t, err)
	require.NotErrorAs(t, err, &escaped)
}

func BenchmarkGuard(b *testing.B) {
	ctx := context.Background()
	tx, err := setup(b).Begin(ctx)
	require.NoError(b, err)
	defer func() { _ = tx.Rollback(ctx) }()
	watch, err := guard.Watch(ctx, tx.Conn().PgConn(), "app.org_id", "client_encoding")
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, watch.Check(ctx))
	}
}
