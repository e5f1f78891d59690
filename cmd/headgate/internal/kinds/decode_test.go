package kinds

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/wire"
)

func TestStrictArguments(t *testing.T) {
	t.Parallel()
	app := cli.New("headgate", nil, nil, nil, nil)
	for _, test := range []struct{ kind, args, says string }{
		{"headgate.purge", `{"table": "t", "older_then": "9d"}`, "args.older_then: unknown argument (did you mean older_than?); this kind takes batch, column, max_rows, older_than, table"},
		{"headgate.purge", `{"Table": "t"}`, "args.Table: unknown argument (did you mean table?)"},
		{"headgate.purge", `{"batch": "many"}`, "args.batch: want integer, got string"},
		{"headgate.purge", `{"batch": 1.5}`, "args.batch: want integer, got number 1.5"},
		{"headgate.purge", `{"batch": null}`, "args.batch: want integer, got null"},
		{"headgate.purge", `{"table": ["t"]}`, "args.table: want string, got array"},
		{"headgate.analyze", `{"tables": "t"}`, "args.tables: want list, got string"},
		{"headgate.analyze", `{"tables": [1]}`, "args.tables"},
		{"headgate.vacuum", `{"analyze": 1}`, "args.analyze: want true or false, got number"},
		{"headgate.report", `{"query": 1}`, "args.query: want string, got number"},
		{"headgate.report", `{"args": [{}]}`, "args"},
		{"headgate.purge", `{"table": "t"`, "args are not JSON: unexpected end"},
		{"headgate.purge", `{"table": "t"} {}`, "args are not JSON"},
		{"headgate.purge", `[]`, "args must be a JSON object"},
		{"headgate.purge", ``, "args are not JSON"},
		{"app.own", `"x"`, "args must be a JSON object"},
		{"headgate.nonsense", `{}`, `kind "headgate.nonsense" is unknown; the built-in kinds are headgate.report, headgate.sql, headgate.purge, headgate.analyze, headgate.vacuum, headgate.organisations, headgate.sync`},
	} {
		_, err := Args(app, test.kind, []byte(test.args), jobs.ScopeTenant)
		require.ErrorContains(t, err, test.says, "%s %s", test.kind, test.args)
		require.Equal(t, cli.ExitUsage, cli.ExitCode(err))
	}

	args, err := Args(app, "headgate.purge", []byte(`{"table": "t", "column": "at", "older_than": "9d", "batch": 7}`), jobs.ScopeTenant)
	require.NoError(t, err)
	require.Equal(t, maintenance.Purge{Table: "t", Column: "at", OlderThan: "9d", Batch: 7}, args)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	kinds := Names()
	require.Equal(t, []string{"headgate.purge"}, cli.Nearest("headgate.pruge", kinds, ""))
	require.Equal(t, []string{"--state"}, cli.Nearest("stat", []string{"state", "kind"}, "--"))
	require.Empty(t, cli.Nearest("app.send", kinds, ""))
	require.Empty(t, cli.Nearest("x", []string{"o"}, ""))
}

// A name that an object has twice, and text that is none, are refused on the command
// line as in a file: Postgres would keep the last, or nothing.
func TestArgumentsThatPostgresWouldChangeAreRefused(t *testing.T) {
	t.Parallel()
	app := cli.New("headgate", nil, nil, nil, nil)
	app.Stderr = io.Discard
	for args, says := range map[string]string{
		`{"a": 1, "a": 2}`:                    `args.a is given twice`,
		`{"a": 1, "\u0061": 2}`:               `args.a is given twice`,
		`{"l": [0, {"b": {"c": 1, "c": 1}}]}`: `args.l[1].b.c is given twice`,
		`{"a": "\ud800"}`:                     `half of a character`,
		`{"a": "\udc00\ud800"}`:               `half of a character`,
		`{"\ud800": 1}`:                       `half of a character`,
		`{"a": "\u0000"}`:                     `U+0000`,
		`{"a": 1} {"a": 2}`:                   `args are not JSON`,
		`{"a": 1}]`:                           `args are not JSON`,
		`{"a": 1}x`:                           `args are not JSON`,
		`{"n": 1e400000}`:                     `args.n is a number of more than`,
	} {
		for _, kind := range []string{"app.own", "headgate.report"} {
			_, err := Args(app, kind, []byte(args), jobs.ScopeTenant)
			require.ErrorContains(t, err, says, "%s %s", kind, args)
			require.Equal(t, cli.ExitUsage, cli.ExitCode(err))
		}
	}
	args, err := Args(app, "app.own", []byte(`{"a": {"x": 1}, "b": {"x": 1}, "x": [{"x": 1}, {"x": "😀 \ud83d\ude00"}], "n": 123456789012345678901234567890}`), jobs.ScopeTenant)
	require.NoError(t, err)
	_, err = wire.EncodeArgs(args)
	require.NoError(t, err)
}
