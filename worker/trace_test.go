package worker_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

// traced is a test bed whose spans are kept.
type traced struct {
	*jobstest.Env
	spans    *tracetest.InMemoryExporter
	provider *sdk.TracerProvider
	client   *orchestrator.Client
	config   worker.Config
}

func newTraced(t *testing.T, opts ...sdk.TracerProviderOption) *traced {
	t.Helper()
	b := &traced{Env: jobstest.New(t), spans: tracetest.NewInMemoryExporter()}
	b.provider = sdk.NewTracerProvider(append(opts, sdk.WithSyncer(b.spans))...)
	var err error
	b.client, err = orchestrator.New(orchestrator.Config{Pool: b.Pool, Catalog: b.Catalog, Tracer: b.provider})
	require.NoError(t, err)
	b.config = b.Config()
	b.config.Tracer = b.provider
	b.config.RetryDelay = func(int) time.Duration { return time.Millisecond }
	return b
}

// of waits until n spans of a name have ended, and returns them in the order of their starts.
func (b *traced) of(t *testing.T, name string, n int) (found tracetest.SpanStubs) {
	t.Helper()
	require.Eventually(t, func() bool {
		found = nil
		for _, s := range b.spans.GetSpans() {
			if s.Name == name {
				found = append(found, s)
			}
		}
		return len(found) >= n
	}, time.Minute, 10*time.Millisecond, "%d spans %q", n, name)
	require.Len(t, found, n)
	slices.SortFunc(found, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	return found
}

// under are the names of a span's descendants, each behind those above it.
func (b *traced) under(parent trace.SpanContext, path string) (names []string) {
	for _, s := range b.spans.GetSpans() {
		if s.Parent.SpanID() == parent.SpanID() && s.SpanContext.TraceID() == parent.TraceID() {
			names = append(append(names, path+s.Name), b.under(s.SpanContext, path+s.Name+"/")...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func linked(s tracetest.SpanStub) map[string]trace.SpanID {
	all := map[string]trace.SpanID{}
	for _, l := range s.Links {
		all[l.Attributes[0].Value.AsString()] = l.SpanContext.SpanID()
	}
	return all
}

func attributes(s tracetest.SpanStub) map[attribute.Key]string {
	all := map[attribute.Key]string{}
	for _, a := range s.Attributes {
		all[a.Key] = a.Value.String()
	}
	return all
}

// One trace leads from the application's span to its enqueue; each attempt is a trace that
// is linked to it, and to the attempt before; and the follow-up is linked to the attempt
// that asked for it. A statement stands under its transaction. No span has a value.
func TestTraces(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	b.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	b.Tenant("acme", "acme")
	b.Work(&b.config, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Receipt]) error {
			if job.Attempt == 1 {
				_, err := tx.Exec(ctx, `SELECT 'planted-value'::int`)
				return err
			}
			if _, err := tx.Exec(ctx, `/* planted-comment */ SELECT 1`); err != nil {
				return err
			}
			var n int
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM accounts WHERE $1 <> ''`, "planted-parameter").Scan(&n); err != nil {
				return err
			}
			return job.Follow(Mail{To: "planted-address"}, nil)
		})
		worker.NoConn(w, func(context.Context, *jobs.Job[Mail]) error { return nil })
	})
	ctx, request := b.provider.Tracer("application").Start(context.Background(), "POST /receipts")
	r, err := b.client.Enqueue(ctx, "acme", Receipt{How: "planted-argument"}, nil)
	require.NoError(t, err)
	request.End()

	send := b.of(t, "send receipt", 1)[0]
	require.Equal(t, request.SpanContext().SpanID(), send.Parent.SpanID())
	require.Equal(t, trace.SpanKindProducer, send.SpanKind)
	attempts := b.of(t, "process receipt", 2)
	for i, a := range attempts {
		require.False(t, a.Parent.IsValid(), "an attempt is the root of a trace of its own")
		require.NotEqual(t, send.SpanContext.TraceID(), a.SpanContext.TraceID())
		require.Equal(t, send.SpanContext.SpanID(), linked(a)[telemetry.LinkProducer])
		require.Equal(t, trace.SpanKindConsumer, a.SpanKind)
		has := attributes(a)
		require.Equal(t, r.UID, has[telemetry.MessagingMessage])
		require.Equal(t, "acme", has[telemetry.Tenant])
		require.Equal(t, "acme", has[telemetry.Database])
		require.Equal(t, []string{"failed", "succeeded"}[i], has[telemetry.State])
		require.Subset(t, b.under(a.SpanContext, ""), []string{"claim", "connect", "end", "resolve", "transaction", "transaction/begin"})
	}
	require.Equal(t, string(jobs.ClassJobError), attributes(attempts[0])[telemetry.ErrorType])
	require.NotContains(t, linked(attempts[0]), telemetry.LinkAttempt)
	require.Equal(t, attempts[0].SpanContext.SpanID(), linked(attempts[1])[telemetry.LinkAttempt])
	require.Contains(t, b.under(attempts[1].SpanContext, ""), "transaction/query SQL", "a comment is no operation")
	mail := b.of(t, "process mail", 1)[0]
	require.Equal(t, attempts[1].SpanContext.SpanID(), linked(mail)[telemetry.LinkProducer])
	require.Contains(t, b.under(mail.SpanContext, ""), "handler")

	for _, s := range b.spans.GetSpans() {
		require.NotContains(t, s.Status.Description, "planted")
		require.NotContains(t, s.Name, "planted")
		require.Empty(t, s.Events)
		for key, value := range attributes(s) {
			require.NotContains(t, value, "planted", "%s: %s", s.Name, key)
		}
	}
}

// A statement's text is in its span where the program asks for that, without parameters.
func TestTracesWithStatements(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	b.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	b.Tenant("acme", "acme")
	b.config.Tenants.TraceSQL = true
	b.Work(&b.config, func(w *worker.Worker) {
		worker.ReadOnly(w, func(ctx context.Context, tx pgx.Tx, _ *jobs.Job[Receipt]) error {
			var n int
			return tx.QueryRow(ctx, `SELECT count(*) AS counted WHERE $1 <> ''`, "planted-parameter").Scan(&n)
		})
	})
	r, err := b.client.Enqueue(context.Background(), "acme", Receipt{}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, b.Wait(r.UID).State)
	b.of(t, "process receipt", 1)
	texts := ""
	for _, s := range b.spans.GetSpans() {
		texts += attributes(s)["db.query.text"]
	}
	require.Contains(t, texts, "AS counted")
	require.NotContains(t, texts, "planted")
}

// The producer decides: what it did not sample is traced by no worker, nor are follow-ups;
// and what nobody has decided about is left to the worker's own sampler.
func TestTheProducerDecidesAboutSampling(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	b.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	b.Tenant("acme", "acme")
	parents := make(chan string, 2)
	b.Work(&b.config, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, job *jobs.Job[Receipt]) error {
			parents <- telemetry.TraceParent(ctx)
			return job.Follow(Mail{}, nil)
		})
		worker.NoConn(w, func(context.Context, *jobs.Job[Mail]) error { return nil })
	})
	unsampled := telemetry.WithTraceParent(context.Background(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	plain, err := orchestrator.New(orchestrator.Config{Pool: b.Pool, Catalog: b.Catalog})
	require.NoError(t, err)
	r, err := plain.Enqueue(unsampled, "acme", Receipt{}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, b.Wait(r.UID).State)
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", <-parents)
	var follow string
	require.Eventually(t, func() bool {
		err := b.Pool.QueryRow(context.Background(), `SELECT metadata ->> 'traceparent' FROM river_job WHERE kind = 'mail' AND state = 'completed'`).Scan(&follow)
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", follow)
	require.Empty(t, b.spans.GetSpans())

	r, err = plain.Enqueue(context.Background(), "acme", Receipt{}, nil)
	require.NoError(t, err)
	require.Equal(t, jobs.Succeeded, b.Wait(r.UID).State)
	require.Empty(t, b.of(t, "process receipt", 1)[0].Links)
	b.of(t, "process mail", 1)
}

// An occurrence that fires begins a trace; one that could not be committed says so.
func TestASchedulesFiringIsARoot(t *testing.T) {
	t.Parallel()
	b := newTraced(t)
	b.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	b.Tenant("acme", "acme")
	b.Work(&b.config, func(w *worker.Worker) {
		worker.NoConn(w, func(context.Context, *jobs.Job[Mail]) error { return nil })
	})
	store, err := schedule.New(schedule.Config{Pool: b.Pool, Catalog: b.Catalog, Tracer: b.provider})
	require.NoError(t, err)
	_, err = store.Create(context.Background(), schedule.Params{Tenant: "acme", Name: "mails", Args: Mail{To: "x"}, Spec: schedule.Spec{Cron: "@every 1h", Zone: "UTC"}})
	require.NoError(t, err)
	_, err = b.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET next_run_at = now() - interval '1 s', next_nominal_at = now() - interval '1 s'`)
	require.NoError(t, err)
	scheduler := schedule.NewScheduler(store, schedule.SchedulerConfig{})
	ctx, own := b.provider.Tracer("application").Start(context.Background(), "main") // whoever runs it is no cause of what it fires
	defer own.End()
	require.Eventually(t, func() bool {
		_, _, err := scheduler.RunOnce(ctx)
		require.NoError(t, err)
		return slices.ContainsFunc(b.spans.GetSpans(), func(s tracetest.SpanStub) bool { return s.Name == "process mail" })
	}, time.Minute, 10*time.Millisecond)
	var fires, processes tracetest.SpanStubs
	for _, s := range b.spans.GetSpans() {
		switch {
		case strings.HasPrefix(s.Name, "fire "):
			fires = append(fires, s)
		case strings.HasPrefix(s.Name, "process "):
			processes = append(processes, s)
		}
	}
	require.False(t, fires[0].Parent.IsValid())
	require.Equal(t, "mails", attributes(fires[0])[telemetry.Schedule])
	require.True(t, slices.ContainsFunc(fires, func(s tracetest.SpanStub) bool {
		return s.SpanContext.SpanID() == linked(processes[0])[telemetry.LinkProducer]
	}))
}
