package main

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// selectEverything is all of the central database's rows that may have to do with a database.
const selectEverything = `
SELECT coalesce((SELECT string_agg(d::text, ' ') FROM headgate.databases d), '') || coalesce((SELECT string_agg(i::text, ' ') FROM headgate.database_intents i), '')`

// No password that the command makes, and not the administrator's, is ever sent to a server,
// printed, or stored in clear: neither by a run that fails nor by the one that goes on.
func TestDatabaseCreateTellsNobodyAPassword(t *testing.T) {
	t.Parallel()
	b, w := wired(t)
	file := filepath.Join(t.TempDir(), "app.url")
	args := []string{"database", "create", b.name, "--server", "wire", "--kind", "shared", "--app-url-file", file, "--log-level", "debug", "-o", "json"}
	mend := b.stuck(args...)
	stored := ask(t, b.central(), selectEverything)
	mend()
	r := b.run(args...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	stored += ask(t, b.central(), selectEverything)

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	u, err := url.Parse(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	app, _ := u.User.Password()
	passwords := []string{app, adminPassword}
	for _, login := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		place, err := b.env.Catalog.ResolveDatabase(t.Context(), b.name, login)
		require.NoError(t, err)
		a, err := place.Open(t.Context())
		require.NoError(t, err)
		require.Len(t, a.Password.Reveal(), 32)
		passwords = append(passwords, a.Password.Reveal())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	require.True(t, bytes.Contains(w.heard.Bytes(), []byte("SCRAM-SHA-256$4096:")), "the wire has heard the statements")
	for i, password := range passwords {
		require.False(t, bytes.Contains(w.heard.Bytes(), []byte(password)), "password %d was sent", i)
		require.False(t, strings.Contains(stored+r.out+r.err, password), "password %d was told or stored", i)
	}
}
