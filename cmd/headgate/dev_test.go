//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// bare is a command line with no central database: dev brings its own.
func bare(t *testing.T) *commandLine {
	return &commandLine{t: t, environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TZ=UTC"}}
}

// readable is a temporary directory that Postgres's own account can enter.
func readable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hgdev-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// dev runs a command on a private Postgres, ends as it does and leaves nothing.
func TestDevRunsACommand(t *testing.T) {
	t.Parallel()
	c := bare(t)
	file := filepath.Join(t.TempDir(), "env")
	r := c.run("dev", "--", "sh", "-c", "env > '"+file+"'; echo out; echo err >&2; exit 7")
	require.Equal(t, 7, r.code, r.err)
	require.Equal(t, "out\n", r.out)
	require.Equal(t, "err\n", r.err, "dev itself is silent")
	env := readEnv(t, file)
	require.Contains(t, env["DATABASE_URL"], "/headgate?")
	require.Contains(t, env["HEADGATE_TEST_SERVER"], "/postgres?")
	require.Contains(t, env["HEADGATE_KEY"], "dev:")
	socket := socketOf(t, env["DATABASE_URL"])
	require.NoDirExists(t, socket, "nothing is left behind")

	r = c.run("dev", "--bare", "--", "sh", "-c", "env > '"+file+"'")
	require.Zero(t, r.code, r.err)
	env = readEnv(t, file)
	require.Empty(t, env["DATABASE_URL"])
	require.Empty(t, env["HEADGATE_KEY"])
	require.NotEmpty(t, env["HEADGATE_TEST_SERVER"])

	r = c.run("dev", "--bare", "--", "sh", "-c", "kill -KILL $$")
	require.Equal(t, 128+9, r.code, r.err)
}

// The command finds a migrated central database with the variables it gets.
func TestDevCommandHasACentralDatabase(t *testing.T) {
	t.Parallel()
	c := bare(t)
	c.set(asMain, "1")
	c.set("DATABASE_URL_FILE", "/nonexistent")
	c.set("HEADGATE_KEY_FILE", "")
	r := c.run("dev", "--", os.Args[0], "server", "list", "-o", "json")
	require.Zero(t, r.code, r.err)
	require.Equal(t, "[]\n", r.out)
}

// A signal goes on to the command, and its answer is dev's.
func TestDevForwardsSignals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGTERM, 15}, {syscall.SIGINT, 2}} {
		t.Run(test.signal.String(), func(t *testing.T) {
			t.Parallel()
			c := bare(t)
			cmd, out := c.process("dev", "--bare", "--", "sh", "-c",
				`trap 'exit 15' TERM; trap 'exit 2' INT; echo "$HEADGATE_TEST_SERVER"; echo waiting; while :; do sleep 0.1; done`)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, whoever runs the tests
			require.NoError(t, cmd.Start())
			out.await(t, "waiting")
			require.NoError(t, cmd.Process.Signal(test.signal))
			_ = cmd.Wait() // the exit code says how
			require.Equal(t, test.code, cmd.ProcessState.ExitCode(), out.String())
			url, _, _ := strings.Cut(out.String(), "\n")
			require.NoDirExists(t, socketOf(t, url))
		})
	}
}

// Without a command dev serves, says how to look in, and with --data goes on
// where it stopped.
func TestDevServes(t *testing.T) {
	t.Parallel()
	data := filepath.Join(readable(t), "data")
	var keys, tenants []string
	for range 2 {
		c := bare(t)
		serving := c.start("dev", "--data", data, "--reports", t.TempDir())
		serving.err.await(t, "ready")
		said := serving.err.String()
		require.Contains(t, said, "kept in "+data)
		inside := bare(t)
		inside.set("DATABASE_URL", quoted(t, said, "export DATABASE_URL="))
		keyFile := quoted(t, said, "export HEADGATE_KEY_FILE=")
		inside.set("HEADGATE_KEY_FILE", keyFile)
		key, err := os.ReadFile(keyFile)
		require.NoError(t, err)
		info, err := os.Stat(keyFile)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		keys = append(keys, string(key))
		_, err = catalog.LoadKeyRing((&cli.App{Environ: inside.environ}).Env)
		require.NoError(t, err)
		if len(tenants) == 0 {
			inside.ok("server", "add", "dev", "--socket", socketOf(t, inside.environ[3][len("DATABASE_URL="):]))
		}
		tenants = append(tenants, inside.ok("server", "list", "-o", "json"))
		require.Equal(t, cli.ExitOK, serving.end(), serving.err.String())
		require.Empty(t, serving.out.String())
	}
	require.Equal(t, keys[0], keys[1])
	require.Equal(t, tenants[0], tenants[1])
}

func TestDevTCP(t *testing.T) {
	t.Parallel()
	c := bare(t)
	serving := c.start("dev", "--tcp", "--reports", t.TempDir())
	serving.err.await(t, "ready")
	address := quoted(t, serving.err.String(), "export DATABASE_URL=")
	require.Contains(t, address, "@127.0.0.1:")
	inside := bare(t)
	inside.set("DATABASE_URL", address)
	require.Equal(t, "[]\n", inside.ok("tenant", "list", "-o", "json"))
	require.NotEmpty(t, quoted(t, serving.err.String(), "export HEADGATE_KEY="))
	require.Equal(t, cli.ExitOK, serving.end(), serving.err.String())
}

// quoted returns what stands in single quotes behind a text.
func quoted(t *testing.T, in, behind string) string {
	t.Helper()
	_, rest, found := strings.Cut(in, behind+"'")
	require.True(t, found, "%q is not in\n%s", behind, in)
	value, _, _ := strings.Cut(rest, "'")
	return value
}

func readEnv(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	return env
}

// socketOf is the directory of the socket in a URL of package localpg.
func socketOf(t *testing.T, address string) string {
	t.Helper()
	app := cli.New("headgate", nil, nil, nil, []string{"DATABASE_URL=" + address})
	cfg, err := app.Config()
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(cfg.ConnConfig.Host), address)
	return cfg.ConnConfig.Host
}
