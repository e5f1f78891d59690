//go:build unix

package localpg

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestRestartImmediateKeepsAcknowledgedRows(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	execute(t, s.URL(""), "CREATE TABLE acknowledged (n int)")
	conn, err := pgx.Connect(t.Context(), s.URL(""))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	for n := range 20 {
		_, err := conn.Exec(t.Context(), "INSERT INTO acknowledged VALUES ($1)", n)
		require.NoError(t, err)
	}
	address, pid := s.URL(""), s.PID()

	require.NoError(t, s.Restart(t.Context(), "immediate"))

	require.Error(t, conn.Ping(t.Context()), "a session survived")
	require.NotEqual(t, pid, s.PID())
	require.Equal(t, address, s.URL(""))
	require.Equal(t, "20", query(t, s.URL(""), "SELECT count(*)::text FROM acknowledged"))
}

func TestRestartFastKeepsPort(t *testing.T) {
	t.Parallel()
	s := start(t, Config{TCP: true})
	execute(t, s.URL(""), "CREATE TABLE kept ()")
	port := s.Port()
	require.NoError(t, s.Restart(t.Context(), "fast"))
	require.Equal(t, port, s.Port())
	require.Equal(t, "0", query(t, s.URL(""), "SELECT count(*)::text FROM kept"))
}

func TestRestartRefusesUnknownMode(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	require.ErrorContains(t, s.Restart(t.Context(), "smart"), "fast or immediate")
	require.Equal(t, "1", query(t, s.URL(""), "SELECT 1::text"))
}
