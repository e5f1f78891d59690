package catalog_test

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Every query of the package fits the migrated schema.
func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", setup(t).pool)
}
