package claim_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/baseservice"
	"github.com/riverqueue/river/rivershared/riverpilot"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// A process that stops while it reads the rows that it claims keeps the turn of all
// claims for seconds: no timeout of Postgres's counts that wait, so who waits in vain
// ends its session.
func TestAClaimThatStopsReadingLosesItsTurn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(`INSERT INTO river_job (kind, args, max_attempts, queue, metadata)
SELECT 'a', jsonb_build_object('x', (SELECT string_agg(md5(i::text || n::text), '') FROM generate_series(1, 6400) i)), 25, 'default', jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id)
FROM generate_series(0, 49) n JOIN headgate.tenants t ON t.org_id = 1`)
	ended := make(chan struct{})
	t.Cleanup(func() { <-ended }) // after it has gone on
	pool, frozen := jobstest.FreezeReading(t, f.pool, "WITH locked AS")
	lease := claim.NewLease()
	driver := claim.NewDriver(pool, nil, lease)
	pilot, exec, kinds := driver.PluginPilot(), driver.GetExecutor(), []string{"a"}
	pilot.PilotInit(&baseservice.Archetype{Logger: slog.New(slog.DiscardHandler)}, &riverpilot.PilotInitParams{})
	f.exec(`INSERT INTO headgate.workers (incarnation, worker, host, pid, kinds, queues) VALUES ($1, 'w', '', 1, $2, '{default}')`, lease.Incarnation(), kinds)
	_, state, err := pilot.ProducerInit(context.Background(), exec, &riverpilot.ProducerInitParams{ClientID: "test", Queue: "default"})
	require.NoError(t, err)
	other := f.process(10, "b")
	go func() {
		defer close(ended)
		_, _ = pilot.JobGetAvailable(context.Background(), exec, state, &riverdriver.JobGetAvailableParams{
			ClientID: "test", Kind: kinds, MaxAttemptedBy: 100, MaxToLock: 50, Queue: "default"})
	}()
	frozen()
	f.exec(addJobs, 5, "b", 2, 2)
	began := time.Now()
	require.Eventually(t, func() bool {
		result, err := other.pilot.JobGetAvailable(context.Background(), other.exec, other.state, &riverdriver.JobGetAvailableParams{
			ClientID: "test", Kind: other.kinds, MaxAttemptedBy: 100, MaxToLock: 10, Queue: "default"})
		return err == nil && len(result.Jobs) == 5
	}, 40*time.Second, 100*time.Millisecond)
	t.Logf("others claimed %s after it stopped", time.Since(began).Round(100*time.Millisecond))
}
