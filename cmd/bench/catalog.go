package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/orchestrator/selector"
)

const (
	inMegabytes = "MB of heap, less is better"
	tenantsRate = "tenants/s, more is better"
)

// reading is one figure of a catalog of one size.
type reading struct {
	measure
	half
}

// measureCatalog compares a catalog with one of a tenth of the tenants; changes of many
// tenants with and without the audit; and how late claims and schedules are beside such a
// change, with themselves alone.
func measureCatalog(ctx context.Context, s *stage) (all []comparison, err error) {
	c, err := s.bigCatalog(ctx)
	if err != nil {
		return nil, err
	}
	s.tell(fmt.Sprintf("%d tenants", s.opts.tenants/10))
	small, err := c.readings(ctx, s.opts.tenants/10)
	if err != nil {
		return nil, err
	}
	s.tell(fmt.Sprintf("%d tenants", s.opts.tenants))
	big, err := c.readings(ctx, s.opts.tenants)
	if err != nil {
		return nil, err
	}
	for i := range big {
		all = append(all, compare(big[i].measure, []pair{{big[i].half, small[i].half}}))
	}
	audit, err := c.auditPairs(ctx)
	if err != nil {
		return nil, err
	}
	delays, err := c.delayPairs(ctx)
	return slices.Concat(all, audit, delays), err
}

// bigCatalog is a catalog that is made of a table of tenants.
type bigCatalog struct {
	*stage
	importer *importer.Importer
	workers  *pgxpool.Pool // of the worker beside changes
	resolver *catalog.Catalog
	tenants  int // that it has
}

func (s *stage) bigCatalog(ctx context.Context) (_ *bigCatalog, err error) {
	if _, err := s.bed.Catalog.Features().Set(ctx, "seats", catalog.FeatureChange{Type: catalog.FeatureNumber}); err != nil {
		return nil, err
	}
	c := &bigCatalog{stage: s, importer: importer.New(s.bed.Pool, s.bed.Catalog)}
	if c.workers, err = s.pool(ctx, s.bed.DBName); err != nil {
		return nil, err
	}
	c.resolver, err = s.catalog(ctx, c.workers, s.bed.Keys)
	return c, err
}

func importedSlug(i int) string { return fmt.Sprintf("customer-%07d", i) }

// table is a SaaS's table of its first n tenants: on ten plans, with labels, a feature and a
// domain each.
func (c *bigCatalog) table(n int) (*importer.Table, error) {
	var text bytes.Buffer
	text.WriteString("slug,org_id,name,plan,timezone,label.tier,label.country,feature.seats,subdomains\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&text, "%s,%d,\"Customer, number %d\",plan-%d,Europe/Paris,%d,fr,%d,c%d.saas.example\n", importedSlug(i), 1_000_000+i, i, i%10, i%7, i%100+1, i)
	}
	return importer.ReadCSV(&text, importer.ReadOptions{})
}

// readings brings the catalog to n tenants and measures what is done with it.
func (c *bigCatalog) readings(ctx context.Context, n int) (all []reading, err error) {
	imported := n - c.tenants
	for _, m := range []struct {
		what, unit string
		jobs       int
		of         func(half) float64
	}{{"import", tenantsRate, imported, half.rate}, {"a sync with nothing to do", tenantsRate, n, half.rate}} {
		h, heap, err := c.sync(ctx, n, m.jobs)
		if err != nil {
			return nil, err
		}
		all = append(all, reading{measure{c.at(m.what), m.unit, m.of}, h}, reading{measure{c.at(m.what), inMegabytes, half.share}, heap})
	}
	c.tenants = n
	if _, err := c.bed.Pool.Exec(ctx, `VACUUM (ANALYZE)`); err != nil {
		return nil, err
	}
	for _, more := range []func(context.Context, int) ([]reading, error){c.resolving, c.selecting, c.listing} {
		readings, err := more(ctx, n)
		if err != nil {
			return nil, err
		}
		all = append(all, readings...)
	}
	return all, nil
}

// at says of a figure which sizes it compares.
func (c *bigCatalog) at(what string) string {
	return fmt.Sprintf("%s, %d tenants against %d", what, c.opts.tenants, c.opts.tenants/10)
}

// share is a half's value.
func (h half) share() float64 { return h.value }

