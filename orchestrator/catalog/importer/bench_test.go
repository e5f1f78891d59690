package importer_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// inputOf is a table of n tenants on so many plans, with labels, a feature and a domain each.
func inputOf(n int, plan string) []byte {
	var text bytes.Buffer
	text.WriteString("slug,org_id,name,plan,timezone,label.tier,label.country,feature.seats,subdomains\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&text, "tenant-%d,%d,\"Tenant, number %d\",%s,Europe/Paris,gold,fr,%d,t%d.saas.example\n", i, i, i, plan, i%100+1, i)
	}
	return text.Bytes()
}

var synced = importer.Options{Database: "shared-1", Source: "crm"}

// objectsOf is inputOf as the rows of a query.
func objectsOf(n int, plan string) importer.Objects {
	return importer.Objects{
		Name: "query", Columns: []string{"slug", "org_id", "name", "plan", "timezone", "label.tier", "label.country", "feature.seats", "subdomains"},
		Each: func(_ context.Context, do func([]byte) error) error {
			var row []byte
			for i := 1; i <= n; i++ {
				row = fmt.Appendf(row[:0], `{"name": "Tenant, number %d", "plan": %q, "slug": "tenant-%d", "org_id": %d, "timezone": "Europe/Paris", "label.tier": "gold", "subdomains": "t%d.saas.example", "feature.seats": %d, "label.country": "fr"}`, i, plan, i, i, i, i%100+1)
				if err := do(row); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (b bundle) bench(tb testing.TB, text []byte) *importer.Plan {
	tb.Helper()
	table, err := importer.ReadCSV(bytes.NewReader(text), importer.ReadOptions{})
	require.NoError(tb, err)
	plan, err := b.Import(context.Background(), table, importer.Options{Database: "shared-1", Source: "crm"})
	require.NoError(tb, err)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(table)
	runtime.KeepAlive(plan)
	if bench, ok := tb.(*testing.B); ok {
		bench.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MB")
	}
	return plan
}

// BenchmarkSync is a first sync, one that finds nothing to do, and one that changes every
// tenant's plan, at two sizes.
func BenchmarkSync(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		x, first := setup(b), inputOf(n, "pro")
		b.Run(fmt.Sprintf("first/%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				x.exec(b, `DELETE FROM headgate.tenants`)
				b.StartTimer()
				require.Equal(b, n, x.bench(b, first).Added)
			}
		})
		b.Run(fmt.Sprintf("nothing/%d", n), func(b *testing.B) {
			for b.Loop() {
				require.True(b, x.bench(b, first).Empty())
			}
		})
		b.Run(fmt.Sprintf("steady/%d", n), func(b *testing.B) {
			in, steady := objectsOf(n, "pro"), importer.NewSteady(x.Importer)
			plan, err := steady.Import(context.Background(), in, synced)
			require.NoError(b, err)
			require.True(b, plan.Empty())
			plan = nil
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for b.Loop() {
				plan, err = steady.Import(context.Background(), in, synced)
				require.NoError(b, err)
			}
			runtime.ReadMemStats(&after)
			require.Equal(b, n, plan.Unchanged)
			b.ReportMetric(float64(after.HeapInuse)/(1<<20), "heap-MB")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/(1<<20)/float64(b.N), "alloc-MB/op")
		})
		b.Run(fmt.Sprintf("all-change/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				require.Equal(b, n, x.bench(b, inputOf(n, fmt.Sprintf("plan-%d", i))).Changed)
			}
		})
	}
}
