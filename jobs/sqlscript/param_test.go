package sqlscript_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/sqlscript"
)

// Every type goes in and is in the table as it was meant, whatever the session's
// settings are.
func TestParamsOfAllTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.look, `CREATE TABLE kept (t text, i int, b bigint, n numeric, y boolean, d date, at timestamptz, u uuid, j jsonb, x bytea,
		ts text[], bs bigint[], us uuid[], it text, ii int, ib bigint, inum numeric, iy boolean, iat timestamptz)`)
	args := read(t, `{"statements": [{"sql": "SET LOCAL timezone TO 'Asia/Tokyo'"}, {"sql": "SET LOCAL datestyle TO 'German, DMY'"}, {
		"sql": "INSERT INTO kept VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
		"params": [
			{"type": "text", "value": "it's \"ü\" \\ $1"}, {"type": "int", "value": -2147483648}, {"type": "bigint", "value": 9007199254740993},
			{"type": "numeric", "value": 0.10000000000000000001}, {"type": "boolean", "value": false}, {"type": "date", "value": "2024-02-29"},
			{"type": "timestamptz", "value": "2027-01-02T00:30:00.123456+01:00"}, {"type": "uuid", "value": "0199C0DE-0000-7000-8000-000000000001"},
			{"type": "jsonb", "value": {"big": 9007199254740993, "n": null, "<a>": [1, "x"]}}, {"type": "bytea", "value": "AP8n"},
			{"type": "text[]", "value": ["a,b", "\"\\{}", "NULL", "", null]}, {"type": "bigint[]", "value": [9007199254740993, "-9223372036854775808", null]},
			{"type": "uuid[]", "value": []},
			"tab\t", 7, 9223372036854775807, "1e-3", true, "2027-01-02 03:04:05+00"]}]}`)
	_, err := b.run(args)
	require.NoError(t, err)
	b.exec(b.look, "SET timezone TO 'UTC'")
	rows, err := b.look.Query(context.Background(), "SELECT t, i, b, n::text AS n, y, d::text AS d, at::text AS at, u::text AS u, j::text AS j, x, ts, bs, us::text AS us, it, ii, ib, inum::text AS inum, iy, iat::text AS iat FROM kept")
	require.NoError(t, err)
	row, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"t": `it's "ü" \ $1`, "i": int32(-2147483648), "b": int64(9007199254740993), "n": "0.10000000000000000001", "y": false, "d": "2024-02-29",
		"at": "2027-01-01 23:30:00.123456+00", "u": "0199c0de-0000-7000-8000-000000000001",
		"j": `{"n": null, "<a>": [1, "x"], "big": 9007199254740993}`, "x": []byte{0, 255, '\''},
		"ts": []any{"a,b", `"\{}`, "NULL", "", nil}, "bs": []any{int64(9007199254740993), int64(-9223372036854775808), nil}, "us": "{}",
		"it": "tab\t", "ii": int32(7), "ib": int64(9223372036854775807), "inum": "0.001", "iy": true, "iat": "2027-01-02 03:04:05+00",
	}, row)
}

// Values of Go go the same way, through JSON and back.
func TestParamsFromGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.look, "CREATE TABLE kept (t text, b bigint, at timestamptz, x bytea, ts text[], j jsonb, bs bigint[], u uuid)")
	at := time.Date(2027, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	raw, err := json.Marshal(one("INSERT INTO kept VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		sqlscript.Param{Value: "x"}, sqlscript.Param{Type: "bigint", Value: int64(9007199254740993)}, sqlscript.Param{Type: "timestamptz", Value: at},
		sqlscript.Param{Type: "bytea", Value: []byte{1, 2}}, sqlscript.Param{Type: "text[]", Value: []string{"a"}},
		sqlscript.Param{Type: "jsonb", Value: map[string]int{"a": 1}}, sqlscript.Param{Type: "bigint[]", Value: []int64{1}}, sqlscript.Param{Type: "uuid"}))
	require.NoError(t, err)
	_, err = b.run(read(t, string(raw)))
	require.NoError(t, err)
	var got string
	require.NoError(t, b.look.QueryRow(context.Background(), "SELECT concat_ws(' ', t, b, x, ts, j, bs, u IS NULL) FROM kept WHERE at = $1", at).Scan(&got))
	require.Equal(t, `x 9007199254740993 \x0102 {a} {"a": 1} {1} t`, got)
}

