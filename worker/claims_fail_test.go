package worker_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/explain"
)

// Claims that fail are seen where somebody asks why nothing runs, as long as they do.
func TestClaimsThatFailAreSeen(t *testing.T) {
	t.Parallel()
	o := newOddRows(t)
	o.work()
	o.othersGoOn(1)
	o.exec(`
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the disk is on fire' USING ERRCODE = 'XX001'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON river_job FOR EACH ROW WHEN (NEW.state = 'running' AND OLD.state = 'available') EXECUTE FUNCTION refuse()`)
	ctx := context.Background()
	job, err := o.Client.Enqueue(ctx, "other", Odd{}, nil)
	require.NoError(t, err)
	failing := func(facts []explain.Fact) *explain.Fact {
		if i := slices.IndexFunc(facts, func(f explain.Fact) bool { return f.Code == explain.CodeClaimsFail }); i >= 0 {
			return &facts[i]
		}
		return nil
	}
	var fact *explain.Fact
	require.Eventually(t, func() bool {
		explained, err := o.Explain.Explain(ctx, job.UID)
		require.NoError(t, err)
		fact = failing(explained.Facts)
		return fact != nil
	}, 20*time.Second, 20*time.Millisecond)
	require.Regexp(t, `^claims of queue default fail on worker \S+ since .*, \d+ in a row: committing a claim: ERROR: the disk is on fire`, fact.Fact)
	require.WithinDuration(t, time.Now(), *fact.Since, time.Minute)
	require.Eventually(t, func() bool { // a worker whose sign of life is late is not named just then
		tenant, err := o.Explain.ExplainTenant(ctx, "other")
		require.NoError(t, err)
		return failing(tenant.Facts) != nil
	}, 20*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		workers, _, err := o.Explain.Workers(ctx, jobs.Page{})
		require.NoError(t, err)
		return slices.ContainsFunc(workers, func(w explain.WorkerStatus) bool {
			return len(w.Claims.Failing) == 1 && w.Claims.Failing[0].Lasts()
		})
	}, 20*time.Second, 20*time.Millisecond)

	o.exec(`DROP TRIGGER refuse ON river_job`)
	require.Equal(t, jobs.Succeeded, o.Wait(job.UID).State)
	require.Eventually(t, func() bool {
		tenant, err := o.Explain.ExplainTenant(ctx, "other")
		require.NoError(t, err)
		return failing(tenant.Facts) == nil
	}, 20*time.Second, 20*time.Millisecond)
}
