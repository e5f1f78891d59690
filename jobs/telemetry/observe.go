package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// ProcessState is what a worker process knows of itself when somebody asks. All of it comes from
// memory.
type ProcessState struct {
	Heartbeat time.Time      // when the central database last took one; zero: not yet
	Running   map[string]int // attempts, by queue
	Slots     map[string]int // by queue
	Ending    int            // attempts that are over, and whose ends are not written
	Stuck     int            // handlers
	Servers   []ServerState
	Central   map[string]int // connections, by state
}

// ServerState is what a process knows of a server.
type ServerState struct {
	Name                        string
	Connections, Limit, Waiting int
	Opened                      int64
	Broken                      bool
}

// Observe has look called whenever somebody asks for metrics, until stop is called.
func (w *Worker) Observe(look func() ProcessState) (stop func() error, err error) {
	var errs []error
	var all []metric.Observable
	gauge := func(name, unit, says string) metric.Int64ObservableGauge {
		g, err := w.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(says))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	beat, err := w.meter.Float64ObservableGauge(WorkerHeartbeatAge, metric.WithUnit("s"), metric.WithDescription("since the central database took a heartbeat of this process"))
	errs, all = append(errs, err), append(all, beat)
	opened, err := w.meter.Int64ObservableCounter(ServerOpened, metric.WithUnit("{connection}"), metric.WithDescription("connections that this process has made"))
	errs, all = append(errs, err), append(all, opened)
	running := gauge(RunningJobs, "{attempt}", "attempts that run now")
	slots := gauge(Slots, "{attempt}", "attempts that may run at once")
	ending := gauge(EndsWaiting, "{attempt}", "attempts that are over, and whose ends are not in the central database yet")
	stuck := gauge(StuckHandlers, "{handler}", "handlers that go on after their attempts were given up")
	conns := gauge(ServerConnections, "{connection}", "open connections of this process, idle ones included")
	allowed := gauge(ServerAllowed, "{connection}", "connections that this process may have")
	waiting := gauge(ServerWaiting, "{job}", "jobs of this process that wait for a connection")
	broken := gauge(ServerBreaker, "", "1 while this process's breaker of a server is not closed")
	central := gauge(CentralConns, "{connection}", "the worker's connections to the central database")
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	registered, err := w.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := look()
		if !s.Heartbeat.IsZero() {
			o.ObserveFloat64(beat, time.Since(s.Heartbeat).Seconds())
		}
		by := func(g metric.Int64ObservableGauge, key string, values map[string]int) {
			for name, n := range values {
				o.ObserveInt64(g, int64(n), metric.WithAttributes(attribute.String(key, name)))
			}
		}
		by(running, Queue, s.Running)
		by(slots, Queue, s.Slots)
		by(central, State, s.Central)
		o.ObserveInt64(ending, int64(s.Ending))
		o.ObserveInt64(stuck, int64(s.Stuck))
		for _, server := range s.Servers {
			of := metric.WithAttributes(attribute.String(Server, server.Name))
			o.ObserveInt64(conns, int64(server.Connections), of)
			o.ObserveInt64(allowed, int64(server.Limit), of)
			o.ObserveInt64(waiting, int64(server.Waiting), of)
			o.ObserveInt64(opened, server.Opened, of)
			is := int64(0)
			if server.Broken {
				is = 1
			}
			o.ObserveInt64(broken, is, of)
		}
		return nil
	}, all...)
	if err != nil {
		return nil, err
	}
	return registered.Unregister, nil
}
