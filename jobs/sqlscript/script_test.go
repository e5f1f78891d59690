package sqlscript_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/jobs/wire"
)

func TestAScript(t *testing.T) {
	t.Parallel()
	b := setup(t)
	result, err := b.run(sqlscript.Args{Statements: []sqlscript.Statement{
		{SQL: "-- the year's end\nCREATE TABLE invoices (id int, state text)"},
		{SQL: "INSERT INTO invoices SELECT n, 'open' FROM generate_series(1, $1) n RETURNING id", Params: []sqlscript.Param{{Value: 5}}},
		{SQL: "UPDATE invoices SET state = $2 WHERE id > $1;", Params: []sqlscript.Param{{Type: "int", Value: 3}, {Value: "closed"}}},
		{SQL: "SELECT * FROM invoices"},
		{SQL: "CREATE TABLE archive AS SELECT * FROM invoices WHERE state = 'closed'"},
		{SQL: "WITH gone AS (DELETE FROM archive RETURNING *) SELECT count(*) FROM gone"},
		{SQL: "EXPLAIN SELECT 1"},
		{SQL: "SET LOCAL work_mem TO '8MB'"},
		{SQL: "DO $$ BEGIN INSERT INTO effect VALUES (1); END $$"},
		{SQL: "SELECT FROM invoices"},
	}})
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 5 + 2 + 2, Output: `1: CREATE TABLE
2: INSERT 0 5, 5 rows returned
3: UPDATE 2
4: SELECT 5
5: SELECT 2
6: SELECT 1
7: EXPLAIN, 1 row returned
8: SET
9: DO
10: SELECT 5`}, result)
	require.Equal(t, 1, b.effects())
}

// A statement that fails takes the others with it, and may be tried again: the
// row or table that it misses may be there next time.
func TestAFailedStatement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for sql, code := range map[string]string{
		"SELECT * FROM missing":                   "42P01",
		"SELECT 1 / (n - n) FROM effect":          "22012",
		"SELCT 1":                                 "",
		"SELECT FROM WHERE":                       "42601",
		"INSERT INTO effect VALUES ('much')":      "22P02",
		"VACUUM (FULL) effect":                    "",
		"CREATE INDEX CONCURRENTLY ON effect (n)": "25001",
	} {
		result, err := b.run(sqlscript.Args{Statements: []sqlscript.Statement{{SQL: "INSERT INTO effect VALUES (1)"}, {SQL: sql}}})
		require.ErrorContains(t, err, "sqlscript: statement 2", sql)
		require.Zero(t, result)
		require.Zero(t, b.effects())
		var refused *pgconn.PgError
		var cancel *jobs.CancelError
		if code == "" {
			require.ErrorAs(t, err, &cancel)
			continue
		}
		require.ErrorAs(t, err, &refused, sql)
		require.Equal(t, code, refused.Code, sql)
		require.NotErrorAs(t, err, &cancel, sql)
	}
}

// Rows are counted and dropped as they come.
func TestRowsAreDrained(t *testing.T) {
	t.Parallel()
	b := setup(t)
	result, err := b.run(one("SELECT n, repeat('x', 100) FROM generate_series(1, 300000) n"))
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Output: "1: SELECT 300000"}, result)
}

