package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

var (
	codeBlock   = regexp.MustCompile("(?ms)^```\n(.*?)^```$")
	placeholder = regexp.MustCompile(`postgres://(\w+):…@(\w+)\.internal/(\w+)`)
)

// asPsql makes the test binary run statements as psql does: psql ADDRESS -c SQL -c SQL.
const asPsql = "HEADGATE_TEST_AS_PSQL"

func psql(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, args[0])
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for i := 2; i < len(args); i += 2 { // behind each -c
		if _, err := conn.Exec(ctx, args[i]); err != nil {
			return fmt.Errorf("%s: %w", args[i], err)
		}
	}
	return nil
}

// terminal is a folder in which a person types, with headgate and psql on the path.
type terminal struct {
	t       *testing.T
	folder  string
	environ []string
	exports string // what has been exported so far
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	program, err := filepath.Abs(os.Args[0])
	require.NoError(t, err)
	folder := t.TempDir()
	for name, as := range map[string]string{"headgate": asMain, "psql": asPsql} {
		script := fmt.Sprintf("#!/bin/sh\nexport %s=1\nexec '%s' \"$@\"\n", as, program)
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(script), 0o700))
	}
	return &terminal{t: t, folder: folder, environ: []string{"TZ=UTC", "HOME=" + folder, "PATH=" + folder + ":" + os.Getenv("PATH")}}
}

func (s *terminal) command(block string) *exec.Cmd {
	cmd := exec.Command("bash", "-eu", "-c", s.exports+block)
	cmd.Dir, cmd.Env = s.folder, s.environ
	return cmd
}

// types is one block that a person types, and what came of it.
func (s *terminal) types(block string) string {
	s.t.Helper()
	out, err := s.command(block).CombinedOutput()
	require.NoError(s.t, err, "%s\n%s", block, out)
	for _, line := range regexp.MustCompile(`(?m)^export .*\n`).FindAllString(block, -1) {
		s.exports += line
	}
	return string(out)
}

// fails is one block that must not succeed, and what came of it.
func (s *terminal) fails(block string) string {
	s.t.Helper()
	out, err := s.command(block).CombinedOutput()
	require.Error(s.t, err, "%s\n%s", block, out)
	return string(out)
}

// leaves is one block in a terminal of its own, which goes on until the test ends.
func (s *terminal) leaves(block string) *watched {
	s.t.Helper()
	cmd, out := s.command(block), newWatched()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, 10*time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(s.t, cmd.Start())
	s.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // an error says that it has ended
		_ = cmd.Wait()                                      // and this that a signal ended it
	})
	return out
}

// walks types the first steps, each block as it is made fit for the place, waits until their
// jobs have ended, and returns what was printed.
func (s *terminal) walks(fit func(block string) string, jobs *waiter) (all string) {
	s.t.Helper()
	for _, block := range firstSteps(s.t) {
		block = fit(block)
		if strings.Contains(block, " headgate serve") {
			s.leaves(block).await(s.t, "msg=ready")
			continue
		}
		all += s.types(block)
		if strings.Contains(block, "job enqueue") {
			jobs.until(`SELECT (count(*) = 0)::int FROM river_job WHERE finalized_at IS NULL`)
		}
	}
	return all
}

// report is the one report of a tenant with some name.
func (s *terminal) report(tenant, name string) string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.folder, "reports", tenant, name+"-*"))
	require.NoError(s.t, err)
	require.Len(s.t, files, 1)
	text, err := os.ReadFile(files[0])
	require.NoError(s.t, err)
	return string(text)
}

// firstSteps are the blocks that docs/first-steps.md has a person type for a database that
// Headgate makes.
func firstSteps(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/first-steps.md")
	require.NoError(t, err)
	page, _, found := strings.Cut(string(text), "### A database that exists")
	require.True(t, found)
	for _, block := range codeBlock.FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(block[1], "$ ") { // those show what comes of it
			blocks = append(blocks, block[1])
		}
	}
	return blocks
}

// The first steps, typed as they stand by administrators who are no superusers, on an empty
// central database: two tenants of one shared database have their first jobs, and see their
// own rows. Only names, hosts and passwords are others.
func TestFirstStepsAsTheyStand(t *testing.T) {
	t.Parallel()
	b := newBuilder(t)
	central, prefix, centralAdmin := adminOf(t)
	where := "--plain-loopback"
	if b.server.socket {
		where = "--socket " + b.server.host
	}
	address := func(text string) string {
		part := placeholder.FindStringSubmatch(text)
		switch {
		case part[2] == "db1":
			return "'" + b.server.address(b.admin, adminPassword, part[3]) + "'"
		case part[1] == "admin":
			return "'" + centralAdmin + "'"
		default:
			return "'" + as(t, jobstest.ServerURL(t, central), prefix+"_"+part[1], "planted-login") + "'"
		}
	}
	others := strings.NewReplacer("shared-1", b.name, "--host db1.internal", where, "PASSWORD '…'", "PASSWORD 'planted-login'",
		"central prepare", "central prepare --prefix "+prefix, "ROLE hg_", "ROLE "+prefix+"_hg_",
		"headgate_owner", prefix+"_owner", "headgate_worker", prefix+"_worker", "headgate_api", prefix+"_api")
	pool, err := pgxpool.New(context.Background(), jobstest.ServerURL(t, central))
	require.NoError(t, err)
	defer pool.Close()
	s := newTerminal(t)
	all := s.walks(func(block string) string { return others.Replace(placeholder.ReplaceAllStringFunc(block, address)) }, &waiter{t: t, pool: pool})
	b.noSecrets([]string{"first steps"}, result{out: all})
	require.NotContains(t, all, "planted-")

	require.Equal(t, "3 succeeded", ask(t, central, `SELECT count(*) || ' ' || min(state) FROM headgate.outcomes`))
	require.Equal(t, "1, 2", ask(t, b.name, `SELECT string_agg(org_id::text, ', ' ORDER BY org_id) FROM greetings`))
	require.Equal(t, "org_id,text\n1,Welcome\n", s.report("acme", "greetings"), "acme's rows and no others")
}

// README.md has the same commands, without the words between them.
func TestReadmeHasTheFirstSteps(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, route, found := strings.Cut(string(text), "## Against your own Postgres")
	require.True(t, found)
	require.Equal(t, strings.Join(firstSteps(t), ""), codeBlock.FindStringSubmatch(route)[1])
}
