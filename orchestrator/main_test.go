package orchestrator_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}

// Note is a job that nobody works in these tests.
type Note struct {
	Text string `json:"text"`
}

func (Note) Kind() string { return "note" }

// Tidy is one of scope database.
type Tidy struct{}

func (Tidy) Kind() string { return "tidy" }

func (Tidy) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner}
}

// setup is a central database with two tenants in one database.
func setup(t *testing.T) *jobstest.Env {
	t.Helper()
	return furnish(jobstest.New(t))
}

// setupDirect is setup past a pooler, whose sessions would outlive a change of
// the database's settings.
func setupDirect(t *testing.T) *jobstest.Env {
	t.Helper()
	return furnish(jobstest.NewOn(t, jobstest.Direct(t)))
}

func furnish(env *jobstest.Env) *jobstest.Env {
	env.Database("shared", jobstest.DatabaseOpts{})
	env.Tenant("acme", "shared")
	env.Tenant("brick", "shared")
	return env
}

func count(t *testing.T, env *jobstest.Env, sql string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), sql, args...).Scan(&n))
	return n
}
