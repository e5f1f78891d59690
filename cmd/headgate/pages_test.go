package main

import (
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

var pagesAt = regexp.MustCompile(`headgate: the pages are at (http://127\.0\.0\.1:\d+/river/\S*)`)

// The pages are served as long as the process runs, at the address that it prints.
func TestPages(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	c.ok("job", "enqueue", "note", "--tenant", "acme")
	for _, x := range []struct {
		flags []string
		code  int
		shows string
	}{
		{nil, http.StatusOK, `"kind":"note"`},
		{[]string{"--ui-write", "--listen-name", "jobs.internal", "--ui-detail", "full"}, http.StatusUnauthorized, "one-time address"},
	} {
		w := c.start(append([]string{"serve", "--reports", t.TempDir(), "--listen", "0"}, x.flags...)...)
		w.err.await(t, "msg=ready")
		base := regexp.MustCompile(`^[^?]*`).FindString(pagesAt.FindStringSubmatch(w.err.String())[1])
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"api/jobs?state=available", http.NoBody)
		require.NoError(t, err)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, x.code, answer.StatusCode, string(text))
		require.Contains(t, string(text), x.shows)
		c.fails(cli.ExitFailed, []string{"healthcheck", req.URL.Host}, "the pages of --listen answer there: give the address of --health")
		w.stop()
		require.Equal(t, cli.ExitOK, w.wait())
		_, err = client.Do(req) //nolint:bodyclose // there is none
		require.Error(t, err, "nobody answers any more")
	}
}

// What cannot be served is refused before anything is opened.
func TestPagesRefused(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	for _, command := range []string{"serve", "worker", "dev"} {
		c.fails(cli.ExitUsage, []string{command, "--listen", "0.0.0.0:9190"}, `"0.0.0.0:9190" can be reached from other machines`, "ssh -L 9190:127.0.0.1:9190 HOST")
	}
	c.fails(cli.ExitUsage, []string{"serve", "--ui-write"}, "--listen ADDRESS serves")
	c.fails(cli.ExitUsage, []string{"serve", "--listen", "0", "--ui-detail", "all"}, "is not one of redacted, full")
	c.fails(cli.ExitUsage, []string{"serve", "--listen", "0", "--listen-name", "a:80"}, `"a:80" is no host's name`)
}
