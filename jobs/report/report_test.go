package report_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/report"
)

const key = "acme/orders-0199c0de-0000-7000-8000-000000000001.csv"

func TestReportWritesRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	args := report.Args{
		Name: "orders",
		Query: `SELECT n AS "Number", 'item, ' || n AS item, CASE n WHEN 2 THEN NULL ELSE n / 4.0 END AS price, n % 2 = 0 AS even
			FROM generate_series(1, $1) AS n WHERE 'x' = $2 AND $3 ORDER BY n`,
		Args: report.Scalars{3, "x", true},
	}
	result, err := b.run(t.Context(), t, args)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 3, Output: key}, result)
	require.Equal(t, `Number,item,price,even
1,"item, 1",0.25000000000000000000,f
2,"item, 2",,t
3,"item, 3",0.75000000000000000000,f
`, b.read(t, key))

	again, err := b.run(t.Context(), t, args)
	require.NoError(t, err)
	require.Equal(t, result, again)
	require.Equal(t, []string{key}, b.keys(t), "a repeated attempt writes the same file")
}

func TestReportOfNoRowsHasAHeader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	result, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: "SELECT 1 AS a, 'x' AS b WHERE false"})
	require.NoError(t, err)
	require.Zero(t, result.Rows)
	require.Equal(t, "a,b\n", b.read(t, key))
}

func TestReportGuardsAgainstFormulas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: `
		SELECT v AS "=name", -12.5::numeric AS num, -3 AS i, -0.5::float8 AS f, '-1 day'::interval AS iv, v || v AS twice
		FROM unnest(ARRAY['=HYPERLINK("http://x")', '+1', '-2', '@x', E'\tx', E'\rx', 'a=b', '', ' =1', '-12.5']) AS v`})
	require.NoError(t, err)
	lines := strings.Split(b.read(t, key), "\n")
	require.Equal(t, `'=name,num,i,f,iv,twice`, lines[0])
	require.Equal(t, `"'=HYPERLINK(""http://x"")",-12.5,-3,-0.5,'-1 days,"'=HYPERLINK(""http://x"")=HYPERLINK(""http://x"")"`, lines[1])
	for i, want := range []string{`'+1,`, `'-2,`, `'@x,`, "'\tx,", "\"'\rx\",", `a=b,`, `,`, `" =1",`, `'-12.5,`} {
		require.True(t, strings.HasPrefix(lines[i+2], want), "%q begins with %q", lines[i+2], want)
	}
}

func TestReportRefusesArguments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.conn.Exec(t.Context(), "CREATE SEQUENCE numbers; CREATE TABLE t (a int)")
	require.NoError(t, err)
	for _, c := range []struct {
		args report.Args
		want string
	}{
		{report.Args{Name: "orders"}, "report: query is empty"},
		{report.Args{Name: "orders", Query: " \n\t"}, "report: query is empty"},
		{report.Args{Name: "orders", Query: "SELECT 1" + strings.Repeat(" ", report.MaxQueryBytes)}, "query is 65544 bytes long, at most 65536"},
		{report.Args{Query: "SELECT 1"}, `name "": write 1 to 64`},
		{report.Args{Name: "../../etc", Query: "SELECT 1"}, "write 1 to 64 of a-z"},
		{report.Args{Name: "Orders", Query: "SELECT 1"}, "write 1 to 64 of a-z"},
		{report.Args{Name: "-x", Query: "SELECT 1"}, "write 1 to 64 of a-z"},
		{report.Args{Name: strings.Repeat("x", 65), Query: "SELECT 1"}, "write 1 to 64 of a-z"},
		{report.Args{Name: "orders", Query: "COMMIT"}, "query begins with COMMIT: a report is one SELECT"},
		{report.Args{Name: "orders", Query: "SET ROLE postgres"}, "query begins with SET"},
		{report.Args{Name: "orders", Query: "COPY pg_class TO STDOUT"}, "query begins with COPY"},
		{report.Args{Name: "orders", Query: "-- nothing"}, "query begins with no command"},
		{report.Args{Name: "orders", Query: "SELECT $1 || $2", Args: report.Scalars{"a"}}, "the query has 2 parameters and args 1 value"},
		{report.Args{Name: "orders", Query: "SELECT $1", Args: report.Scalars{[]int{1}}}, "args[0]: want a text, a number"},
		{report.Args{Name: "orders", Query: "SELECT $1", Args: report.Scalars{1, 2}}, "args[1]: the query has no $2: use the value, or remove it"},
		{report.Args{Name: "orders", Query: "'delete' FROM t"}, `query begins with "'"`},
		{report.Args{Name: "orders", Query: "CREATE TABLE t (a int)"}, "query begins with CREATE"},
		{report.Args{Name: "orders", Query: "CREATE TEMP SEQUENCE s"}, "query begins with CREATE"},
		{report.Args{Name: "orders", Query: "SELECT nextval('numbers')"}, "the query tries to write, and a report only reads"},
		{report.Args{Name: "orders", Query: "SELECT * FROM pg_class FOR UPDATE"}, "the query tries to write"},
		{report.Args{Name: "orders", Query: "/* so */ explain ANALYZE CREATE TABLE t2 AS SELECT 1"}, "query begins with EXPLAIN"},
		{report.Args{Name: "orders", Query: "SHOW search_path"}, "query begins with SHOW"},
		{report.Args{Name: "orders", Query: "INSERT INTO t VALUES (1) RETURNING a"}, "query begins with INSERT"},
		{report.Args{Name: "orders", Query: "WITH gone AS (DELETE FROM t RETURNING a) SELECT * FROM gone"}, "the query tries to write"},
	} {
		_, err := b.run(t.Context(), t, c.args)
		require.ErrorContains(t, err, c.want, "%.40q", c.args.Query)
		var cancel *jobs.CancelError
		require.ErrorAs(t, err, &cancel, "it can never work: %.40q", c.args.Query)
	}
	require.Empty(t, b.keys(t))
	made := false
	require.NoError(t, b.conn.QueryRow(t.Context(), "SELECT to_regclass('t2') IS NOT NULL").Scan(&made))
	require.False(t, made)
}

