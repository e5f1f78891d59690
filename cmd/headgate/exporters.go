package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/telemetry"
)

// exporters send traces and metrics where OpenTelemetry's environment variables say. Each
// is nil where they say nothing.
type exporters struct {
	traces  *sdk.TracerProvider
	metrics metric.Reader
	hide    *strings.Replacer // takes secrets of the environment out of texts
}

// endpoint is set by whoever has a collector for everything.
const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"

// openExporters opens what is asked for. A collector that does not answer is no error:
// what is sent to it is lost, and the log says so.
func openExporters(ctx context.Context, app *cli.App) (*exporters, error) {
	hide := hidden(app)
	x := &exporters{hide: hide}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(seldom(app.Log, hide)))
	otel.SetLogger(logr.FromSlogHandler(telemetryLog{app.Log.Handler()})) // else it prints to stderr what it could not read
	if app.Env("OTEL_SDK_DISABLED") == "true" {
		return x, nil
	}
	asked := func(names ...string) bool {
		for _, name := range append(names, endpoint) {
			if app.Env(name) != "" {
				return true
			}
		}
		return false
	}
	traces := asked("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	metrics := asked("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
	if err := checkExporters(app, traces, metrics); err != nil { // before one of them runs
		return nil, err
	}
	if traces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, cli.Usagef("OTEL_TRACES_EXPORTER and what goes with it: %s", hide.Replace(err.Error()))
		}
		of, err := thisService(ctx)
		if err != nil {
			return nil, err
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			x.traces = sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(of))
		}
	}
	if metrics {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, cli.Usagef("OTEL_METRICS_EXPORTER and what goes with it: %s", hide.Replace(err.Error()))
		}
		if !autoexport.IsNoneMetricReader(reader) {
			x.metrics = reader
		}
	}
	return x, nil
}

// thisService is what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, and else headgate.
func thisService(ctx context.Context) (*resource.Resource, error) {
	of, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("headgate"), semconv.ServiceVersion(thisVersion().Version)),
		resource.WithFromEnv(), resource.WithTelemetrySDK(), resource.WithHost())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, cli.Usagef("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return of, nil
}

// seldom tells of exports that fail, at most once a minute, without what hide takes out.
func seldom(log *slog.Logger, hide *strings.Replacer) func(error) {
	var said telemetry.Repeats
	return func(err error) {
		if _, ok := said.Pass("", time.Now()); ok {
			log.Warn("telemetry is not exported; further failures are told once a minute", "error", hide.Replace(err.Error()))
		}
	}
}

// tracer is what records traces; nil where nobody asks for them.
func (x *exporters) tracer() trace.TracerProvider {
	if x.traces == nil {
		return nil
	}
	return x.traces
}

// close sends what is left, as long as ctx allows.
func (x *exporters) close(ctx context.Context) error {
	if x.traces == nil {
		return nil
	}
	if err := x.traces.Shutdown(ctx); err != nil {
		return fmt.Errorf("sending the last traces: %w", err)
	}
	return nil
}
