package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { jobstest.Main(m) }

// watcher keeps what is written, and calls seen when a text appears in it.
type watcher struct {
	mu   sync.Mutex
	all  bytes.Buffer
	text string
	seen func()
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if w.seen != nil && strings.Contains(w.all.String(), w.text) {
		w.seen()
		w.seen = nil
	}
	return len(p), nil
}

func (w *watcher) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// passwords are all that a demo has made.
func passwords(t *testing.T, d *demo) (all []string) {
	t.Helper()
	for _, database := range d.cluster.databases {
		all = append(all, database.Job.Password.Reveal(), database.Owner.Password.Reveal())
	}
	for _, connection := range []string{d.cluster.bed.URL, d.cluster.server.URL("")} {
		u, err := url.Parse(connection)
		require.NoError(t, err)
		password, ok := u.User.Password()
		require.True(t, ok)
		all = append(all, password)
	}
	return all
}

func requireNoPassword(t *testing.T, d *demo, output string) {
	t.Helper()
	for _, password := range passwords(t, d) {
		require.GreaterOrEqual(t, len(password), 20)
		require.NotContains(t, output, password)
	}
}

// requireGone says that nothing of a demo is left but its reports.
func requireGone(t *testing.T, d *demo) {
	t.Helper()
	require.ErrorIs(t, syscall.Kill(d.cluster.server.PID(), 0), syscall.ESRCH, "Postgres still runs")
	_, err := os.Stat(d.cluster.server.SocketDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func reportsIn(t *testing.T, folder string) (files []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	require.NoError(t, err)
	return files
}

// Two at once are not in each other's way, and each shows what it did.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var table, tableErrs, object, objectErrs bytes.Buffer
	forTable, err := parse([]string{"--once", "--dir", folder}, &tableErrs)
	require.NoError(t, err)
	forJSON, err := parse([]string{"--once", "-o", "json"}, &objectErrs)
	require.NoError(t, err)
	asTable := newDemo(forTable, screen{out: &table, err: &tableErrs})
	asJSON := newDemo(forJSON, screen{out: &object, err: &objectErrs})
	t.Cleanup(func() { _ = os.RemoveAll(asJSON.folder) })

	var both sync.WaitGroup
	codes := [2]int{}
	for i, d := range []*demo{asTable, asJSON} {
		both.Go(func() { codes[i] = d.run(t.Context()) })
	}
	both.Wait()
	require.Equal(t, [2]int{cli.ExitOK, cli.ExitOK}, codes, "%s%s", tableErrs.String(), objectErrs.String())
	requireNoPassword(t, asTable, table.String()+tableErrs.String())
	requireNoPassword(t, asJSON, object.String()+objectErrs.String())
	requireGone(t, asTable)
	requireGone(t, asJSON)
	requireTable(t, folder, table.String(), tableErrs.String())
	requireObject(t, object.Bytes())
}

// requireObject looks at what programs read.
func requireObject(t *testing.T, out []byte) {
	t.Helper()
	var s map[string]any
	decoder := json.NewDecoder(bytes.NewReader(out))
	require.NoError(t, decoder.Decode(&s))
	require.ErrorIs(t, decoder.Decode(&s), io.EOF, "one object, and nothing behind it")

	// Three for each of the 24 tenants with work, one for each of their
	// databases, and what was scheduled: one at least.
	require.GreaterOrEqual(t, s["jobs"], 24*3.0+6+1)
	require.Equal(t, s["jobs"], s["succeeded"])
	require.Greater(t, s["seconds"], 0.0)
	require.True(t, filepath.IsAbs(s["reports"].(string)))
	delete(s, "jobs")
	delete(s, "succeeded")
	delete(s, "seconds")
	folder := s["reports"].(string)
	delete(s, "reports")
	require.Equal(t, map[string]any{"tenants": 29.0, "failed": 0.0, "databases_opened": 6.0, "tenants_untouched": 5.0}, s)

	require.GreaterOrEqual(t, len(reportsIn(t, folder)), 25)
	csv, err := os.ReadFile(reportsIn(t, folder)[0])
	require.NoError(t, err)
	require.Regexp(t, `\Abrand,budget,tasks,unfinished,points_left,newest\nAcorn Studio Online,\d+,`, string(csv))
}

var (
	anyUID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f-]{21}`)
	anyReport = regexp.MustCompile(`[a-z0-9-]+/brands-[0-9a-f-]{36}\.csv`)
	anyTime   = regexp.MustCompile(` +\d+(ms|\.\ds)`)
	anyCount  = regexp.MustCompile(`\d+ jobs: \d+ succeeded`)

	// A schedule of the habits may come due at any minute of the day, and its
	// name makes a column wider; the one due soon is due again on a slow machine.
	otherSchedules = regexp.MustCompile(`(?m)^.* schedule (nightly|monday|workday|quarterly)-.*\n`)
	dueSoon        = regexp.MustCompile(`(?m)(^.* schedule live-brands .*\n)+`)
	fromColumn     = regexp.MustCompile(`(FROM|enqueued|live-brands) +(OUTCOME|succeeded)`)
)

// requireTable looks at what people read.
func requireTable(t *testing.T, folder, out, errs string) {
	t.Helper()
	require.Regexp(t, `(?s)\d+\.\d s: a private Postgres with 29 tenants in 11 databases, 15033 tasks in all\n.*\d+\.\d s: all jobs have ended\n`, errs)
	require.True(t, strings.HasSuffix(errs, afterwards+"\n"), errs)

	// Each report that it names is there. On a slow machine the schedule that is due soon
	// writes another one while the table is printed.
	named := anyReport.FindAllString(out, -1)
	require.GreaterOrEqual(t, len(named), 25)
	for _, key := range named {
		require.FileExists(t, filepath.Join(folder, key))
	}
	got := strings.ReplaceAll(out, folder, "FOLDER")
	got = otherSchedules.ReplaceAllString(got, "")
	got = dueSoon.ReplaceAllString(got, "$1")
	got = anyUID.ReplaceAllString(got, "UID")
	got = anyTime.ReplaceAllString(got, "  TIME")
	got = anyCount.ReplaceAllString(got, "N jobs: N succeeded")
	got = regexp.MustCompile(`OUTCOME +TOOK`).ReplaceAllString(got, "OUTCOME  TOOK")
	got = fromColumn.ReplaceAllString(got, "$1  $2")
	golden(t, "table.golden", got)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]string{
		"while Postgres starts":      "starting",
		"while databases are made":   "making",
		"while databases are filled": "filling",
		"while the jobs run":         "jobs done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var out bytes.Buffer
			errs := &watcher{text: at, seen: cancel}
			d := newDemo(options{format: "table"}, screen{out: &out, err: errs, width: 80, live: true})
			require.Equal(t, cli.ExitInterrupted, d.run(ctx), errs.String())
			require.Empty(t, out.String())
			require.True(t, strings.HasSuffix(errs.String(), "demo: interrupted\n"+wipe), errs.String())
			if d.cluster != nil {
				requireGone(t, d)
			}
			if d.folder != "" {
				_, err := os.Stat(d.folder)
				require.ErrorIs(t, err, fs.ErrNotExist)
			}
		})
	}
}

// stay shows a demo to a terminal and returns it when it has shown everything.
// It ends with the test, and must then end well.
func stay(t *testing.T) (d *demo, output string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	up, ended := make(chan struct{}), make(chan int, 1)
	var out bytes.Buffer
	errs := &watcher{text: "Your own databases", seen: func() { close(up) }}
	d = newDemo(options{format: "table", dir: t.TempDir()}, screen{out: &out, err: errs, width: 80, live: true})
	go func() { ended <- d.run(ctx) }()
	select {
	case <-up:
	case code := <-ended:
		cancel()
		t.Fatalf("it ended with %d: %s", code, errs)
	}
	t.Cleanup(func() {
		cancel()
		require.Equal(t, cli.ExitOK, <-ended, errs.String())
		requireGone(t, d)
	})
	return d, out.String() + errs.String()
}

// The address that is printed opens River's UI on this very instance.
func TestItsPages(t *testing.T) {
	t.Parallel()
	_, output := stay(t)
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/river/\?token=\w+`).FindString(output)
	require.NotEmpty(t, address, output)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(of string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, of, http.NoBody)
		require.NoError(t, err)
		answer, err := browser.Do(req)
		require.NoError(t, err)
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, errors.Join(err, answer.Body.Close()))
		require.Equal(t, http.StatusOK, answer.StatusCode, string(text))
		return string(text)
	}
	require.Contains(t, get(address), "River")
	base, _, _ := strings.Cut(address, "?")
	require.Contains(t, get(base+"api/jobs?state=completed&limit=200"), `"kind":"transfer"`)
}