func (c *bigCatalog) sync(ctx context.Context, n, counted int) (h, heap half, err error) {
	table, err := c.table(n)
	if err != nil {
		return h, heap, err
	}
	watch := c.start()
	plan, err := c.importer.Import(ctx, table, importer.Options{Database: databaseName(0), Source: "bench"})
	if err != nil {
		return h, heap, err
	}
	h = watch.stop(counted)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(table)
	runtime.KeepAlive(plan)
	heap = h
	heap.value = float64(m.HeapInuse) / (1 << 20)
	return h, heap, nil
}

// times calls something so often, and returns the latencies in order.
func (c *bigCatalog) times(n int, do func(i int) error) (h half, err error) {
	watch := c.start()
	latencies := make([]time.Duration, n)
	for i := range n {
		began := time.Now()
		if err := do(i); err != nil {
			return h, err
		}
		latencies[i] = time.Since(began)
	}
	h = watch.stop(n)
	slices.Sort(latencies)
	h.latencies = latencies
	return h, nil
}

func p50(h half) float64     { return h.quantile(0.5) }
func p99(h half) float64     { return h.quantile(0.99) }
func slowest(h half) float64 { return h.quantile(1) }

// resolving asks for tenants that are spread over all by each of their names: first by one
// catalog that knows nothing, then by the same again.
func (c *bigCatalog) resolving(ctx context.Context, n int) (all []reading, err error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fresh := catalog.New(c.bed.Pool, c.bed.Keys)
	looked := min(1000, n)
	tenant := func(i int) int { return i*(n/looked) + 1 }
	for _, by := range []struct {
		what string
		ask  func(i int) error
	}{
		{"slug", func(i int) error { _, err := fresh.ResolveName(ctx, importedSlug(tenant(i))); return err }},
		{"org_id", func(i int) error { _, err := fresh.ResolveName(ctx, fmt.Sprint(1_000_000+tenant(i))); return err }},
		{"domain", func(i int) error {
			_, err := fresh.ResolveHost(ctx, fmt.Sprintf("c%d.saas.example", tenant(i)))
			return err
		}},
	} {
		for _, when := range []string{"missed", "from memory"} {
			h, err := c.times(looked, by.ask)
			if err != nil {
				return nil, err
			}
			all = append(all, reading{measure{c.at("resolve by " + by.what + ", " + when + ", p50"), inMillis, p50}, h})
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(fresh)
	heap := all[0].half
	heap.value = max(float64(after.HeapAlloc)-float64(before.HeapAlloc), 1) / (1 << 20)
	return append(all, reading{measure{c.at(fmt.Sprintf("%d tenants remembered", looked)), inMegabytes, half.share}, heap}), nil
}

// selecting counts whom three expressions select: one that an index narrows down, and two
// that are asked of each tenant.
func (c *bigCatalog) selecting(ctx context.Context, _ int) (all []reading, err error) {
	for _, expression := range []string{"plan = plan-3", "label.tier = 3 and feature.seats = 50", "not (plan in (plan-1, plan-2)) and status = active"} {
		s, err := selector.Parse(expression)
		if err != nil {
			return nil, err
		}
		h, err := c.times(3, func(int) error { _, err := c.bed.Catalog.Selected(ctx, s); return err })
		if err != nil {
			return nil, err
		}
		all = append(all, reading{measure{c.at("selector test of " + expression), inMillis, p50}, h})
	}
	return all, nil
}

// listing reads pages of 200 at the beginning, in the middle and at the end.
func (c *bigCatalog) listing(ctx context.Context, n int) (all []reading, err error) {
	list := func(what string, read func() error) error {
		h, err := c.times(20, func(int) error { return read() })
		all = append(all, reading{measure{c.at("list of " + what), inMillis, p50}, h})
		return err
	}
	domains := c.bed.Catalog.Domains()
	for _, page := range []struct {
		what             string
		tenants, domains string
	}{
		{"first", "", ""},
		{"middle", importedSlug(n / 2), "c5,00000000-0000-0000-0000-000000000000"},
		{"last", importedSlug(n - 150), "c99,00000000-0000-0000-0000-000000000000"},
	} {
		err := errors.Join(
			list("tenants, the "+page.what+" page", func() error {
				_, _, err := c.bed.Catalog.Tenants(ctx, catalog.TenantFilter{Page: jobs.Page{After: page.tenants}})
				return err
			}),
			list("tenants of a plan, the "+page.what+" page", func() error {
				_, _, err := c.bed.Catalog.Tenants(ctx, catalog.TenantFilter{Plan: "plan-3", Page: jobs.Page{After: page.tenants}})
				return err
			}),
			list("domains, the "+page.what+" page", func() error {
				_, _, err := domains.List(ctx, catalog.DomainFilter{Page: jobs.Page{After: page.domains}})
				return err
			}))
		if err != nil {
			return nil, err
		}
	}
	err = errors.Join(
		list("the domains of a tenant", func() error {
			_, _, err := domains.List(ctx, catalog.DomainFilter{Tenant: importedSlug(n)})
			return err
		}),
		list("tenants that are archived (none)", func() error {
			_, _, err := c.bed.Catalog.Tenants(ctx, catalog.TenantFilter{Status: catalog.Archived})
			return err
		}),
		list("databases", func() error { _, _, err := c.bed.Catalog.Databases(ctx, jobs.Page{}); return err }))
	return all, err
}

// auditPairs changes many tenants in one statement, with the audit's trigger and without.
func (c *bigCatalog) auditPairs(ctx context.Context) (all []comparison, err error) {
	with, without := *c.ours, *c.ours
	with.name, without.name = "with the audit", "without the audit"
	ours, theirs := c.ours, c.theirs
	defer func() { c.ours, c.theirs = ours, theirs }()
	c.ours, c.theirs = &with, &without
	n := min(c.opts.changed, c.tenants)
	for _, change := range []struct{ what, sql string }{
		{"a name", `UPDATE headgate.tenants SET name = name || '.' WHERE slug BETWEEN $1 AND $2`},
		{"labels", `UPDATE headgate.tenants SET labels = labels || jsonb_build_object('changed', clock_timestamp()) WHERE slug BETWEEN $1 AND $2`},
		{"the plan", `UPDATE headgate.tenants SET plan = CASE plan WHEN 'plan-a' THEN 'plan-b' ELSE 'plan-a' END WHERE slug BETWEEN $1 AND $2`},
	} {
		c.tell(change.what + " of many tenants")
		pairs, err := c.inPairs(ctx, func(ctx context.Context, who *side) (half, error) {
			verb := map[bool]string{true: "ENABLE", false: "DISABLE"}[who == &with]
			if _, err := c.bed.Pool.Exec(ctx, `ALTER TABLE headgate.tenants `+verb+` TRIGGER audit_changed`); err != nil {
				return half{}, err
			}
			return c.once(ctx, change.sql, n)
		})
		if _, on := c.bed.Pool.Exec(ctx, `ALTER TABLE headgate.tenants ENABLE TRIGGER audit_changed`); err != nil || on != nil {
			return nil, errors.Join(err, on)
		}
		all = append(all, compare(measure{fmt.Sprintf("%s of %d tenants in one statement, with the audit against without", change.what, n), inMillis, slowest}, pairs))
	}
	return all, nil
}

// once changes n tenants, in a session that has changed one before.
func (c *bigCatalog) once(ctx context.Context, sql string, n int) (h half, err error) {
	conn, err := c.bed.Pool.Acquire(ctx)
	if err != nil {
		return h, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, sql, importedSlug(1), importedSlug(1)); err != nil {
		return h, err
	}
	watch, began := c.start(), time.Now()
	tag, err := conn.Exec(ctx, sql, importedSlug(1), importedSlug(n))
	if err == nil && tag.RowsAffected() != int64(n) {
		err = fmt.Errorf("%d tenants were changed, not %d", tag.RowsAffected(), n)
	}
	took := time.Since(began)
	h = watch.stop(n)
	h.latencies = []time.Duration{took}
	return h, err
}

// latenciesOf are a query's rows of one number of seconds each, in order.
func (c *bigCatalog) latenciesOf(ctx context.Context, sql string, args ...any) ([]time.Duration, error) {
	rows, err := c.bed.Pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	seconds, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	latencies := make([]time.Duration, len(seconds))
	for i, late := range seconds {
		latencies[i] = max(time.Duration(late*float64(time.Second)), time.Microsecond)
	}
	slices.Sort(latencies)
	return latencies, err
}