func TestLimits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	insert := sqlscript.Statement{SQL: "INSERT INTO effect VALUES (1)"}
	script := sqlscript.Args{}
	require.ErrorContains(t, script.Check(), "the job has 0 statements: give 1 to 100")
	for range sqlscript.MaxStatements {
		script.Statements = append(script.Statements, insert)
	}
	_, err := b.run(script)
	require.NoError(t, err)
	require.Equal(t, 100, b.effects())
	b.exec(b.look, "TRUNCATE effect")
	b.refuses("the job has 101 statements", script.Statements...)
	b.refuses("statement 2: the text is 65537 bytes long, at most 65536", sqlscript.Statement{SQL: "SELECT 1" + strings.Repeat(" ", sqlscript.MaxSQLBytes-7)})
	b.refuses("statement 2: the text holds bytes that are not UTF-8", sqlscript.Statement{SQL: "SELECT 1\x00; COMMIT"})
	b.refuses("statement 2: the text holds bytes that are not UTF-8", sqlscript.Statement{SQL: "SELECT '\xff'"})

	numbers, params := []string{}, []sqlscript.Param{}
	for i := range sqlscript.MaxParams + 1 {
		numbers, params = append(numbers, fmt.Sprintf("($%d::int)", i+1)), append(params, sqlscript.Param{Type: "int", Value: i})
	}
	sql := "INSERT INTO effect VALUES " + strings.Join(numbers, ", ")
	b.refuses("statement 2: it has 1001 parameters, at most 1000", sqlscript.Statement{SQL: sql, Params: params})
	sql = strings.TrimSuffix(sql, ", ($1001::int)")
	result, err := b.run(one(sql, params[:1000]...))
	require.NoError(t, err)
	require.EqualValues(t, 1000, result.Rows)
}

// Either form of the JSON is read; what it has no place for is refused.
func TestForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, text := range []string{
		`{"sql": "INSERT INTO effect VALUES ($1)", "params": [7]}`,
		`{"statements": [{"sql": "INSERT INTO effect VALUES ($1)", "params": [{"type": "int", "value": 7}]}]}`,
	} {
		args := read(t, text)
		written, err := json.Marshal(args)
		require.NoError(t, err)
		require.JSONEq(t, text, string(written))
		_, err = b.run(read(t, string(written)))
		require.NoError(t, err)
	}
	require.Equal(t, 2, b.effects())

	for text, want := range map[string]string{
		`{"sql": 1}`:                   "sqlscript: sql: want a string, got number",
		`{"params": {}}`:               "sqlscript: params: want a list, got object",
		`{"statement": 1}`:             `unknown field "statement"`,
		`{"statements": ["SELECT 1"]}`: "sqlscript: statement 1, want an object, got string",
		`{"statements": [{"sql": "SELECT 1"}, {"sql": true}]}`:                             "sqlscript: statement 2, sql: want a string, got bool",
		`{"statements": [{"sql": "SELECT 1", "parms": []}]}`:                               `statement 1, unknown field "parms"`,
		`{"sql": "SELECT $1", "params": [1, {"type": 1}]}`:                                 "statement 1, parameter 2: type: want a string, got number",
		`{"sql": "SELECT $1", "params": [{"value": 1}]}`:                                   `statement 1, parameter 1: "type" is missing`,
		`{"sql": "SELECT $1", "params": [{"type": "int"}]}`:                                `statement 1, parameter 1: "value" is missing`,
		`{"statements": [{"sql": "SELECT $1", "params": [{"type": "int", "valu": 1}]}]}`:   `statement 1, parameter 1: unknown field "valu"`,
		`{"statements": [{"sql": "SELECT $1", "params": [{"type": "int", "value": null}]}`: "unexpected end",
	} {
		args := sqlscript.Args{}
		require.ErrorContains(t, json.Unmarshal([]byte(text), &args), want, text)
		require.Zero(t, args)
	}
	both := read(t, `{"sql": "SELECT 1", "statements": [{"sql": "SELECT 2"}]}`)
	require.ErrorContains(t, both.Check(), `give either "statements", or "sql" with "params", not both`)
	_, err := wire.EncodeArgs(one("COMMIT"))
	require.ErrorContains(t, err, "args of kind headgate.sql: statement 1: transaction control is not allowed in a SQL job: remove COMMIT")
}

func TestWithoutATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.conn.Begin(context.Background())
	require.NoError(t, err)
	b.exec(b.conn, "ROLLBACK")
	job := &jobs.Job[sqlscript.Args]{Args: one("SELECT 1"), Info: jobs.Info{Result: &jobs.Result{}}}
	require.ErrorContains(t, sqlscript.Run(context.Background(), tx, job), "there is no transaction to guard")
}
