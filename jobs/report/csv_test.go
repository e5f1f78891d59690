package report_test

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs/report"
)

// A line is what encoding/csv writes, but for cells with a semicolon, and is read as
// what was written.
func TestLinesOfCSV(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cells := rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune("a\"',;\n\t =-\\.\u00a0ü"))), 2, 5).Draw(t, "cells")
		line := report.AppendCSV(nil, cells)
		var want bytes.Buffer
		out := csv.NewWriter(&want)
		require.NoError(t, out.Write(cells))
		out.Flush()
		if !strings.Contains(strings.Join(cells, ""), ";") {
			require.Equal(t, want.String(), string(line))
		}
		read, err := csv.NewReader(bytes.NewReader(line)).Read()
		require.NoError(t, err)
		require.Equal(t, cells, read)
	})
	require.Equal(t, "\"a;=1\",b,\"x\"\"y\"\n", string(report.AppendCSV(nil, []string{"a;=1", "b", `x"y`})))
}

func TestGuard(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "\rx": "'\rx", "\n=1": "'\n=1", "a=b": "a=b", "": "", "a =1": "a =1"} {
		require.Equal(t, want, report.Guard(text))
	}
}