func TestStaysUp(t *testing.T) {
	t.Parallel()
	d, output := stay(t)
	for _, line := range strings.Split(output[strings.Index(output, "TENANT"):strings.Index(output, "Reports")], "\n") {
		require.LessOrEqual(t, len([]rune(line)), 80, line)
	}
	ofCentral := regexp.MustCompile(`export DATABASE_URL='(.*)'`).FindStringSubmatch(output)
	require.NotNil(t, ofCentral, output)
	require.Equal(t, 1, strings.Count(output, d.cluster.bed.Key.Reveal()))
	requireNoPassword(t, d, strings.Replace(output, ofCentral[0], "", 1))
	_, next, _ := strings.Cut(output, "The service stays")
	for line := range strings.Lines("The service stays" + next) {
		if !strings.Contains(line, "export ") {
			require.LessOrEqual(t, len(strings.TrimSpace(line)), 80, line)
		}
	}
	carryOut(t, d, output)

	conn, err := pgx.Connect(t.Context(), ofCentral[1])
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	var requests int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM transfer_requests`).Scan(&requests))
	require.Equal(t, 24, requests)
}

// carryOut runs the commands that a demo has shown, in the repository's folder, until
// the example worker has done the job that they ask for.
func carryOut(t *testing.T, d *demo, output string) {
	t.Helper()
	bin := t.TempDir() + "/"
	script := "set -e\n"
	_, next, _ := strings.Cut(output, "The service stays")
	for line := range strings.Lines("The service stays" + next) {
		if command, ok := strings.CutPrefix(line, "  "); ok {
			script += regexp.MustCompile(`\bbin/`).ReplaceAllLiteralString(command, bin)
		}
	}
	shell := exec.CommandContext(t.Context(), "bash", "-c", script+"read -r _ || true; kill %1; wait")
	shell.Dir = "../.."
	shell.Cancel = func() error { return shell.Process.Signal(syscall.SIGTERM) }
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "DATABASE_") && !strings.HasPrefix(entry, "HEADGATE_") {
			shell.Env = append(shell.Env, entry)
		}
	}
	stdin, err := shell.StdinPipe()
	require.NoError(t, err)
	var said bytes.Buffer
	shell.Stdout, shell.Stderr = &said, &said
	require.NoError(t, shell.Start())

	const done = `SELECT EXISTS (SELECT FROM headgate.outcomes WHERE kind = 'welcome' AND state = 'succeeded')`
	require.Eventually(t, func() bool {
		var is bool
		return d.cluster.bed.Pool.QueryRow(t.Context(), done).Scan(&is) == nil && is
	}, 2*time.Minute, 20*time.Millisecond, "%s", script)
	require.NoError(t, stdin.Close())
	require.NoError(t, shell.Wait(), said.String())
	require.Contains(t, said.String(), "welcome")
	require.Contains(t, said.String(), "live-brands")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, cli.ExitOK, "Usage of demo"},
		{[]string{"--twice"}, cli.ExitUsage, "-twice"},
		{[]string{"-o", "xml"}, cli.ExitUsage, `"xml": write table or json`},
		{[]string{"once"}, cli.ExitUsage, `"once" is not understood`},
	} {
		var errs bytes.Buffer
		require.Equal(t, test.code, run(t.Context(), test.args, screen{out: io.Discard, err: &errs}))
		require.Contains(t, errs.String(), test.says)
	}
}

// A pipe whose reader has gone is an error that is told, and everything is
// cleaned up all the same.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	var errs bytes.Buffer
	d := newDemo(options{once: true, format: "json"}, screen{out: brokenPipe{}, err: &errs})
	require.Equal(t, cli.ExitFailed, d.run(t.Context()))
	require.Contains(t, errs.String(), "showing the result: broken pipe")
	requireGone(t, d)
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }
