package telemetry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Tenants are without a bound, so that a process counts few of them exactly, and the rest
// not at all. The count is Space-Saving (Metwally and others, 2005): who is counted for the
// first time takes the place, and the count, of who has the least. A tenant that makes more
// than one in counted attempts is always among the counted.
const (
	counted   = 500       // tenants
	shownEach = 10        // tenants by each of the two orders
	shownFor  = time.Hour // a tenant that was shown once
)

// topTenants counts attempts by tenant. A nil one counts nothing.
type topTenants struct {
	now func() time.Time

	mu  sync.Mutex
	all map[string]*tenantCount // by slug
}

type tenantCount struct {
	slug               string
	attempts, failures int64
	shownUntil         time.Time
}

func (c *topTenants) count(slug string, failed bool) {
	if c == nil || slug == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.all[slug]
	if t == nil {
		if t = c.admit(slug); t == nil {
			return
		}
	}
	t.attempts++
	if failed {
		t.failures++
	}
}

// admit makes room for a tenant. It returns nil if all others are shown.
func (c *topTenants) admit(slug string) *tenantCount {
	t := &tenantCount{slug: slug}
	if len(c.all) >= counted {
		now := c.now()
		var least *tenantCount
		for _, o := range c.all {
			if !o.shownUntil.After(now) && (least == nil || o.attempts < least.attempts) {
				least = o
			}
		}
		if least == nil {
			return nil
		}
		delete(c.all, least.slug)
		t.attempts = least.attempts
	}
	c.all[slug] = t
	return t
}

// shown are the busiest tenants, those that fail most, and those that were among them
// within the last hour.
func (c *topTenants) shown() (list []tenantCount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	var all []*tenantCount
	for _, t := range c.all {
		all = append(all, t)
	}
	first := func(of func(*tenantCount) int64) {
		slices.SortFunc(all, func(a, b *tenantCount) int {
			return cmp.Or(cmp.Compare(of(b), of(a)), cmp.Compare(a.slug, b.slug))
		})
		for _, t := range all[:min(shownEach, len(all))] {
			if of(t) > 0 {
				t.shownUntil = now.Add(shownFor)
			}
		}
	}
	first(func(t *tenantCount) int64 { return t.attempts })
	first(func(t *tenantCount) int64 { return t.failures })
	for _, t := range all {
		if t.shownUntil.After(now) {
			list = append(list, *t)
		}
	}
	return list
}

// TopTenants has attempts counted by tenant, and the ten busiest and the ten that fail most
// shown. Their slugs are then readable by whoever reads metrics.
func (w *Worker) TopTenants() error {
	attempts, err := w.meter.Int64ObservableCounter(TenantAttempts, metric.WithUnit("{attempt}"), metric.WithDescription("attempts of the busiest tenants"))
	failures, err2 := w.meter.Int64ObservableCounter(TenantFailures, metric.WithUnit("{attempt}"), metric.WithDescription("attempts that failed, of the busiest tenants and those that fail most"))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	w.top = &topTenants{now: time.Now, all: map[string]*tenantCount{}}
	_, err = w.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, t := range w.top.shown() {
			of := metric.WithAttributes(attribute.String(Tenant, t.slug))
			o.ObserveInt64(attempts, t.attempts, of)
			o.ObserveInt64(failures, t.failures, of)
		}
		return nil
	}, attempts, failures)
	return err
}
