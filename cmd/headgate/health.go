package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"

	probe "github.com/headgate/headgate/cmd/headgate/internal/health"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/health"
)

// probes are what the process tells those who watch it: whoever asks at --health, and
// systemd, where that has started the process.
type probes struct {
	log     *slog.Logger
	exports *exporters
	health  *probe.Server // nil without --health
	metrics *metrics      // nil where nobody asks for them
	quit    context.CancelFunc
	done    chan struct{} // closed when the watchdog is not fed any more
}

// openProbes begins to answer. end must be called.
func openProbes(ctx context.Context, app *cli.App, addr string) (*probes, error) {
	w := &probes{log: app.Log, quit: func() {}, done: make(chan struct{})}
	close(w.done)
	var err error
	if w.exports, err = openExporters(ctx, app); err != nil {
		return nil, err
	}
	if addr == "" && w.exports.metrics == nil {
		return w, nil
	}
	if w.metrics, err = newMetrics(ctx, w.exports.metrics); err != nil || addr == "" {
		return w, err
	}
	w.health, err = probe.Listen(ctx, addr, probe.Config{Config: health.Config{Log: app.Log}}, map[string]http.Handler{"/metrics": w.metrics.handler()})
	if err != nil {
		return nil, err
	}
	app.Log.Info("answering about health", "address", w.health.Addr().String())
	return w, nil
}

// meter is what records metrics; nil where nobody may ask for them.
func (w *probes) meter() metric.MeterProvider {
	if w.metrics == nil {
		return nil
	}
	return w.metrics.provider
}

// started says that the process has started, and from what is answered.
func (w *probes) started(loops []loop, ready []health.Check, central *figures) error {
	live := live(loops)
	if w.metrics != nil {
		if err := errors.Join(w.metrics.watch(loops), central.observe(w.metrics.provider)); err != nil {
			return err
		}
	}
	if w.health != nil {
		w.health.Started(live, ready)
	}
	w.notify(daemon.SdNotifyReady)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		w.log.Warn("systemd's watchdog is not fed", "error", err)
	}
	if every == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.quit, w.done = cancel, make(chan struct{})
	go func() {
		defer close(w.done)
		w.feed(ctx, every/2, live)
	}()
	return nil
}

// feed tells systemd's watchdog that the process lives, as long as its loops turn.
func (w *probes) feed(ctx context.Context, every time.Duration, live []health.Check) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := health.First(ctx, live); err == nil {
			w.notify(daemon.SdNotifyWatchdog)
		} else {
			w.log.ErrorContext(ctx, "systemd's watchdog is not told that this process lives", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *probes) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil { // nothing is sent where systemd does not wait for it
		w.log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// stopping says that the process ends what it has.
func (w *probes) stopping() { w.notify(daemon.SdNotifyStopping) }

// lastExport bounds what sending the last traces takes, and what sending the last metrics
// takes. A collector that is away keeps no process from its end.
const lastExport = 5 * time.Second

// end ends the answers, and sends what is left to be sent. Traces and metrics may go to two
// collectors, so none of the two waits for the other.
func (w *probes) end() {
	w.quit()
	<-w.done
	if w.health != nil {
		_ = w.health.Close() // connections that were cut off are no error of ours
	}
	var sent sync.WaitGroup
	send := func(what string, end func(context.Context) error) {
		sent.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), lastExport)
			defer cancel()
			if err := end(ctx); err != nil {
				w.log.Warn("telemetry of the last seconds is lost", "what", what, "error", w.exports.hide.Replace(err.Error()))
			}
		})
	}
	send("traces", w.exports.close)
	if w.metrics != nil {
		send("metrics", w.metrics.close)
	}
	sent.Wait()
}

// loop is one of the process's own, and when it last turned: zero before its start.
type loop struct {
	name   string
	turned func() time.Time
}

// live are the checks of /livez.
func live(loops []loop) (all []health.Check) {
	for _, l := range loops {
		all = append(all, health.Loop(l.name, l.turned))
	}
	return all
}

// ready are the checks of /readyz beside those of /livez.
func ready(w *worker.Worker, pool *pgxpool.Pool, keys *catalog.Keys) []health.Check {
	_, all := health.Worker(w)
	return append(all, health.Schema(pool), health.Check{Name: "keys", Run: func(ctx context.Context) error {
		err := keys.Check(ctx)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, catalog.ErrWrongKeys):
			return &health.HiddenError{Says: "the key ring opens no address of a tenant's database", Err: err}
		}
		return &health.HiddenError{Says: "nobody can tell whether the key ring opens anything", Err: err}
	}})
}
