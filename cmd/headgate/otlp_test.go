package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/worker"
)

// receiver takes spans by OTLP, as a collector does.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans []received
}

// received is one span, and the service that has sent it.
type received struct {
	*spans.Span
	service string
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r, server, done := &receiver{addr: listener.Addr().String()}, grpc.NewServer(), make(chan struct{})
	collector.RegisterTraceServiceServer(server, r)
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return r
}

// Export is called by exporters.
func (r *receiver) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range req.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, received{s, attributeOf(of.Resource.Attributes, "service.name")})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func attributeOf(all []*common.KeyValue, key string) string {
	for _, a := range all {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// tree draws the span of a name, what is under it, and what is linked to these.
func tree(all []received, root received) string {
	var text strings.Builder
	var draw func(s received, indent, mark string)
	draw = func(s received, indent, mark string) {
		fmt.Fprintf(&text, "%s%s%s", indent, mark, s.Name)
		if len(s.ParentSpanId) == 0 {
			fmt.Fprintf(&text, "  [%s]", s.service)
		}
		for _, key := range []string{"headgate.tenant", "headgate.state"} {
			if value := attributeOf(s.Attributes, key); value != "" {
				fmt.Fprintf(&text, "  %s", value)
			}
		}
		text.WriteString("\n")
		var under []received
		for _, o := range all {
			if string(o.ParentSpanId) == string(s.SpanId) && string(o.TraceId) == string(s.TraceId) {
				under = append(under, o)
			}
		}
		slices.SortFunc(under, func(a, b received) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
		for _, o := range under {
			draw(o, indent+"  ", "")
		}
		for _, o := range all {
			for _, l := range o.Links {
				if string(l.SpanId) == string(s.SpanId) && attributeOf(l.Attributes, "headgate.link") == "producer" {
					draw(o, indent+"  ", "⇢ ")
				}
			}
		}
	}
	draw(root, "", "")
	return text.String()
}

// Invoice is a job of a program of the user's, which asks for another.
type Invoice struct{ N int }

func (Invoice) Kind() string { return "invoice" }

// Posting is that other job; `headgate serve` has its kind.
type Posting struct {
	SQL    string `json:"sql"`
	Params []any  `json:"params"`
}

func (Posting) Kind() string { return "headgate.sql" }

// From the application's span to the tenant's SQL, and to the follow-up's in another
// program: three services send their spans by OTLP, by the environment's variables where
// the program is ours, and the links lead through. It is the picture in the documents.
// No span has a planted text.
func TestTracesByOTLP(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	r := startReceiver(t)
	env.Database("acme-db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE invoices (n int); CREATE TABLE postings (what text); GRANT ALL ON invoices, postings TO headgate_job`})
	env.Tenant("acme", "acme-db")
	provider := func(service string) *sdk.TracerProvider {
		exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpoint(r.addr), otlptracegrpc.WithInsecure())
		require.NoError(t, err)
		p := sdk.NewTracerProvider(sdk.WithBatcher(exporter, sdk.WithBatchTimeout(100*time.Millisecond)), sdk.WithResource(resource.NewSchemaless(semconv.ServiceName(service))))
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = p.Shutdown(ctx)
		})
		return p
	}
	application, invoicing := provider("shop"), provider("invoicing")
	cfg := env.Config()
	cfg.Tracer = invoicing
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Invoice]) error {
			if _, err := tx.Exec(ctx, `INSERT INTO invoices VALUES ($1)`, job.Args.N); err != nil {
				return err
			}
			return job.Follow(Posting{SQL: `INSERT INTO postings VALUES ($1)`, Params: []any{"planted-parameter"}}, nil)
		})
	})
	serve, log := c.with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+r.addr).with("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc").with("OTEL_METRICS_EXPORTER", "none").
		with("OTEL_BSP_SCHEDULE_DELAY", "100").process("serve", "--reports", t.TempDir())
	require.NoError(t, serve.Start())
	log.await(t, "msg=ready")

	client, err := orchestrator.New(orchestrator.Config{Pool: env.Pool, Catalog: env.Catalog, Tracer: application})
	require.NoError(t, err)
	ctx, request := application.Tracer("shop").Start(context.Background(), "POST /invoices")
	_, err = client.Enqueue(ctx, "acme", Invoice{N: 7}, nil)
	require.NoError(t, err)
	request.End()
	var all []received
	require.Eventually(t, func() bool {
		all = r.all()
		return slices.ContainsFunc(all, func(s received) bool { return s.Name == "process headgate.sql" }) &&
			slices.ContainsFunc(all, func(s received) bool { return s.Name == "POST /invoices" }) &&
			slices.ContainsFunc(all, func(s received) bool { return s.Name == "process invoice" })
	}, time.Minute, 50*time.Millisecond, "%s", log)
	require.NoError(t, serve.Process.Signal(syscall.SIGTERM))
	require.NoError(t, serve.Wait())
	all = r.all()
	for _, s := range all {
		require.NotContains(t, s.String(), "planted", "%s", hex.EncodeToString(s.SpanId))
	}
	root := slices.IndexFunc(all, func(s received) bool { return s.Name == "POST /invoices" })
	golden(t, "traces", tree(all, all[root]))
	docs, err := os.ReadFile(filepath.Join("..", "..", "docs", "telemetry.md"))
	require.NoError(t, err)
	require.Contains(t, string(docs), tree(all, all[root]), "the documents show what is")
}
