package provision

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// Every query of the package fits a tenant's database.
func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Database("acme", jobstest.DatabaseOpts{}).Pool)
}
