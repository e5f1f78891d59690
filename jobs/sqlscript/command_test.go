package sqlscript_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/sqlscript"
)

func TestAllowedCommands(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"SELECT 1", "select'x'", "Select\"x\"", "SELECT--x\n1", "(SELECT 1)", "( /* why */ (VALUES (1)))", ";;SELECT 1;", "\f\tSELECT 1",
		"WITH a AS (SELECT 1) SELECT * FROM a", "TABLE t", "VALUES (1)", "INSERT INTO t VALUES ('COMMIT')", "UPDATE t SET a = 1", "DELETE FROM t",
		"MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "TRUNCATE t", "CREATE TEMP TABLE t ()", "CREATE TABLE commit ()", "ALTER TABLE t ADD a int",
		"DROP TABLE t", "GRANT SELECT ON t TO PUBLIC", "REVOKE ALL ON t FROM PUBLIC", "COMMENT ON TABLE t IS 'x'", "REFRESH MATERIALIZED VIEW v",
		"LOCK t", "ANALYZE t", "EXPLAIN ANALYZE SELECT 1", "SHOW search_path", "CALL p()", "DO $$ BEGIN END $$", "NOTIFY jobs, 'x'",
		"SET LOCAL search_path TO a, b", "set local time zone 'UTC'", "SET LOCAL lock_timeout = 0", "SET CONSTRAINTS ALL DEFERRED", "/* commit; */ SELECT 1",
		"/*/ commit */ SELECT 1", "/***/SELECT 1", "/*/**/*/SELECT 1", "-- é\nSELECT 1",
		"SELECT headgate.current_org()", "SELECT * FROM headgate.organisations, probe", "INSERT INTO t VALUES ('Headgate')",
	} {
		require.Empty(t, sqlscript.Refusal(sql), sql)
	}
}

// ends are the commands that Postgres counts as ending a transaction.
var ends = []string{"commit", "COMMIT AND CHAIN", "end", "Rollback", "ABORT", "rollback to a", "prepare transaction 'x'", "commit work;"}

// In a failed transaction Postgres parses a text only if it could end that
// transaction, and so says by its own grammar which do. None of them may pass.
func TestPostgresAgreesOnWhatEndsATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	b.exec(b.conn, "BEGIN")
	_, err := b.conn.Exec(ctx, "SELECT 1/0")
	require.Error(t, err)
	piece := rapid.SampledFrom(append([]string{
		" ", "\t", "\n", "\r", "\f", "\v", "\x1b", "\u00a0", "\u2028", "\uFEFF", ";", "(", ")", "/", "*", "/*", "*/", "/**/", "--", "-", "+", "'", `"`, "$$", "\\", "E",
		"select", "set local x", "do", "1",
	}, ends...))
	ended := 0
	rapid.Check(t, func(r *rapid.T) {
		sql := strings.Join(rapid.SliceOfN(piece, 0, 5).Draw(r, "head"), "") + rapid.SampledFrom(ends).Draw(r, "end")
		for _, text := range []string{sql, sql + "\n", sql + "*/commit", sql + "\ncommit"} {
			_, err := b.conn.PgConn().Prepare(ctx, "", text, nil)
			if err == nil {
				ended++
				if sqlscript.Refusal(text) == "" {
					r.Fatalf("Postgres reads %q as the end of a transaction", text)
				}
			}
		}
	})
	require.NotZero(t, ended)
	require.Equal(t, byte('E'), b.conn.PgConn().TxStatus(), "nothing of it ran")
}

// FuzzRefusal: no text makes it panic, and none that begins with the end of a
// transaction passes, whatever comments and space stand before it.
func FuzzRefusal(f *testing.F) {
	for _, seed := range []string{"", "SELECT 1", "/*", "/*/*", "/**//", "--", ";", "(", "set local", "SET LOCAL \"", "é", "\xff\x00", "prepare", "*/", "/*-- */"} {
		f.Add(seed, uint64(len(seed)))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		_ = sqlscript.Refusal(text)
		random := rand.New(rand.NewPCG(seed, 0))
		inner := strings.NewReplacer("*", "+", "/", "|", "\n", " ", "\r", " ").Replace(text)
		head := ""
		for range random.IntN(6) {
			head += []string{" ", "\t", "\n", "\r\n", ";", "/*" + inner + "*/", "/*a/*" + inner + "*/b*/", "--" + inner + "\n", "-- /*" + inner + "\r", "/* -- */"}[random.IntN(10)]
		}
		sql := head + ends[random.IntN(len(ends))]
		for _, tail := range []string{"", ";", " ", "\n", "/*" + text, "--" + text, ";" + text, "(" + text} {
			if sqlscript.Refusal(sql+tail) == "" {
				t.Errorf("%q passes", sql+tail)
			}
		}
	})
}
