package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

// Charge is the arguments of the page's kind.
type Charge struct{ Cents int }

// Kind is the page's.
func (Charge) Kind() string { return "charge" }

// pageProgram is the first program of a page of docs, which has at most so many lines,
// compiled.
func pageProgram(t *testing.T, page string, most int) (binary string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```go\n")
	require.True(t, found)
	source, _, found := strings.Cut(rest, "```\n")
	require.True(t, found)
	lines := 0
	for line := range strings.Lines(source) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	require.LessOrEqual(t, lines, most)
	folder := t.TempDir()
	main := filepath.Join(folder, "main.go")
	require.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	binary = filepath.Join(folder, "charges")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, main).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

// Each further example of docs/hooks.md compiles.
func TestExamplesOfHooksCompile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/hooks.md")
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```go\n")[2:]
	require.NotEmpty(t, blocks)
	source := "package main\n\nimport (\n\t\"context\"\n\t\"log\"\n\t\"time\"\n\n\t\"github.com/headgate/headgate/jobs\"\n\t\"github.com/headgate/headgate/worker\"\n)\n\n" +
		"type Invoice struct{}\n\nvar _ = []worker.Middleware{measure}\n\nvar _ jobs.WithKindOpts = Invoice{}\n\nfunc main() {}\n\n"
	for _, block := range blocks {
		example, _, found := strings.Cut(block, "```\n")
		require.True(t, found)
		source += example + "\n"
	}
	main := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, main).CombinedOutput()
	require.NoError(t, err, "%s\n%s", output, source)
}

// The program of docs/hooks.md counts, tells its tracker, and logs lines that job show and
// job logs find.
func TestTheProgramWithHooks(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	program, output := exec.Command(pageProgram(t, "hooks.md", 40)), newWatched()
	program.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "HEADGATE_KEY="+env.Key)
	program.Stdout, program.Stderr = output, output
	require.NoError(t, program.Start())
	t.Cleanup(func() { _ = program.Process.Kill() }) // an error says that it has ended

	job, err := env.Client.Enqueue(t.Context(), "acme", Charge{Cents: 700}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Cancelled, env.Wait(job.UID).State)
	output.await(t, "tracker: charge of acme, attempt 1: cancelled by its handler: the card has expired (attempts begun: 1)")

	// While it serves its kind, nobody is told that the kind waits for a worker.
	require.NotContains(t, c.run("job", "enqueue", "charge", "--tenant", "acme").err, "is no built-in kind")
	require.Contains(t, c.run("job", "enqueue", "change", "--tenant", "acme").err, "is no built-in kind")

	shown := c.ok("job", "show", job.UID)
	require.Contains(t, shown, "charging")
	require.Contains(t, shown, `{"cents":700}`)
	var view struct {
		Log []jobs.LogLine `json:"log"`
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("job", "show", job.UID, "-o", "json")), &view))
	require.Len(t, view.Log, 1)
	require.Equal(t, "charging", view.Log[0].Message)
	require.Equal(t, 1, view.Log[0].Attempt)
	require.JSONEq(t, `{"cents": 700}`, string(view.Log[0].Attrs))
	require.Contains(t, c.ok("job", "logs", job.UID), "charging")

	require.NoError(t, program.Process.Signal(syscall.SIGTERM))
	require.NoError(t, program.Wait(), "it ends in order")
	t.Log(output.String(), shown)
}

// A log that is longer than a page says how to go on, and nothing is told twice or left out.
func TestJobLogsByPage(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	job, err := env.Client.Enqueue(t.Context(), "acme", Charge{}, nil)
	require.NoError(t, err)
	require.Empty(t, strings.TrimSpace(c.ok("job", "logs", job.UID)))
	_, err = env.Pool.Exec(t.Context(), `
INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines)
SELECT gen_random_uuid(), $1, a, now() + make_interval(secs => a), string_agg(format('{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"line %s of %s","attrs":{}}', n, a), E'\n' ORDER BY n)
FROM generate_series(1, 5) a, generate_series(1, 30) n GROUP BY a`, job.UID)
	require.NoError(t, err)
	var all []jobs.LogLine
	for args := []string{"job", "logs", job.UID, "--limit", "40", "-o", "json"}; ; {
		r := c.run(args...)
		require.Equal(t, cli.ExitOK, r.code, r.err)
		var page []jobs.LogLine
		require.NoError(t, json.Unmarshal([]byte(r.out), &page))
		all = append(all, page...)
		_, next, more := strings.Cut(r.err, "--after ")
		if !more {
			break
		}
		args = append(args[:7:7], "--after", strings.Trim(strings.Fields(next)[0], "`"))
	}
	require.Len(t, all, 150)
	for i, l := range all {
		require.Equal(t, 1+i/30, l.Attempt)
	}
	r := c.run("job", "show", job.UID)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.NotContains(t, r.out, "line 30 of 1")
	require.Contains(t, r.out, "line 30 of 5")
	require.Contains(t, r.err, "the last 100 lines that it has logged; `headgate job logs "+job.UID+"` lists all")
	require.Equal(t, cli.ExitNotFound, c.run("job", "logs", "11111111-2222-4333-8444-555555555555").code)
}
