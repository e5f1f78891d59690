package sqlscript_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/sqlscript"
)

// However a transaction ended, even where nothing refused the command: the guard
// sees it.
func TestGuardSeesTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
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
		b.exec(b.conn, "ROLLBACK")
		b.exec(b.conn, "BEGIN")
		if c.numbered {
			b.exec(b.conn, "SELECT pg_current_xact_id()")
		}
		guard, err := sqlscript.Watch(context.Background(), b.conn.PgConn())
		require.NoError(t, err)
		require.NoError(t, guard.Check(context.Background()))
		b.exec(b.conn, c.sql)
		err = guard.Check(context.Background())
		var escaped *sqlscript.EscapedError
		require.ErrorAs(t, err, &escaped, "%s (%t)", c.sql, c.numbered)
		require.True(t, escaped.Ended)
		require.ErrorContains(t, err, "transaction ended by job SQL")
	}
}

// What a job may do leaves the guard silent.
func TestGuardIsSilent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	b.exec(b.conn, "BEGIN")
	guard, err := sqlscript.Watch(ctx, b.conn.PgConn())
	require.NoError(t, err)
	for _, sql := range []string{
		"INSERT INTO effect VALUES (1)",
		"SAVEPOINT a", "INSERT INTO effect VALUES (1)", "ROLLBACK TO a", "RELEASE a",
		"SET LOCAL timezone TO 'Asia/Tokyo'", "SET LOCAL datestyle TO German", "SET LOCAL extra_float_digits TO 0", "SET LOCAL search_path TO pg_temp",
		"SET LOCAL app.org_id TO '5'", "CREATE TEMP TABLE pg_prepared_statements (from_sql boolean)",
		"DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
	} {
		b.exec(b.conn, sql)
		require.NoError(t, guard.Check(ctx), sql)
	}
}

// A guard that cannot look says so, and not that all is well.
func TestGuardCannotLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	_, err := sqlscript.Watch(ctx, b.conn.PgConn())
	require.ErrorContains(t, err, "there is no transaction to guard")
	b.exec(b.conn, "BEGIN")
	guard, err := sqlscript.Watch(ctx, b.conn.PgConn())
	require.NoError(t, err)
	_, err = b.conn.Exec(ctx, "SELECT 1/0")
	require.Error(t, err)
	require.ErrorContains(t, guard.Check(ctx), "25P02")
	require.NoError(t, b.conn.Close(ctx))
	var escaped *sqlscript.EscapedError
	err = guard.Check(ctx)
	require.Error(t, err)
	require.NotErrorAs(t, err, &escaped)
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(context.Background(), jobstest.ServerURL(t, jobstest.EmptyDatabase(t)))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	jobstest.PrepareQueries(t, ".", pool)
}

func BenchmarkGuard(b *testing.B) {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, jobstest.ServerURL(b, jobstest.EmptyDatabase(b)))
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	tx, err := pool.Begin(ctx)
	require.NoError(b, err)
	defer func() { _ = tx.Rollback(ctx) }()
	guard, err := sqlscript.Watch(ctx, tx.Conn().PgConn(), "app.org_id", "client_encoding")
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, guard.Check(ctx))
	}
}