func TestReportTakesEveryFormOfSelect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, query := range []string{"VALUES (1)", "WITH w AS (SELECT 1 AS column1) SELECT * FROM w", "(SELECT 1 AS column1) -- why\n;"} {
		_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: query})
		require.NoError(t, err, query)
		require.Equal(t, "column1\n1\n", b.read(t, key), query)
	}
}

func TestReportTellsTheServersErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, code := range map[string]string{
		"SELECT * FROM missing":                           "42P01",
		"SELECT 1; DROP TABLE pg_class":                   "42601",
		"SELECT 1; SELECT 2":                              "42601",
		"SELECT 1 / (n - 5) FROM generate_series(1, 9) n": "22012",
	} {
		_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: query})
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, query)
		require.Equal(t, code, pgErr.Code, query)
	}
	require.Empty(t, b.keys(t))
}

// TestReportLeavesTheTransactionWritable: the worker writes its ledger row in
// the same transaction, after the report.
func TestReportLeavesTheTransactionWritable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "CREATE TABLE ledger (a int)")
	require.NoError(t, err)
	job := newJob(report.Args{Name: "orders", Query: "SELECT set_config('app.seen', 'yes', true)"})
	require.NoError(t, report.New(b.bucket)(t.Context(), tx, job))
	_, err = tx.Exec(t.Context(), "INSERT INTO ledger VALUES (1)")
	require.NoError(t, err)
	seen := ""
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT current_setting('app.seen')").Scan(&seen))
	require.Equal(t, "yes", seen, "what the query did to the session stays to be seen by the worker's checks")
	require.NoError(t, tx.Commit(t.Context()))
}

func TestReportInAReadOnlyTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.conn.Exec(t.Context(), "SET default_transaction_read_only = on")
	require.NoError(t, err)
	result, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: "SELECT 1 AS a"})
	require.NoError(t, err)
	require.Equal(t, "a\n1\n", b.read(t, result.Output))
}

func TestReportCannotTurnWritingOnAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: "SELECT set_config('transaction_read_only', 'off', true)"})
	require.ErrorContains(t, err, "cannot set transaction read-write mode")
}

func TestReportWithoutATenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	job := newJob(report.Args{Name: "orders", Query: "SELECT 1"})
	job.Tenant = jobs.Tenant{}
	require.ErrorContains(t, report.New(b.bucket)(t.Context(), tx, job), "names no tenant")
}

func TestArgsKeepTheirDigits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	args := report.Args{}
	require.NoError(t, json.Unmarshal([]byte(`{"name": "orders",
		"query": "SELECT $1::bigint AS id, $2::numeric AS n, $3::text AS t, $4::text AS none, $5::bool AS yes",
		"args": [9007199254740993, 0.10000000000000000001, "it's ü", null, true]}`), &args))
	_, err := b.run(t.Context(), t, args)
	require.NoError(t, err)
	require.Equal(t, "id,n,t,none,yes\n9007199254740993,0.10000000000000000001,it's ü,,t\n", b.read(t, key))

	stored, err := json.Marshal(args)
	require.NoError(t, err)
	require.Contains(t, string(stored), `[9007199254740993,0.10000000000000000001,"it's ü",null,true]`)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"args": [1, {"a": 2}]}`), &args), "args[1]: want a text")
	require.Error(t, json.Unmarshal([]byte(`{"args": "x"}`), &args))
}

// A value that does not fit is not repeated in the error, which the history keeps.
func TestAnErrorDoesNotRepeatAValue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, query := range []string{"SELECT $1::int", "SELECT $1::date", "SELECT ($1::text)::int", "SELECT $1::jsonb"} {
		_, err := b.run(t.Context(), t, report.Args{Name: "orders", Query: query, Args: report.Scalars{"PARAM s3cret"}})
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, query)
		require.NotContains(t, err.Error(), "s3cret", query)
		require.Contains(t, err.Error(), "invalid input syntax for type", query)
	}
}

// What stands behind the list is an error also for who reads it by the type's own method.
func TestScalarsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`[1] x`, `[1]]`, `[1] [2]`} {
		require.ErrorContains(t, new(report.Scalars).UnmarshalJSON([]byte(text)), "there is more behind the list", text)
	}
	require.NoError(t, new(report.Scalars).UnmarshalJSON([]byte(" [1, 2] ")))
}
