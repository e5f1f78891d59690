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
// among 1,000 and 10,000 tenants, with a listener. Now and then a caller confirms all of them
// with one query; that is in the figures.
func BenchmarkResolve(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("tenants=%d", n), func(b *testing.B) { benchmarkResolve(b, n) })
	}
}

func benchmarkResolve(b *testing.B, n int) {
	made := setup(b)
	ctx := b.Context()
	made.addServer(b)
	made.addDatabase(b, "shared", catalog.KindShared)
	params := make([]catalog.TenantParams, n)
	hosts := make([]string, len(params))
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: "shared", Labels: map[string]string{"tier": "one"}}
		hosts[i] = params[i].Slug + ".example.com"
	}
	tenants, err := made.AddTenants(ctx, params)
	require.NoError(b, err)
	for _, sql := range []string{
		`INSERT INTO headgate.tenant_domains (domain, tenant_id, kind) SELECT slug || '.example.com', id, 'subdomain' FROM headgate.tenants`,
		`INSERT INTO headgate.tenant_emails (domain, tenant_id) SELECT slug || '.example.com', id FROM headgate.tenants`,
		`ANALYZE headgate.tenants, headgate.tenant_domains, headgate.tenant_emails`,
	} {
		_, err = made.pool.Exec(ctx, sql)
		require.NoError(b, err)
	}
	for name, resolve := range map[string]func(c *catalog.Catalog, i int) error{
		"host":  func(c *catalog.Catalog, i int) error { _, err := c.ResolveHost(ctx, hosts[i]); return err },
		"email": func(c *catalog.Catalog, i int) error { _, err := c.ResolveEmail(ctx, "ines@"+hosts[i]); return err },
		"slug":  func(c *catalog.Catalog, i int) error { _, err := c.ResolveName(ctx, params[i].Slug); return err },
		"uuid":  func(c *catalog.Catalog, i int) error { _, err := c.ResolveName(ctx, tenants[i].ID); return err },
		"worker": func(c *catalog.Catalog, i int) error {
			_, _, err := c.ResolveTenant(ctx, tenants[i].ID, jobs.LoginJob)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) { // with a memory of its own, which has room for all
			c, err := catalog.NewWithConfig(catalog.Config{Pool: made.pool, Ring: made.Ring(), Memory: catalog.Memory{Answers: 2 * n}})
			require.NoError(b, err)
			listener := catalog.NewListener(c, catalog.ListenerConfig{})
			require.NoError(b, listener.Start(ctx))
			defer func() { require.NoError(b, listener.Stop(context.Background())) }()
			for !listener.Listening() {
				<-time.After(time.Millisecond)
			}
			quantiles(b, len(hosts), func(i int) error { return resolve(c, i) })
		})
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
