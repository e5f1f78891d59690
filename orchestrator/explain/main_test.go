package explain_test

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", jobstest.New(t).Pool)
}
