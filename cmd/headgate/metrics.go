package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/headgate/headgate/jobs/telemetry"
)

// metrics are what /metrics answers with: OpenTelemetry's instruments, and the Go
// runtime's and the process's own.
type metrics struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
}

// mostSeries bounds the label values of each metric, and so the memory that they take: kinds,
// classes and servers multiply. What is beyond is counted as otel_metric_overflow.
const mostSeries = 10_000

// newMetrics makes them. pushed sends them away by itself; nil: nobody does.
func newMetrics(ctx context.Context, pushed sdk.Reader) (*metrics, error) {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := exporter.New(exporter.WithRegisterer(m.registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("making the exporter of metrics: %w", err)
	}
	of, err := thisService(ctx)
	if err != nil {
		return nil, err
	}
	opts := []sdk.Option{sdk.WithReader(reader), sdk.WithCardinalityLimit(mostSeries), sdk.WithResource(of)}
	if pushed != nil {
		opts = append(opts, sdk.WithReader(pushed))
	}
	m.provider = sdk.NewMeterProvider(opts...)
	return m, nil
}

// scrapes bounds how many ask for metrics at once, and for how long.
var scrapes = promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}

func (m *metrics) handler() http.Handler { return promhttp.HandlerFor(m.registry, scrapes) }

// watch observes the process's loops whenever somebody asks.
func (m *metrics) watch(loops []loop) error {
	meter := m.provider.Meter(telemetry.Scope)
	turned, err := meter.Float64ObservableGauge(telemetry.LoopAge, metric.WithUnit("s"), metric.WithDescription("since a loop of this process turned"))
	if err != nil {
		return fmt.Errorf("making the gauge of loops: %w", err)
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, l := range loops {
			if at := l.turned(); !at.IsZero() {
				o.ObserveFloat64(turned, time.Since(at).Seconds(), metric.WithAttributes(attribute.String(telemetry.Loop, l.name)))
			}
		}
		return nil
	}, turned)
	if err != nil {
		return fmt.Errorf("observing the process's loops: %w", err)
	}
	return nil
}

func (m *metrics) close(ctx context.Context) error { return m.provider.Shutdown(ctx) }
