package main

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// commandLine is the program in one environment.
type commandLine struct {
	t       *testing.T
	environ []string
	secrets []string // which no output may hold
}

// newCLI is a command line on a server of the test's.
func newCLI(t *testing.T, serverURL string) *commandLine {
	t.Helper()
	c := &commandLine{t: t, environ: []string{"TZ=UTC", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	if b := jobstest.TestBouncer(t); b != nil {
		c = c.with("DATABASE_URL", b.URL(serverURL)).with("DATABASE_DIRECT_URL", serverURL).with("HEADGATE_CENTRAL_POOLER", "transaction")
	} else {
		c = c.with("DATABASE_URL", serverURL)
	}
	u, err := url.Parse(serverURL)
	require.NoError(t, err)
	password, _ := u.User.Password()
	require.NotEmpty(t, password, "without a password the tests prove nothing about secrets")
	c.secrets = []string{password}
	return c
}

// bare is a command line that brings its own server.
func bare(t *testing.T) *commandLine {
	return &commandLine{t: t, environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TZ=UTC"}}
}

// with is the same command line with one more variable.
func (c *commandLine) with(name, value string) *commandLine {
	changed := *c
	changed.environ = append(append([]string{}, c.environ...), name+"="+value)
	return &changed
}

func (c *commandLine) run(args ...string) (code int, out, err string) {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // slow and busy machines too
	defer cancel()
	code = run(ctx, args, strings.NewReader(""), &stdout, &stderr, c.environ)
	for _, secret := range c.secrets {
		require.NotContains(c.t, stdout.String()+stderr.String(), secret, "%q shows a secret", args)
	}
	return code, stdout.String(), stderr.String()
}

// ok runs a command that has to succeed and returns what it printed.
func (c *commandLine) ok(args ...string) string {
	c.t.Helper()
	code, out, err := c.run(args...)
	require.Equal(c.t, cli.ExitOK, code, "%q: %s%s", args, out, err)
	return out
}

// fails runs a command that has to fail with a code and one sentence that holds all of
// says.
func (c *commandLine) fails(code int, args []string, says ...string) {
	c.t.Helper()
	got, out, err := c.run(args...)
	require.Equal(c.t, code, got, "%q: %s%s", args, out, err)
	require.Empty(c.t, out, "%q: a failure is for stderr", args)
	lines := strings.Split(strings.TrimSuffix(err, "\n"), "\n")
	last := lines[len(lines)-1]
	require.True(c.t, strings.HasPrefix(last, "bench: "), "%q: %s", args, err)
	for _, text := range says {
		require.Contains(c.t, last, text, "%q", args)
	}
}
