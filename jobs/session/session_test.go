package session_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/session"
)

// The documentation has the list as it is, row by row.
func TestTheListIsDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/guarantees.md")
	require.NoError(t, err)
	var rows []string
	for _, s := range append(session.Tenant, session.Timeless...) {
		rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s |", s.Name, s.Value, s.Why))
	}
	require.Contains(t, string(text), strings.Join(rows, "\n")+"\n\n")
	rows = nil
	for _, s := range session.Left {
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", strings.ReplaceAll(s.Name, ", ", "`, `"), s.Why))
	}
	require.Contains(t, string(text), strings.Join(rows, "\n")+"\n\n")
}

// What is pinned wins over what was there, whatever its case.
func TestPinReplaces(t *testing.T) {
	t.Parallel()
	params := map[string]string{"datestyle": "German", "search_path": "app"}
	session.Pin(params, session.Tenant)
	require.Equal(t, "ISO, MDY", params["DateStyle"])
	require.NotContains(t, params, "datestyle")
	require.Equal(t, "app", params["search_path"])
	session.Unpin(params)
	require.Equal(t, map[string]string{"search_path": "app", "client_encoding": "UTF8"}, params)
}

// Only servers that know the timeout of transactions are told to lift it.
func TestKnowsTransactionTimeout(t *testing.T) {
	t.Parallel()
	for version, knows := range map[string]bool{"": false, "9.6.1": false, "16.4 (Debian)": false, "17.0": true, "18beta1": true} {
		require.Equal(t, knows, session.KnowsTransactionTimeout(version), version)
	}
}
