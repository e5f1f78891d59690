package sqlscript_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/sqlscript"
)

// changedContext is said of a context that is not the job's.
const changedContext = "headgate.context is not what Headgate has set"

// What the words of a statement do not tell is found when it has run.
func TestAChangedContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.look, `CREATE SCHEMA evil;
		CREATE FUNCTION evil.current_setting(text, boolean DEFAULT false) RETURNS text LANGUAGE sql AS 'SELECT ''1''';
		CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL ROLE pg_monitor; END $$`)
	becomes := fmt.Sprintf(`current_user was %q and is "pg_monitor"`, b.conn.Config().User)
	for _, c := range [][2]string{
		{"SELECT set_config('headgate' || '.context', '2', true)", changedContext},
		{"SELECT set_config('headgate' || '.context', '', true)", changedContext},
		{"select set_config('app.org_id','b',true)", `app.org_id was "" and is "b"`},
		{"SET LOCAL app.org_id TO 'b'", `app.org_id was "" and is "b"`},
		{"WITH a AS MATERIALIZED (SELECT set_config('headgate' || '.context', '2', false)) DELETE FROM effect USING a", changedContext},
		{"SELECT set_config('role', 'pg_monitor', false)", becomes},
		{"SELECT become()", becomes},
		{"SELECT set_config('session_authorization', 'pg_monitor', false)", becomes + `; session_user` + becomes[len("current_user"):]},
		{"SELECT set_config('row_security', 'off', true)", `row_security was "on" and is "off"`},
		{"SELECT set_config('transaction_read_only', 'on', true)", `transaction_read_only was "off" and is "on"`},
		{"SELECT set_config('client_encoding', 'LATIN1', true)", `client_encoding was "UTF8" and is "LATIN1"`},
		{"DO $$ BEGIN EXECUTE 'RESET ALL'; END $$", changedContext},
		{"DO $$ BEGIN EXECUTE 'SET ROLE pg_monitor'; END $$", becomes},
		{"DO $$ BEGIN SET LOCAL search_path = evil, pg_catalog; PERFORM set_config('headgate' || '.context', '2', true); END $$", changedContext},
	} {
		b.conn = connect(t, b.conn.Config().Database)
		err := b.refusal(sqlscript.Statement{SQL: c[0]}, sqlscript.Statement{SQL: "SELECT 'is not reached'"})
		require.ErrorContains(t, err, noContext+c[1], c[0])
		var escaped *guard.EscapedError
		require.ErrorAs(t, err, &escaped)
		require.False(t, escaped.Ended)
	}
}

// Statements prepared by name outlast the transaction; the next job on the
// connection would meet them, or miss its own.
func TestPreparedStatementsAreWatched(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for sql, want := range map[string]string{
		"DO $$ BEGIN EXECUTE 'PREPARE x AS SELECT 1'; END $$": "a statement prepared by SQL was left on the connection",
		"DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$":        "the connection's prepared statements were dropped",
	} {
		b.conn = connect(t, b.conn.Config().Database)
		b.refuses("sqlscript: tenant context changed by job SQL: "+want, sqlscript.Statement{SQL: sql})
	}
}

// A read-only transaction is of the job's own making, and must not look like a
// server that takes no writes.
func TestWritingInAReadOnlyTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.look, "CREATE FUNCTION sneak() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET LOCAL transaction_read_only = on; INSERT INTO effect VALUES (2); END $$")
	b.refuses("statement 2: the transaction is read only: cannot execute INSERT in a read-only transaction", sqlscript.Statement{SQL: "SELECT sneak()"})
}
