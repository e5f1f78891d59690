package migrations_test

import (
	"testing"

	"github.com/headgate/headgate/jobs/jobstest"
)

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	jobstest.PrepareQueries(t, ".", env.Pool, "insertIdentity", "selectIdentity", "succeedIdentity", "upsertSigningKey", "leaveFirstMark", "selectOwnRights", "holderColumns")
	jobstest.PrepareQueries(t, ".", env.Database("acme", jobstest.DatabaseOpts{}).Pool, "selectQueue", "holderColumns", "selectPrefix", "selectQueueSchema", "updatePrefix")
}
