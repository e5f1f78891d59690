package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// asMain makes the test binary be the program itself, for what needs a process
// of its own: signals, and pgx's own look at the environment.
const asMain = "HEADGATE_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) == "1" {
		main()
	}
	if os.Getenv(asPsql) == "1" {
		if err := psql(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	jobstest.Main(m)
}

// commandLine is the program in one environment.
type commandLine struct {
	t       *testing.T
	environ []string
	secrets []string // which no output may hold
}

// result is how one run ended.
type result struct {
	code     int
	out, err string
}

// newCLI is a command line on a central database.
func newCLI(t *testing.T, centralURL string) *commandLine {
	t.Helper()
	key := catalog.NewKey("test").Reveal()
	c := &commandLine{t: t, environ: []string{"TZ=UTC", "USER=tester", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}}
	c.set("DATABASE_URL", centralURL)
	if b := jobstest.TestBouncer(t); b != nil && centralURL != "" {
		c.set("DATABASE_URL", b.URL(centralURL))
		c.set("DATABASE_DIRECT_URL", centralURL)
		c.set("HEADGATE_CENTRAL_POOLER", "transaction")
	}
	c.set("HEADGATE_KEY", key)
	u, err := url.Parse(centralURL)
	require.NoError(t, err)
	password, _ := u.User.Password()
	require.NotEmpty(t, password, "without a password the tests prove nothing about secrets")
	c.secrets = []string{password, strings.TrimPrefix(key, "test:")}
	return c
}

// setup is a migrated central database of jobstest with a command line on it.
func setup(t *testing.T) (*commandLine, *jobstest.Env) {
	t.Helper()
	env := jobstest.New(t)
	c := newCLI(t, env.URL)
	c.set("HEADGATE_KEY", env.Key)
	c.secrets = append(c.secrets, env.Key)
	return c, env
}

func (c *commandLine) set(name, value string) { c.environ = append(c.environ, name+"="+value) }

// with is the same command line with one more variable.
func (c *commandLine) with(name, value string) *commandLine {
	changed := *c
	changed.environ = append(append([]string{}, c.environ...), name+"="+value)
	return &changed
}

// run runs one command with a stdin that never ends, as a careless parent
// process leaves it, and holds its output against the secrets.
func (c *commandLine) run(args ...string) result {
	c.t.Helper()
	return c.runWith(context.Background(), endless(c.t), args...)
}

// endless is a stdin that says nothing and does not end before the test.
func endless(t *testing.T) io.Reader {
	stdin, silent := io.Pipe()
	t.Cleanup(func() { _ = silent.Close() }) // never fails
	return stdin
}

func (c *commandLine) runWith(ctx context.Context, stdin io.Reader, args ...string) result {
	c.t.Helper()
	var out, err bytes.Buffer
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // slow and busy machines too
	defer cancel()
	r := result{code: run(ctx, args, stdin, &out, &err, c.environ)}
	r.out, r.err = out.String(), err.String()
	c.noSecrets(args, r)
	return r
}

func (c *commandLine) noSecrets(args []string, r result) {
	c.t.Helper()
	jobstest.Search(c.t, strings.Join(args, " "), r.out+r.err)
	for _, secret := range c.secrets {
		if strings.Contains(r.out+r.err, secret) {
			c.t.Errorf("%q shows a secret:\n%s%s", args, r.out, r.err)
		}
	}
}

// ok runs a command that has to succeed and returns what it printed.
func (c *commandLine) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	require.Equal(c.t, cli.ExitOK, r.code, "%q: %s%s", args, r.out, r.err)
	return r.out
}

// fails runs a command that has to fail with a code and one sentence that holds
// all of says.
func (c *commandLine) fails(code int, args []string, says ...string) string {
	c.t.Helper()
	r := c.run(args...)
	require.Equal(c.t, code, r.code, "%q: %s%s", args, r.out, r.err)
	require.Empty(c.t, r.out, "%q: a failure is for stderr", args)
	lines := strings.Split(strings.TrimSuffix(r.err, "\n"), "\n")
	last := lines[len(lines)-1]
	require.True(c.t, strings.HasPrefix(last, "headgate: "), "%q: %s", args, r.err)
	for _, text := range says {
		require.Contains(c.t, last, text, "%q", args)
	}
	return last
}

