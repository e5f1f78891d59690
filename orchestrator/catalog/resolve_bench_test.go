package catalog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// BenchmarkResolve is the cached answer to what requests and workers ask for,
// among 1,000 tenants, with a listener. Now and then a caller confirms all of them
// with one query; that is in the figures.
func BenchmarkResolve(b *testing.B) {
	made := setup(b)
	ctx := b.Context()
	made.addServer(b)
	made.addDatabase(b, "shared", catalog.KindShared)
	params := make([]catalog.TenantParams, 1000)
	hosts := make([]string, len(params))
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: "shared", Labels: map[string]string{"tier": "one"}}
		hosts[i] = params[i].Slug + ".example.com"
	}
	tenants, err := made.AddTenants(ctx, params)
	require.NoError(b, err)
	for i, host := range hosts {
		require.NoError(b, made.AddDomain(ctx, tenants[i].ID, host, catalog.DomainSubdomain))
	}
	listener := catalog.NewListener(made.Catalog, catalog.ListenerConfig{})
	require.NoError(b, listener.Start(ctx))
	b.Cleanup(func() { require.NoError(b, listener.Stop(context.Background())) })
	for !listener.Listening() {
		<-time.After(time.Millisecond)
	}
	for name, resolve := range map[string]func(i int) error{
		"host":   func(i int) error { _, err := made.ResolveHost(ctx, hosts[i]); return err },
		"slug":   func(i int) error { _, err := made.ResolveName(ctx, params[i].Slug); return err },
		"uuid":   func(i int) error { _, err := made.ResolveName(ctx, tenants[i].ID); return err },
		"worker": func(i int) error { _, _, err := made.ResolveTenant(ctx, tenants[i].ID, jobs.LoginJob); return err },
	} {
		b.Run(name, func(b *testing.B) { quantiles(b, len(hosts), resolve) })
	}
}

// quantiles reports p50 and p99 of one call among several callers at once. The
// clock's own cost, some 50 ns, is in them.
func quantiles(b *testing.B, n int, call func(i int) error) {
	for i := range n {
		require.NoError(b, call(i))
	}
	var mu sync.Mutex
	var all []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		took := make([]time.Duration, 0, 1<<20)
		for i := rand.IntN(n); pb.Next(); i = (i + 7919) % n {
			began := time.Now()
			if err := call(i); err != nil {
				b.Error(err)
				return
			}
			if spent := time.Since(began); len(took) < cap(took) {
				took = append(took, spent)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, took...)
	})
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2]), "p50-ns")
	b.ReportMetric(float64(all[len(all)*99/100]), "p99-ns")
	b.ReportMetric(float64(all[len(all)-1]), "max-ns")
}
