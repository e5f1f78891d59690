package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// telemetry is what a worker records; nil: nothing.
type telemetry struct {
	says   string
	meter  metric.MeterProvider
	tracer trace.TracerProvider
}

// measureTelemetry works jobs off with telemetry, beside the same without: no-op jobs, and
// jobs that commit one row each. Spans go by OTLP to a receiver in this process, whose
// processor time counts too.
func measureTelemetry(ctx context.Context, s *stage) (all []comparison, err error) {
	plain := s.ours
	addr, err := s.receiver(ctx)
	if err != nil {
		return nil, err
	}
	variants := []telemetry{{says: "none (the control)"}, s.metrics()}
	for _, share := range []float64{0.01, 1} {
		v, err := s.traces(ctx, addr, share)
		if err != nil {
			return nil, err
		}
		variants = append(variants, v)
	}
	for _, w := range []struct {
		says string
		load workload
	}{{"no-op jobs", workload{cooldown: tuned}}, {fmt.Sprintf("one row in each job's database, %d databases", len(s.tenants)), workload{cooldown: tuned, effect: true}}} {
		for _, by := range variants {
			with := *plain
			with.name, with.work = "headgate with "+by.says, plain.watched(by)
			s.ours, s.theirs = &with, plain
			pairs, err := s.drainPairs(ctx, w.says+", "+by.says, w.load)
			if err != nil {
				return nil, err
			}
			what := fmt.Sprintf("%s, %d slots; ours with %s, theirs without", w.says, s.opts.slots, by.says)
			all = append(all, compare(measure{what, perSecond, half.rate}, pairs), compare(measure{what, inCPUMicro, half.cpuMicros}, pairs))
		}
	}
	return all, nil
}

// metrics are read once a second, fifteen times as often as Prometheus does.
func (s *stage) metrics() telemetry {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = reader.Collect(context.Background(), &metricdata.ResourceMetrics{}) // what it says is nobody's
			}
		}
	}()
	s.later(func(ctx context.Context) error {
		close(stop)
		<-done
		return provider.Shutdown(ctx)
	})
	return telemetry{says: "metrics", meter: provider}
}

// traces are of a share of the jobs.
func (s *stage) traces(ctx context.Context, addr string, share float64) (telemetry, error) {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpoint(addr), otlptracegrpc.WithInsecure())
	if err != nil {
		return telemetry{}, fmt.Errorf("making the exporter of traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(share))))
	s.later(provider.Shutdown)
	return telemetry{says: fmt.Sprintf("traces of %g %%", 100*share), tracer: provider}, nil
}

// receiver takes spans and forgets them.
func (s *stage) receiver(ctx context.Context) (addr string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listening for spans: %w", err)
	}
	server, done := grpc.NewServer(), make(chan struct{})
	collector.RegisterTraceServiceServer(server, forgetful{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // it ends with the stage
	}()
	s.later(func(context.Context) error {
		server.Stop()
		<-done
		return nil
	})
	return listener.Addr().String(), nil
}

type forgetful struct {
	collector.UnimplementedTraceServiceServer
}

// Export is called by exporters.
func (forgetful) Export(context.Context, *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	return &collector.ExportTraceServiceResponse{}, nil
}
