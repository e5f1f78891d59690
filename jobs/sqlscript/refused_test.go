package sqlscript_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/guard"
	"github.com/headgate/headgate/jobs/sqlscript"
)

const (
	noControl = "sqlscript: statement 2: transaction control is not allowed in a SQL job: remove "
	noContext = "sqlscript: statement 2: tenant context changed by job SQL: "
	noSession = " is not allowed in a SQL job: it acts on the connection"
	noOwners  = " is not allowed in a SQL job: roles, databases and their upkeep"
)

// Refused by its first words, before any statement of the job runs.
func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range [][2]string{
		{"commit", noControl + "COMMIT"},
		{"COMMIT;", noControl + "COMMIT"},
		{"commit and chain", noControl + "COMMIT"},
		{"COMMIT PREPARED 'x'", noControl + "COMMIT"},
		{"rollback", noControl + "ROLLBACK"},
		{"ROLLBACK AND CHAIN", noControl + "ROLLBACK"},
		{"rollback to a", noControl + "ROLLBACK"},
		{"savepoint a", noControl + "SAVEPOINT"},
		{"release savepoint a", noControl + "RELEASE"},
		{"begin", noControl + "BEGIN"},
		{"start transaction", noControl + "START"},
		{"prepare transaction 'x'", noControl + "PREPARE TRANSACTION"},
		{"abort", noControl + "ABORT"},
		{"end", noControl + "END"},
		{"set transaction read only", noControl + "SET TRANSACTION"},
		{"SET LOCAL TRANSACTION READ ONLY", noControl + "SET TRANSACTION"},
		{"set local transaction_read_only = on", noControl + "SET TRANSACTION_READ_ONLY"},
		{"set session characteristics as transaction read only", noControl + "SET CHARACTERISTICS"},
		{"; ;commit", noControl + "COMMIT"},
		{"-- SELECT 1\rcommit", noControl + "COMMIT"},
		{"/* a /* nested */ comment */ -- and\n\t/**/ CoMmIt /* SELECT */ and chain", noControl + "COMMIT"},

		{"set role pg_monitor", noContext + "SET ROLE"},
		{"SET SESSION ROLE pg_monitor", noContext + "SET ROLE"},
		{"SET LOCAL ROLE pg_monitor", noContext + "SET ROLE"},
		{"reset role", noContext + "RESET ROLE"},
		{"RESET ALL", noContext + "RESET ALL"},
		{"reset session authorization", noContext + "RESET SESSION"},
		{"set session authorization pg_monitor", noContext + "SET AUTHORIZATION"},
		{"set local session authorization pg_monitor", noContext + "SET SESSION"},
		{"set headgate.org = '2'", noContext + "SET HEADGATE"},
		{"SET LOCAL/**/headgate . org TO '2'", noContext + "SET HEADGATE"},
		{"set local row_security to off", noContext + "SET ROW_SECURITY"},

		{"SELECT set_config('headgate.context', '2', true)", noContext + changedContext},
		{"DO $$ BEGIN SET LOCAL Headgate.Context = '2'; DELETE FROM effect; END $$", noContext + changedContext},

		{"set search_path = pg_temp", "SET SEARCH_PATH" + noSession},
		{"SET SESSION CHARACTERISTIC", "SET CHARACTERISTIC" + noSession},
		{`set local "role" to pg_monitor`, "write the setting's name without quotes"},
		{`set local U&"\0072ole" to pg_monitor`, "statement 2: tenant context changed"},
		{"set local client_encoding to latin1", "SET CLIENT_ENCODING is not allowed in a SQL job: its text is read as UTF-8"},
		{"set names 'latin1'", "SET NAMES" + noSession},
		{"listen jobs", "LISTEN" + noSession},
		{"unlisten *", "UNLISTEN" + noSession},
		{"discard all", "DISCARD" + noSession},
		{"deallocate all", "DEALLOCATE" + noSession},
		{"prepare x as select 1", "PREPARE" + noSession},
		{"execute x", "EXECUTE" + noSession},
		{"declare c cursor with hold for select 1", "DECLARE" + noSession},
		{"load 'x'", "LOAD" + noSession},

		{"copy effect from stdin", "COPY is not allowed in a SQL job"},
		{"copy effect to stdout", "COPY is not allowed in a SQL job"},
		{"copy effect from program 'echo 2'", "COPY is not allowed in a SQL job"},
		{"copy effect from '/etc/passwd'", "COPY is not allowed in a SQL job"},
		{"vacuum effect", "VACUUM cannot run in a transaction: use the kind headgate.vacuum"},
		// If they were let through, no other test may suffer: there is no such role.
		{"alter role headgate_nobody password 'x'", "ALTER ROLE" + noOwners},
		{"ALTER USER headgate_nobody SET headgate.org = '2'", "ALTER USER" + noOwners},
		{"create database x", "CREATE DATABASE" + noOwners},
		{"alter system set work_mem = '1GB'", "ALTER SYSTEM" + noOwners},
		{"drop owned by current_user", "DROP OWNED" + noOwners},
		{"checkpoint", "CHECKPOINT" + noOwners},

		{"", "statement 2: it is empty"},
		{" ;; -- nothing", "statement 2: it is empty"},
		{"/* COMMIT /* */", "statement 2: it is empty"},
		{"selct 1", "statement 2: SELCT is no command of a SQL job"},
		{"sélect 1", "is no command of a SQL job"},
		{"\uFEFFcommit", "is no command of a SQL job"},
		{"commit\u00a0", "is no command of a SQL job"},
		{`"commit"`, `it begins with "\"commit\"", which is no command`},
		{"1", `it begins with "1", which is no command`},
	} {
		b.refuses(c[1], sqlscript.Statement{SQL: c[0]})
	}
}

