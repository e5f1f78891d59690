package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A worker whose provider is being collected from, and whose collection stands because of
// somebody else's callback, ends when its time is up, and says why it is late.
func TestStopBesideABlockedCollection(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	stands, goOn, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	gauge, err := provider.Meter("elsewhere").Int64ObservableGauge("stands")
	require.NoError(t, err)
	_, err = provider.Meter("elsewhere").RegisterCallback(func(context.Context, metric.Observer) error {
		close(stands)
		<-goOn
		return nil
	}, gauge)
	require.NoError(t, err)
	cfg := env.Config()
	cfg.Meter = provider
	w, err := worker.New(cfg)
	require.NoError(t, err)
	worker.InTx(w, func(context.Context, pgx.Tx, *jobs.Job[Hasty]) error { return nil })
	require.NoError(t, w.Start(t.Context()))
	go func() { over <- reader.Collect(context.Background(), new(metricdata.ResourceMetrics)) }()
	<-stands

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	require.ErrorContains(t, w.Stop(ctx), "metrics are being collected, and that does not end")
	select {
	case err := <-over:
		t.Fatalf("the collection did not stand beside Stop: %v", err)
	default:
	}
	close(goOn)
	require.NoError(t, <-over)
	require.NoError(t, w.Stop(context.Background()))
}
