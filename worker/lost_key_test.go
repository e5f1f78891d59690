package worker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// Every copy of the key is lost: the logins are stored again under another ring, and workers
// give the database its new signing key by themselves. That holds where they have worked
// before, and where their first connection has the centre's mark to leave, too.
func TestALostKey(t *testing.T) {
	t.Parallel()
	for name, worked := range map[string]bool{"a database that was worked": true, "a database that was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := jobstest.New(t)
			db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
			env.Tenant("acme", "acme")
			if worked {
				first := heir(env)
				works(t, env)
				require.NoError(t, first.Stop(t.Context()))
			}
			ring, err := catalog.NewKeyRing(catalog.NewKey("other"))
			require.NoError(t, err)
			found := catalog.New(env.Pool, ring)
			require.NoError(t, found.Logins().Set(t.Context(), "acme", jobs.LoginJob, db.Job))
			require.NoError(t, found.Logins().Set(t.Context(), "acme", jobs.LoginOwner, db.Owner))
			cfg := env.Config()
			cfg.Resolver = found
			env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
			works(t, env)
		})
	}
}
