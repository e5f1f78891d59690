package worker_test

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Every query of this package is for a tenant's database.
func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	jobstest.PrepareQueries(t, ".", env.Database("acme", jobstest.DatabaseOpts{}).Pool)
}
