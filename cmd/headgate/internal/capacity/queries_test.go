package capacity

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

// Every query of the package fits the database that it is for.
func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	tenants := env.Database("acme", jobstest.DatabaseOpts{}).Pool
	_, err := tenants.Exec(context.Background(), ownTable)
	require.NoError(t, err)
	jobstest.PrepareQueries(t, ".", tenants, "unended", "selectEnds")
	own := []string{"setSession", "selectTemplate", "selectIdentity", "endOthers", "selectRunning", "selectLeftovers", "selectSessions", "insertEntries", "reportQuery", "insertEntry", "deleteOldest"}
	jobstest.PrepareQueries(t, ".", env.Pool, own...)
}
