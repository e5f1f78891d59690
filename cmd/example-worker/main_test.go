package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

const schema = `
CREATE TABLE greetings (org_id bigint NOT NULL, text text NOT NULL);
ALTER TABLE greetings ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_org ON greetings TO headgate_job
    USING (org_id = (SELECT headgate.current_org())) WITH CHECK (org_id = (SELECT headgate.current_org()));
GRANT SELECT, INSERT ON greetings TO headgate_job`

// rawWelcome is the job as another program enqueues it, in whatever language:
// by the kind's name and its arguments' JSON.
type rawWelcome json.RawMessage

func (rawWelcome) Kind() string                     { return "welcome" }
func (raw rawWelcome) MarshalJSON() ([]byte, error) { return raw, nil }

// docs/first-steps.md shows main.go, as a program of 25 lines.
func TestMainFitsTheReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.LessOrEqual(t, bytes.Count(text, []byte("\n")), 25)
}

// build compiles the program as a user does.
func build(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "example-worker")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

func TestTheProgramWorks(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("freemium-1", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "freemium-1")
	var output bytes.Buffer
	program := exec.Command(build(t))
	program.Env = append(os.Environ(), "DATABASE_URL="+env.URL, "HEADGATE_KEY="+env.Key)
	program.Stdout, program.Stderr = &output, &output
	require.NoError(t, program.Start())
	t.Cleanup(func() { _ = program.Process.Kill() }) // an error says that it has ended

	outcome := env.Run("acme", rawWelcome(`{"member": "Ines"}`))
	require.Equal(t, jobs.Succeeded, outcome.State, outcome.Message)
	var org int64
	var text string
	require.NoError(t, db.Pool.QueryRow(t.Context(), `SELECT org_id, text FROM greetings`).Scan(&org, &text))
	require.Equal(t, acme.OrgID, org)
	require.Equal(t, "Welcome to acme, Ines", text)

	require.NoError(t, program.Process.Signal(syscall.SIGTERM))
	require.NoError(t, program.Wait(), output.String())
	require.NotContains(t, output.String(), env.Key)
	require.NotContains(t, output.String(), db.Job.Password.Reveal())
}

func TestTheProgramSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	program := exec.CommandContext(t.Context(), build(t))
	program.Env = []string{"DATABASE_URL=" + jobstest.ServerURL(t, "postgres")}
	output, err := program.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "no key to seal addresses with: set HEADGATE_KEY")
}
