package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// A setting of OpenTelemetry's that is broken is told by its kind, and nothing that the process
// prints has what is secret in it.
func TestBrokenTelemetrySettingsAreNotPrinted(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	key := "-----BEGIN PRIVATE KEY-----\nhidden-4711\n-----END PRIVATE KEY-----"
	for name, x := range map[string]struct {
		environ map[string]string
		says    string
	}{
		"headers without =":    {map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization Bearer hidden-4711"}, "parse headers"},
		"headers badly quoted": {map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization=%zz-hidden-4711"}, "escape header value"},
		"a key for a value":    {map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "Bearer hidden-4711=x"}, "parse headers"},
		"traces' headers":      {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "hidden-4711"}, "parse headers"},
		"metrics' headers":     {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_HEADERS": "hidden-4711"}, "parse headers"},
		"a key itself":         {map[string]string{"OTEL_EXPORTER_OTLP_CLIENT_KEY": key, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": key}, "read tls client"},
		"traces' key":          {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": key, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": "/dev/null"}, "read tls client key"},
		"an endpoint":          {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://user:hidden-4711@[::1:4318"}, "parse url"},
		"an endpoint in use":   {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:hidden-4711@127.0.0.1:1"}, ""},
		"a path":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1/otlp/hidden-4711"}, ""},
		"a path of metrics":    {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/hidden-4711", "OTEL_TRACES_EXPORTER": "none"}, ""},
		"an escaped path":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1/hidden%2D4711/"}, ""},
		"a query":              {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/v1/metrics?token=hidden-4711", "OTEL_TRACES_EXPORTER": "none"}, ""},
		"a user":               {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://hidden-4711@127.0.0.1:1"}, ""},
		"a broken path":        {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1/%zz/hidden-4711"}, ""},
		"a value of a header":  {map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "authorization=hidden-4711%0Ax"}, ""},
	} {
		for _, protocol := range []string{"grpc", "http/protobuf"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				with := c.with("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").with("OTEL_EXPORTER_OTLP_PROTOCOL", protocol).with("OTEL_EXPORTER_OTLP_TIMEOUT", "200").with("OTEL_METRIC_EXPORT_INTERVAL", "50").with("OTEL_BSP_SCHEDULE_DELAY", "50")
				for variable, value := range x.environ {
					with = with.with(variable, value)
				}
				w, out := with.process("worker", "--reports", t.TempDir())
				require.NoError(t, w.Start())
				out.await(t, "msg=ready")
				out.await(t, "telemetry is not exported")
				require.NoError(t, w.Process.Signal(syscall.SIGTERM))
				require.NoError(t, w.Wait())
				require.NotContains(t, out.String(), "hidden-4711")
				if x.says != "" {
					require.Contains(t, out.String(), `msg="OpenTelemetry could not use a setting, and goes on without it"`)
					require.Contains(t, out.String(), x.says)
				}
			})
		}
	}
}

// A variable that says something unknown ends the process before it begins; the error names
// the variable that is wrong, what is allowed, and not what the variable says.
func TestUnknownExportersAreRefused(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	on := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
	for name, x := range map[string]struct {
		environ map[string]string
		says    string // "": it starts
	}{
		"traces":              {map[string]string{"OTEL_TRACES_EXPORTER": "hidden-4711"}, "OTEL_TRACES_EXPORTER is none of otlp, console, none; give"},
		"metrics":             {map[string]string{"OTEL_METRICS_EXPORTER": "hidden-4711"}, "OTEL_METRICS_EXPORTER is none of otlp, prometheus, console, none; give"},
		"producers":           {map[string]string{"OTEL_METRICS_PRODUCERS": "prometheus,hidden-4711"}, "OTEL_METRICS_PRODUCERS is none of prometheus, none; give"},
		"protocol":            {map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "hidden-4711"}, "headgate: OTEL_EXPORTER_OTLP_PROTOCOL is none of grpc, http/protobuf; give"},
		"protocol of traces":  {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "hidden-4711", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "headgate: OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is none of grpc, http/protobuf; give"},
		"protocol of metrics": {map[string]string{"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "hidden-4711"}, "headgate: OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is none of grpc, http/protobuf; give"},
		"two":                 {map[string]string{"OTEL_METRICS_PRODUCERS": "hidden-4711", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "hidden-4711"}, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL is none of grpc, http/protobuf; OTEL_METRICS_PRODUCERS is none of"},
		"not used":            {map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "hidden-4711", "OTEL_METRICS_PRODUCERS": "hidden-4711"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := c
			for _, environ := range []map[string]string{on, x.environ} {
				for variable, value := range environ {
					with = with.with(variable, value)
				}
			}
			if x.says != "" {
				r := with.run("worker", "--reports", t.TempDir())
				require.Equal(t, cli.ExitUsage, r.code, r.err)
				require.Contains(t, r.err, x.says)
				require.NotContains(t, r.err, "hidden-4711")
				return
			}
			w, out := with.process("worker", "--reports", t.TempDir())
			require.NoError(t, w.Start())
			out.await(t, "msg=ready")
			require.NoError(t, w.Process.Signal(syscall.SIGTERM))
			require.NoError(t, w.Wait())
		})
	}
}

// Of an address the host stays, and what each collector has in its path.
func TestWhatStandsBesideAHostIsHidden(t *testing.T) {
	t.Parallel()
	const said = `traces export: Post "%s": dial tcp 127.0.0.1:4318: connect: connection refused`
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"} {
		for _, x := range []struct{ address, asked, want string }{
			{"http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:4318/v1/traces"},
			{"http://127.0.0.1:4318/otlp/", "http://127.0.0.1:4318/otlp/v1/traces", "http://127.0.0.1:4318/otlp/v1/traces"},
			{"http://127.0.0.1:4318/otlp/hidden-4711", "http://127.0.0.1:4318/otlp/hidden-4711/v1/traces", "http://127.0.0.1:4318[left out]/v1/traces"},
			{"http://127.0.0.1:4318/hidden-4711/v1/traces?key=x", "http://127.0.0.1:4318/hidden-4711/v1/traces", "http://127.0.0.1:4318/[left out]/v1/traces"},
			{"http://127.0.0.1:4318/hidden%2D4711/", "http://127.0.0.1:4318/hidden-4711/v1/traces", "http://127.0.0.1:4318[left out]/v1/traces"},
			{"http://127.0.0.1:4318/hidden 4711", "http://127.0.0.1:4318/hidden%204711/v1/traces", "http://127.0.0.1:4318/[left out]/v1/traces"},
			{"https://hidden-4711@127.0.0.1:4318", "https://hidden-4711@127.0.0.1:4318/v1/traces", "https://[left out]@127.0.0.1:4318/v1/traces"},
			{"https://user:hidden-4711@127.0.0.1:4318/?x=hidden-4712", "https://user:***@127.0.0.1:4318/?x=hidden-4712", "https://[left out]:***@127.0.0.1:4318[left out]"},
			{"127.0.0.1:4318/hidden-4711", "127.0.0.1:4318/hidden-4711", "127.0.0.1:4318[left out]"},
			{"http://127.0.0.1:4318/%zz/hidden-4711", "http://127.0.0.1:4318/%zz/hidden-4711", "http://127.0.0.1:4318[left out]"},
		} {
			hide := hidden(&cli.App{Environ: []string{name + "=" + x.address}})
			require.Equal(t, fmt.Sprintf(said, x.want), hide.Replace(fmt.Sprintf(said, x.asked)), "%s=%s", name, x.address)
		}
	}
}

// frozen accepts connections and never answers.
func frozen(t *testing.T) (addr string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the kernel accepts
}

// A collector that hangs takes none of the time of the other: what is left is sent to that.
func TestTheLastTelemetryBesideAFrozenCollector(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ alive, frozen string }{{"METRICS", "TRACES"}, {"TRACES", "METRICS"}} {
		t.Run(x.frozen, func(t *testing.T) {
			t.Parallel()
			c, env := setup(t)
			env.Database("db", jobstest.DatabaseOpts{Kind: "dedicated", Schema: `CREATE TABLE notes (n int); GRANT ALL ON notes TO headgate_job`})
			env.Tenant("acme", "db")
			var came atomic.Int64
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				came.Add(1)
			}))
			t.Cleanup(collector.Close)
			w, out := c.with("OTEL_EXPORTER_OTLP_"+x.alive+"_ENDPOINT", collector.URL).with("OTEL_EXPORTER_OTLP_"+x.frozen+"_ENDPOINT", "http://"+frozen(t)).
				with("OTEL_METRIC_EXPORT_INTERVAL", "3600000").with("OTEL_METRIC_EXPORT_TIMEOUT", "3600000").with("OTEL_BSP_SCHEDULE_DELAY", "3600000").with("OTEL_BSP_EXPORT_TIMEOUT", "3600000").
				with("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000").process("serve", "--reports", t.TempDir())
			require.NoError(t, w.Start())
			out.await(t, "msg=ready")
			c.ok("job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "INSERT INTO notes VALUES (1)"}`)
			out.await(t, "job succeeded")
			require.Zero(t, came.Load(), "nothing is sent before the end")
			require.NoError(t, w.Process.Signal(syscall.SIGTERM))
			require.NoError(t, w.Wait(), "%s", out)
			require.Positive(t, came.Load(), "%s", out)
			require.Contains(t, out.String(), `msg="telemetry of the last seconds is lost" what=`+strings.ToLower(x.frozen))
			require.NotContains(t, out.String(), `is lost" what=`+strings.ToLower(x.alive))
		})
	}
}
