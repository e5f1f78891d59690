//go:build unix

package localpg

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestServerAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	require.Equal(t, "1", query(t, s.URL("postgres"), "SELECT 1::text"))
	require.Equal(t, "300", query(t, s.URL(""), "SHOW max_connections"))
	require.Equal(t, "off", query(t, s.URL(""), "SHOW fsync"))
	require.Equal(t, "on", query(t, s.URL(""), "SHOW synchronous_commit"))
	require.Equal(t, "", query(t, s.URL(""), "SHOW listen_addresses"))
	require.FileExists(t, filepath.Join(s.BinDir(), "postgres"))
	_, err := os.Stat(filepath.Join(s.SocketDir(), ".s.PGSQL."+strconv.Itoa(s.Port())))
	require.NoError(t, err)
}

func TestServerOpensOddlyNamedDatabase(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	execute(t, s.URL(""), `CREATE DATABASE "a b/c?d"`)
	require.Equal(t, "a b/c?d", query(t, s.URL("a b/c?d"), "SELECT current_database()::text"))
}

func TestServerRefusesWrongPassword(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	for _, user := range []*url.Userinfo{url.User(superuser), url.UserPassword(superuser, "guess")} {
		address, err := url.Parse(s.URL(""))
		require.NoError(t, err)
		address.User = user
		_, err = pgx.Connect(t.Context(), address.String())
		require.Error(t, err)
	}
	var refusal *pgconn.PgError
	address, _ := url.Parse(s.URL(""))
	address.User = url.UserPassword(superuser, "guess")
	_, err := pgx.Connect(t.Context(), address.String())
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, "28P01", refusal.Code)
}

func TestServerHasPasswordOfItsOwn(t *testing.T) {
	t.Parallel()
	one, other := start(t, Config{}), start(t, Config{})
	require.NotEqual(t, one.password, other.password)
	require.NotEqual(t, one.PID(), other.PID())
	execute(t, one.URL(""), "CREATE TABLE only_here ()")
	require.Equal(t, "true", query(t, other.URL(""), "SELECT (to_regclass('only_here') IS NULL)::text"))
	require.NoFileExists(t, one.dir.password())
}

func TestServerTCPOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	s := start(t, Config{TCP: true})
	require.Equal(t, "127.0.0.1", query(t, s.URL(""), "SHOW listen_addresses"))
	address, err := url.Parse(s.URL(""))
	require.NoError(t, err)
	address.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port()))
	address.RawQuery = "sslmode=disable"
	require.Equal(t, "1", query(t, address.String(), "SELECT 1::text"))
}

func TestServerTakesSettings(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Durable: true, MaxConnections: 7, Settings: map[string]string{"work_mem": "5MB", "application_name": "it's = odd"}})
	require.Equal(t, "on", query(t, s.URL(""), "SHOW fsync"))
	require.Equal(t, "on", query(t, s.URL(""), "SHOW full_page_writes"))
	require.Equal(t, "7", query(t, s.URL(""), "SHOW max_connections"))
	require.Equal(t, "5MB", query(t, s.URL(""), "SHOW work_mem"))
	require.Equal(t, "it's = odd", query(t, s.URL(""), "SHOW application_name"))
}

func TestStopTwice(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	require.DirExists(t, s.SocketDir())
	require.NoError(t, s.Stop())
	require.False(t, postmaster{pid: s.PID()}.lives())
	require.NoDirExists(t, s.SocketDir())
	require.NoError(t, s.Stop())
	require.ErrorContains(t, s.Restart(t.Context(), "fast"), "was stopped")
}

func TestStopWithOpenSession(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	conn, err := pgx.Connect(t.Context(), s.URL(""))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	require.NoError(t, s.Stop())
	require.Error(t, conn.Ping(t.Context()))
}

func TestStartTellsLastWords(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{Settings: map[string]string{"shared_buffers": "plenty"}})
	require.ErrorIs(t, err, errServerDied)
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers"`)
}

func TestStartGivesUpInTime(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Config{StartTimeout: time.Millisecond})
	require.ErrorContains(t, err, "not ready after 1ms")
}

func TestStartCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Config{Notify: func(string) { t.Error("fetched for a caller who is gone") }})
	require.ErrorIs(t, err, context.Canceled)
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for text, cfg := range map[string]Config{
		"chosen by this package": {Settings: map[string]string{"Port": "1"}},
		"no name of a server":    {Settings: map[string]string{"a=b": "1"}},
		"MaxConnections":         {MaxConnections: -1},
		"StartTimeout":           {StartTimeout: -1},
	} {
		_, err := Start(t.Context(), cfg)
		require.ErrorContains(t, err, text)
		_, err = FindBinaries(t.Context(), cfg)
		require.ErrorContains(t, err, text)
	}
}

// In memory, where there is enough of it, a server's files are in a file system of
// memory, and are gone like others.
func TestServerInMemory(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Memory: true})
	base := filepath.Dir(query(t, s.URL(""), "SHOW unix_socket_directories"))
	if want := memoryBase(account{}); want != "" {
		require.Equal(t, want, base)
	} else {
		require.Equal(t, os.TempDir(), base)
	}
	require.NoError(t, s.Stop())
	_, err := os.Stat(s.SocketDir())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Start(context.Background(), Config{Memory: true, Durable: true})
	require.ErrorContains(t, err, "what is in memory does not last")
}