func TestNullOfEveryType(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, name := range []string{"text", "int", "bigint", "numeric", "boolean", "date", "timestamptz", "uuid", "jsonb", "bytea", "text[]", "bigint[]", "uuid[]"} {
		_, err := b.run(one("INSERT INTO effect SELECT 1 WHERE $1 IS NULL", sqlscript.Param{Type: name}))
		require.NoError(t, err, name)
	}
	_, err := b.run(one("INSERT INTO effect VALUES ($1)", sqlscript.Param{}))
	require.NoError(t, err)
	require.Equal(t, 14, b.effects())
}

// A value that does not fit its type is named by the numbers of statement and
// parameter; nothing runs.
func TestRefusedValues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range [][2]string{
		{`{"type": "int", "value": 2147483648}`, "want a whole number from -2147483648 to 2147483647, got 2147483648"},
		{`{"type": "int", "value": 1.5}`, "got 1.5"},
		{`{"type": "int", "value": 1e3}`, "got 1e3"},
		{`{"type": "int", "value": "１"}`, `got "１"`},
		{`{"type": "int", "value": ""}`, `got ""`},
		{`{"type": "int", "value": true}`, "got true"},
		{`{"type": "bigint", "value": 9223372036854775808}`, "want a whole number from -9223372036854775808"},
		{`{"type": "bigint", "value": [1]}`, "got [1]"},
		{`{"type": "numeric", "value": "1,5"}`, "want a number, or its digits as a string"},
		{`{"type": "numeric", "value": "0x10"}`, "want a number"},
		{`{"type": "numeric", "value": false}`, "want a number"},
		{`{"type": "boolean", "value": "yes"}`, "want true or false, got \"yes\""},
		{`{"type": "boolean", "value": 1}`, "want true or false, got 1"},
		{`{"type": "date", "value": "2027-02-30"}`, `want a day that exists, as "2027-01-31", got "2027-02-30"`},
		{`{"type": "date", "value": "31.01.2027"}`, "want a day"},
		{`{"type": "date", "value": "0000-01-01"}`, "want a day"},
		{`{"type": "date", "value": 20270131}`, "want a day"},
		{`{"type": "timestamptz", "value": "2027-01-31T09:00:00"}`, "want a time with its zone"},
		{`{"type": "timestamptz", "value": "2027-01-31T25:00:00Z"}`, "want a time with its zone"},
		{`{"type": "timestamptz", "value": "9999-12-31T23:00:00-05:00"}`, "want a time with its zone"},
		{`{"type": "uuid", "value": "0199c0de00007000800000000000000"}`, "want a UUID"},
		{`{"type": "bytea", "value": "%%% secret"}`, "want a string of base64 with padding, got another string"},
		{`{"type": "bytea", "value": [1]}`, "got a list that is not so"},
		{`{"type": "text", "value": 1}`, "want a string without U+0000, got a number"},
		{`{"type": "text", "value": "a\u0000b"}`, "want a string without U+0000, got another string"},
		{`{"type": "text[]", "value": "a"}`, "want a list of strings"},
		{`{"type": "text[]", "value": [["a"]]}`, "want a list of strings"},
		{`{"type": "bigint[]", "value": [1, 2.5]}`, "want a list of whole 64-bit numbers"},
		{`{"type": "uuid[]", "value": ["x"]}`, "want a list of UUIDs"},
		{`{"type": "uuid[]", "value": {"a": 1}}`, "got an object"},
		{`{"type": "integer", "value": 1}`, `type "integer" is not known: give one of bigint, bigint[], boolean, bytea, date, int, jsonb, numeric, text, text[], timestamptz, uuid, uuid[]`},
		{`{"type": "regclass", "value": "pg_class"}`, `type "regclass" is not known`},
		{`{"type": "int; COMMIT", "value": 1}`, `type "int; COMMIT" is not known`},
		{`[1]`, `want a string, a number, true, false or null; other values with their type`},
		{`"a\u0000b"`, "want a string, a number"},
	} {
		list := read(t, `{"statements": [{"sql": "SELECT 1"}, {"sql": "SELECT $1::text || $2", "params": ["x", `+c[0]+`]}]}`).Statements
		err := b.refusal(list...)
		require.ErrorContains(t, err, "sqlscript: statement 3, parameter 2: ", c[0])
		require.ErrorContains(t, err, c[1], c[0])
		require.NotContains(t, err.Error(), "secret")
	}
	b.refuses("statement 2, parameter 1: the value does not encode as JSON", sqlscript.Statement{SQL: "SELECT $1", Params: []sqlscript.Param{{Value: make(chan int)}}})
}