// Refused by Postgres itself, whatever the first words are.
func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.look, `CREATE PROCEDURE committer() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
		CREATE PROCEDURE roller() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; END $$;
		CREATE FUNCTION old_committer() RETURNS void LANGUAGE sql AS 'COMMIT'`)
	const (
		twice  = "statement 2: the text holds more than one command, and transaction control is not allowed in a SQL job"
		inside = "statement 2: transaction control is not allowed in a SQL job: remove COMMIT and ROLLBACK from the block or procedure"
	)
	for _, c := range [][2]string{
		{"select 1; drop table effect", twice},
		{"SELECT 1; COMMIT", twice},
		{"SELECT 1;;;COMMIT AND CHAIN", twice},
		{"INSERT INTO effect VALUES (2); ROLLBACK", twice},
		{"CREATE TABLE t (a int); /* two */ SELECT 2 -- and no more", twice},
		{"do $$begin commit;end$$", inside},
		{"DO LANGUAGE plpgsql $$ BEGIN INSERT INTO effect VALUES (2); COMMIT; END $$", inside},
		{"do $$begin rollback;end$$", inside},
		{"CALL committer()", inside},
		{"call roller()", inside},
	} {
		b.refuses(c[1], sqlscript.Statement{SQL: c[0]})
	}
	for _, sql := range []string{
		"DO $$ BEGIN EXECUTE 'COMMIT'; END $$",
		"DO $$ BEGIN SAVEPOINT a; END $$",
		"SELECT old_committer()",
		"EXPLAIN ANALYZE COMMIT",
		"(COMMIT)",
		"WITH a AS (COMMIT) SELECT 1",
	} {
		_, err := b.run(sqlscript.Args{Statements: []sqlscript.Statement{{SQL: "INSERT INTO effect VALUES (1)"}, {SQL: sql}}})
		require.ErrorContains(t, err, "sqlscript: statement 2", sql)
		require.Zero(t, b.effects(), sql)
	}
}

// Whatever stands behind "SELECT 1;" is refused, unless it is nothing.
func TestASecondCommandIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	piece := rapid.SampledFrom([]string{
		" ", "\n", ";", "/*", "*/", "--", "'", `"`, "$$", "$a$", "(", ")", "commit", "COMMIT AND CHAIN", "rollback", "select 1", "drop table effect",
		"insert into effect values (2)", "begin", "do $$begin commit;end$$", "\\", "E'", "x", "1", ",", "é", "\v",
	})
	rapid.Check(t, func(r *rapid.T) {
		rest := ""
		for _, p := range rapid.SliceOfN(piece, 0, 6).Draw(r, "rest") {
			rest += p + rapid.SampledFrom([]string{"", " "}).Draw(r, "gap")
		}
		_, err := b.run(sqlscript.Args{Statements: []sqlscript.Statement{{SQL: "DELETE FROM effect"}, {SQL: "SELECT 1; " + rest}}})
		if err == nil && !sqlscript.Empty(rest) {
			r.Fatalf("%q ran", "SELECT 1; "+rest)
		}
		var escaped *guard.EscapedError
		if errors.As(err, &escaped) || b.effects() != 0 {
			r.Fatalf("%q had an effect", "SELECT 1; "+rest)
		}
	})
}
