package tenantsync_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenantsync"
)

// BenchmarkRead reads a table of 100,000 tenants as a job does, from the first row to the last.
func BenchmarkRead(b *testing.B) {
	env := jobstest.New(b)
	env.Database("saas", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `
		CREATE TABLE tenants (org_id bigint PRIMARY KEY, slug text, name text, plan text, timezone text, "label.tier" text, "feature.seats" int, subdomains text);
		INSERT INTO tenants SELECT n, 'tenant-' || n, 'Tenant, number ' || n, 'pro', 'Europe/Paris', 'gold', n % 100, 't' || n || '.saas.example' FROM generate_series(1, 100000) n`})
	took, allocated := make(chan time.Duration, 1), uint64(0)
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		err = rows.Each(ctx, func([]byte) error { result.Rows++; return nil })
		took <- time.Since(start)
		runtime.ReadMemStats(&after)
		allocated = after.TotalAlloc - before.TotalAlloc
		return result, err
	})
	var sum time.Duration
	for b.Loop() {
		r, err := env.Client.EnqueueDatabase(b.Context(), "saas", tenantsync.Args{Table: "public.tenants"}, nil)
		require.NoError(b, err)
		require.EqualValues(b, 100_000, env.Wait(r.UID).Result.Rows)
		sum += <-took
	}
	b.ReportMetric(float64(sum.Milliseconds())/float64(b.N), "read-ms/op")
	b.ReportMetric(float64(allocated)/(1<<20), "alloc-MB")
}
