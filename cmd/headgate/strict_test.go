package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
)

func TestStrictArguments(t *testing.T) {
	t.Parallel()
	p := newProgram(nil, nil, nil, nil)
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
		{"headgate.nonsense", `{}`, `kind "headgate.nonsense" is unknown; the built-in kinds are headgate.report, headgate.sql, headgate.purge, headgate.analyze, headgate.vacuum`},
	} {
		_, err := p.argsFor(test.kind, []byte(test.args), jobs.ScopeTenant)
		require.ErrorContains(t, err, test.says, "%s %s", test.kind, test.args)
		require.Equal(t, exitUsage, exitCode(err))
	}

	args, err := p.argsFor("headgate.purge", []byte(`{"table": "t", "column": "at", "older_than": "9d", "batch": 7}`), jobs.ScopeTenant)
	require.NoError(t, err)
	require.Equal(t, maintenance.Purge{Table: "t", Column: "at", OlderThan: "9d", Batch: 7}, args)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	kinds := builtinKinds()
	require.Equal(t, []string{"headgate.purge"}, nearest("headgate.pruge", kinds, ""))
	require.Equal(t, []string{"--state"}, nearest("stat", []string{"state", "kind"}, "--"))
	require.Empty(t, nearest("app.send", kinds, ""))
	require.Empty(t, nearest("x", []string{"o"}, ""))
}