// background is a command that stays, in this process.
type background struct {
	t    *testing.T
	stop context.CancelFunc
	code chan int
	out  *watched
	err  *watched
}

func (c *commandLine) start(args ...string) *background {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{t: c.t, stop: cancel, code: make(chan int, 1), out: newWatched(), err: newWatched()}
	stdin := endless(c.t)
	go func() { b.code <- run(ctx, args, stdin, b.out, b.err, c.environ) }()
	c.t.Cleanup(func() {
		cancel()
		c.noSecrets(args, result{out: b.out.String(), err: b.err.String()})
	})
	return b
}

// end stops the command and returns its exit code.
func (b *background) end() int {
	b.t.Helper()
	b.stop()
	return b.wait()
}

func (b *background) wait() int {
	b.t.Helper()
	select {
	case code := <-b.code:
		return code
	case <-time.After(40 * time.Second):
		b.t.Fatalf("it does not end:\n%s%s", b.out.String(), b.err.String())
		return -1
	}
}

// watched is a writer that one can wait on.
type watched struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newWatched() *watched { return &watched{changed: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.changed)
	w.changed = make(chan struct{})
	return w.text.Write(p)
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// await waits until the output holds a text.
func (w *watched) await(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(40 * time.Second)
	for {
		w.mu.Lock()
		found, changed := strings.Contains(w.text.String(), text), w.changed
		w.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%q does not come:\n%s", text, w.String())
		}
	}
}

// process is a command in a process of its own.
func (c *commandLine) process(args ...string) (*exec.Cmd, *watched) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(append([]string{}, c.environ...), asMain+"=1")
	out := newWatched()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, 10*time.Second
	c.t.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill() // it is gone in a test that passes
		}
		c.noSecrets(args, result{out: out.String()})
	})
	return cmd, out
}

// emptyDatabase makes a database on the test server and returns its URL.
func emptyDatabase(t *testing.T) (name, address string) {
	t.Helper()
	name = jobstest.EmptyDatabase(t)
	return name, jobstest.ServerURL(t, name)
}

// admin runs statements as the superuser.
func admin(t *testing.T, dbname string, statements ...string) {
	t.Helper()
	execute(t, jobstest.ServerURL(t, dbname), statements...)
}

// execute runs statements at an address.
func execute(t *testing.T, address string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
}

// ask returns the one value of a query, as text, "" for none or NULL.
func ask(t *testing.T, dbname, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, jobstest.ServerURL(t, dbname))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	var text *string
	require.NoError(t, conn.QueryRow(ctx, "SELECT ("+sql+")::text").Scan(&text), sql)
	if text == nil {
		return ""
	}
	return *text
}

var update = flag.Bool("update", false, "write the golden files anew")

var changing = []struct {
	pattern *regexp.Regexp
	stands  string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"}, // UTC only: another zone is a failure
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`), "<moment>"},
	{regexp.MustCompile(`"hosts": \[[^\]]*\],\s+"transport": "(socket|plain-loopback)"`), `"hosts": ["<host>"], "transport": "<transport>"`},
	{regexp.MustCompile(`"pooler": "transaction"`), `"pooler": "none"`}, // the test server's, see jobstest.EnvPgBouncer
	{regexp.MustCompile(`hg_[0-9a-f]{8}`), "<dbname>"},
	{regexp.MustCompile(`"centre": "\d+/\d+/<uuid>"`), `"centre": "<centre>"`},
	{regexp.MustCompile(`"worker": "[^"]+"`), `"worker": "<worker>"`},
	{regexp.MustCompile(`"(version|go|river|pgx)": "[^"]+"`), `"$1": "<version>"`},
	{regexp.MustCompile(`"(version|program|serves|central_schema|tenant_schema)": [1-9]\d*`), `"$1": "<number>"`},
	{regexp.MustCompile(`(?s)"pending": \[.+?\]`), `"pending": ["<names>"]`},
}

// golden compares output with a file, after replacing what differs in each run.
func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, c := range changing {
		got = c.pattern.ReplaceAllString(got, c.stands)
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "write it with: go test ./cmd/headgate -update")
	require.Equal(t, string(want), got, "the shape of %s is a promise: changing it breaks programs", name)
}
