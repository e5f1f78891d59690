// Package health answers whoever keeps a worker program running: kubelet, systemd, a load
// balancer. `headgate serve --health` answers by it, and a program of your own can.
//
//	/livez     the process's own loops turn: from memory, no database is asked
//	/readyz    it does its work: live, not draining, the schema fits, heartbeats and claims succeed
//	/startupz  it has started
//
// Who asks is a stranger, so an answer has no name of a tenant's and no text of a
// database's error; the log has these ([HiddenError]). ?verbose lists what is well too. An
// answer is 200, or 503 with a line for each check that fails.
package health

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Check is one thing that must be so. Run's error is one sentence for strangers: hide what
// is not for them in a [HiddenError]. Several requests may call Run at once.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Config is how a Handler answers. The zero value is usable.
type Config struct {
	Log *slog.Logger // nil means slog.Default

	// Within bounds what one answer of /readyz takes. 0 means 2 seconds.
	Within time.Duration

	// Keep is how long an answer of /readyz is given again, so that many who ask cost
	// no more than one. 0 means 1 second.
	Keep time.Duration
}

// Handler answers at /livez, /readyz and /startupz. Make one with [New]. Its methods are
// safe for concurrent use.
type Handler struct {
	cfg    Config
	mux    *http.ServeMux
	checks atomic.Pointer[checks] // nil while the process starts

	mu    sync.Mutex // one question of the checks at a time
	asked time.Time
	last  []failure
	told  string // the last answer that the log has
}

// checks are what a process that has started is asked.
type checks struct{ live, all []Check }

// failure is a check that failed.
type failure struct {
	name string
	err  error
}

// Paths are where a Handler answers.
var Paths = []string{"/livez", "/readyz", "/startupz"}

// New makes a Handler of a process that is starting: until [Handler.Started], /livez says
// that all is well, and the others answer 503.
func New(cfg Config) *Handler {
	cfg.Log = cmp.Or(cfg.Log, slog.Default())
	cfg.Within, cfg.Keep = cmp.Or(cfg.Within, 2*time.Second), cmp.Or(cfg.Keep, time.Second)
	h := &Handler{cfg: cfg, mux: http.NewServeMux()}
	h.mux.HandleFunc("GET /livez", h.live)
	h.mux.HandleFunc("GET /readyz", h.ready)
	h.mux.HandleFunc("GET /startupz", h.startup)
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Started says that the process has started, and what it is asked from now on: live from
// memory only, because /livez must not fail with a database; ready may ask one. /readyz asks
// both.
func (h *Handler) Started(live, ready []Check) {
	h.checks.Store(&checks{live, slices.Concat(live, ready)})
}

func (h *Handler) startup(w http.ResponseWriter, _ *http.Request) {
	if h.checks.Load() == nil {
		write(w, http.StatusServiceUnavailable, "starting\n")
		return
	}
	write(w, http.StatusOK, "ok\n")
}

func (h *Handler) live(w http.ResponseWriter, r *http.Request) {
	var live []Check
	if c := h.checks.Load(); c != nil {
		live = c.live
	}
	answer(w, r, live, run(r.Context(), live))
}

func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	c := h.checks.Load()
	if c == nil {
		write(w, http.StatusServiceUnavailable, "starting\n")
		return
	}
	answer(w, r, c.all, h.failures(r.Context(), c.all))
}

// failures asks all checks, or gives the last answer again.
func (h *Handler) failures(ctx context.Context, all []Check) []failure {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.asked) < h.cfg.Keep {
		return h.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.Within)
	defer cancel()
	failed := run(ctx, all)
	h.asked, h.last = time.Now(), failed
	h.tell(failed)
	return failed
}

// tell logs each change of the answer.
func (h *Handler) tell(failed []failure) {
	var names []string
	for _, f := range failed {
		names = append(names, f.name)
	}
	now := strings.Join(names, ", ")
	if now == h.told {
		return
	}
	h.told = now
	if now == "" {
		h.cfg.Log.Info("ready for work again")
		return
	}
	for _, f := range failed {
		h.cfg.Log.Warn("not ready", append([]any{"check", f.name, "error", f.err}, cause(f.err)...)...)
	}
}

// First returns the first failure of some checks, nil if all is well.
func First(ctx context.Context, all []Check) error {
	for _, f := range run(ctx, all) {
		return fmt.Errorf("%s: %w", f.name, f.err)
	}
	return nil
}

func run(ctx context.Context, checks []Check) (failed []failure) {
	for _, c := range checks {
		if err := c.Run(ctx); err != nil {
			failed = append(failed, failure{c.Name, err})
		}
	}
	return failed
}

// answer writes 200, or 503 with what fails. ?verbose lists what is well too.
func answer(w http.ResponseWriter, r *http.Request, checks []Check, failed []failure) {
	var text strings.Builder
	code, wrong := http.StatusOK, map[string]bool{}
	for _, f := range failed {
		code, wrong[f.name] = http.StatusServiceUnavailable, true
		fmt.Fprintf(&text, "fail %s: %s\n", f.name, f.err)
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		for _, c := range checks {
			if !wrong[c.Name] {
				fmt.Fprintf(&text, "ok   %s\n", c.Name)
			}
		}
	} else if code == http.StatusOK {
		text.WriteString("ok\n")
	}
	write(w, code, text.String())
}

func write(w http.ResponseWriter, code int, text string) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // who asked may be gone
}
