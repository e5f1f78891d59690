//go:build faults

package worker_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A connection that breaks while a job is being settled, without a word of the
// server's, uses no attempt and ends nothing: the ledger is asked again.
func TestFaultsSettlingIsCut(t *testing.T) {
	t.Parallel()
	for _, f := range []fate{cutReply, cutSent, cutNever} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			var cuts atomic.Int32
			wire := newProxy(t, jobstest.ServerURL(t, "postgres"), func(_ *link, sql string) fate {
				if strings.Contains(sql, "headgate.tombstone(") && cuts.Add(1) <= 3 {
					return f
				}
				return pass
			})
			env := jobstest.New(t)
			db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: wire.before(t, "cut")})
			env.Tenant("acme", "acme")
			job, err := env.Client.Enqueue(ctx, "acme", Ending{}, nil)
			require.NoError(t, err)
			lose(t, env, job.UID, time.Minute)
			_, err = env.Client.Cancel(ctx, job.UID, nil)
			require.NoError(t, err)
			cfg := lockSoon(env)
			cfg.BreakerPause = 100 * time.Millisecond
			env.Work(cfg, func(w *worker.Worker) { worker.InTx(w, end) })
			got := env.Wait(job.UID)
			require.Equal(t, jobs.Cancelled, got.State, got.Message)
			require.Equal(t, 1, got.Attempt)
			require.Greater(t, cuts.Load(), int32(3))
			require.Zero(t, effects(t, db, job.UID))
			attempts, err := env.Attempts(ctx, job.UID)
			require.NoError(t, err)
			for _, o := range attempts {
				require.NotEqual(t, jobs.Failed, o.State, o.Message)
			}
		})
	}
}