// What only Postgres can judge names the parameter too.
func TestValuesThatPostgresRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct{ sql, params, want, code string }{
		{"INSERT INTO effect VALUES ($1)", `["much"]`, `statement 2, parameter 1: ERROR: invalid input syntax for type integer: "…"`, "22P02"},
		{"SELECT $1::text, $2::date", `["x", "2027-02-30"]`, "statement 2, parameter 2: ERROR: date/time field value out of range", "22008"},
		{"SELECT $1::text, $2", `["x", {"type": "jsonb", "value": "\u0000"}]`, "statement 2, parameter 2: ERROR: unsupported Unicode escape sequence", "22P05"},
		{"SELECT $1, $2", `["x", {"type": "numeric", "value": "1e9999"}]`, "", ""},
		{"SELECT $1::int", "[1, 2]", "statement 2, parameter 2: the text has no $2: use the value, or remove it", ""},
		{"SELECT $1::int", `[1, {"type": "int", "value": 2}]`, "statement 2, parameter 2: the text has no $2", ""},
		{"SELECT $1::int, $2::int", "[1]", "statement 2: the text has 2 parameters and 1 value is given: give one for each", ""},
		{"SELECT $1::int", "[]", "statement 2: the text has 1 parameter and 0 values are given", ""},
	} {
		list := read(t, `{"statements": [{"sql": "`+c.sql+`", "params": `+c.params+`}]}`).Statements
		if c.want == "" {
			_, err := b.run(sqlscript.Args{Statements: list})
			require.NoError(t, err, c.sql)
			continue
		}
		err := b.refusal(list...)
		require.ErrorContains(t, err, c.want, c.sql)
		var refused *pgconn.PgError
		if c.code != "" {
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.code, refused.Code)
		}
	}
	_, err := b.run(one("SELECT $1 + $2", sqlscript.Param{}, sqlscript.Param{}))
	require.ErrorContains(t, err, "sqlscript: statement 1: ERROR: operator is not unique")
}

// A value that does not fit is not repeated in the error, which the history keeps.
func TestAnErrorDoesNotRepeatAValue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, sql := range []string{"SELECT $1::int", "SELECT $1::date", "SELECT ($1::text)::int", "SELECT $1::jsonb", "INSERT INTO effect VALUES ($1)"} {
		_, err := b.run(sqlscript.Args{SQL: sql, Params: []sqlscript.Param{{Value: "PARAM s3cret"}}})
		var pgErr *pgconn.PgError
		require.ErrorAs(t, err, &pgErr, sql)
		require.NotContains(t, err.Error(), "s3cret", sql)
		require.Contains(t, err.Error(), "invalid input syntax for type", sql)
	}
}

// What stands behind the first value is an error also for who reads JSON by the types'
// own methods.
func TestArgumentsAreReadToTheirEnd(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"sql": "SELECT 1"} x`, `{"sql": "SELECT 1"}}`, `{"sql": "SELECT 1"} {}`} {
		require.ErrorContains(t, new(sqlscript.Args).UnmarshalJSON([]byte(text)), "there is more behind the value", text)
	}
	for _, text := range []string{`1 x`, `"a"]`, `{"type": "text", "value": "a"} 1`} {
		require.ErrorContains(t, new(sqlscript.Param).UnmarshalJSON([]byte(text)), "there is more behind the value", text)
	}
}
