package telemetry

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Catalog records what the catalog's memory does. Its methods are safe for concurrent use.
type Catalog struct {
	lookups   metric.Int64Counter
	hit, miss metric.AddOption
}

// NewCatalog makes the instruments. nil means the global provider.
func NewCatalog(provider metric.MeterProvider) (*Catalog, error) {
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	lookups, err := provider.Meter(Scope).Int64Counter(CatalogLookups, metric.WithUnit("{lookup}"), metric.WithDescription("questions of the catalog; hit is answered from memory"))
	outcome := func(name string) metric.AddOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String(Outcome, name)))
	}
	return &Catalog{lookups, outcome("hit"), outcome("miss")}, err
}

// Lookup records a question.
func (c *Catalog) Lookup(ctx context.Context, hit bool) {
	if hit {
		c.lookups.Add(ctx, 1, c.hit)
		return
	}
	c.lookups.Add(ctx, 1, c.miss)
}
