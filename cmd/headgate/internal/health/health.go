// Package health answers whoever keeps the process running: kubelet, systemd, a load
// balancer. Who asks is a stranger, so an answer has no name of a tenant's and no text of
// a database's error; the log has these.
//
//	/livez     the process's own loops turn: from memory, no database is asked
//	/readyz    it does its work: live, the schema fits, a key opens, heartbeats and claims succeed
//	/startupz  it has started
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headgate/headgate/cmd/internal/conns"
)

// Check is one thing that must be so. Its error is one sentence for strangers.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Config is how a Server answers. Log is required.
type Config struct {
	Log *slog.Logger

	// Within bounds what one answer of /readyz takes. 0 means 2 seconds.
	Within time.Duration

	// Keep is how long an answer of /readyz is given again, so that many who ask cost
	// no more than one. 0 means 1 second.
	Keep time.Duration

	// Conns bounds the connections that are open at once: for one more, the one that has
	// waited longest without a request is closed. 0 means 64.
	Conns int

	// ReadWithin bounds how long a request may take to come, WriteWithin how long an answer
	// takes, /metrics included. 0 means 2 and 30 seconds.
	ReadWithin, WriteWithin time.Duration
}

func (c *Config) setDefaults() {
	c.Within, c.Keep = cmp.Or(c.Within, 2*time.Second), cmp.Or(c.Keep, time.Second)
	c.Conns, c.ReadWithin, c.WriteWithin = cmp.Or(c.Conns, 64), cmp.Or(c.ReadWithin, 2*time.Second), cmp.Or(c.WriteWithin, 30*time.Second)
}

// Server answers at one address. Its methods are safe for concurrent use.
type Server struct {
	cfg    Config
	checks atomic.Pointer[checks] // nil while the process starts
	http   *http.Server
	done   chan struct{}
	addr   net.Addr

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

// Listen opens addr and answers there until Close. In addr the host may be left out, and
// the colon with it: 127.0.0.1 is meant then.
func Listen(ctx context.Context, addr string, cfg Config, more map[string]http.Handler) (*Server, error) {
	addr, err := Address(addr)
	if err != nil {
		return nil, err
	}
	cfg.setDefaults()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening at %s for health: %w", addr, err)
	}
	s := &Server{cfg: cfg, done: make(chan struct{}), addr: listener.Addr()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /startupz", s.startup)
	paths := []string{"/livez", "/readyz", "/startupz"}
	for path, handler := range more {
		mux.Handle("GET "+path, handler)
		paths = append(paths, path)
	}
	mux.HandleFunc("GET /{$}", index(paths))
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: cfg.ReadWithin, ReadTimeout: cfg.ReadWithin, WriteTimeout: cfg.WriteWithin,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	s.http.SetKeepAlivesEnabled(false) // who asks comes every few seconds, and holds nothing meanwhile
	listener = conns.Bound(s.http, listener, cfg.Conns)
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("nobody answers about health any more", "error", err)
		}
	}()
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Started says that the process has started, and what it is asked from now on: live from
// memory only, ready may ask the central database.
func (s *Server) Started(live, ready []Check) {
	s.checks.Store(&checks{live, slices.Concat(live, ready)})
}

// Close ends all connections and waits for that.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// index lists what is answered, because somebody who has only the port asks for nothing else.
func index(paths []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, "headgate answers here: "+strings.Join(paths, ", ")+" (?verbose lists what is well too)\n")
	}
}

func (s *Server) startup(w http.ResponseWriter, _ *http.Request) {
	if s.checks.Load() == nil {
		write(w, http.StatusServiceUnavailable, "starting\n")
		return
	}
	write(w, http.StatusOK, "ok\n")
}

func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	var live []Check
	if c := s.checks.Load(); c != nil {
		live = c.live
	}
	answer(w, r, live, run(r.Context(), live))
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	c := s.checks.Load()
	if c == nil {
		write(w, http.StatusServiceUnavailable, "starting\n")
		return
	}
	answer(w, r, c.all, s.failures(r.Context(), c.all))
}

// failures asks all checks, or gives the last answer again.
func (s *Server) failures(ctx context.Context, all []Check) []failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) < s.cfg.Keep {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Within)
	defer cancel()
	failed := run(ctx, all)
	s.asked, s.last = time.Now(), failed
	s.tell(failed)
	return failed
}

// tell logs each change of the answer.
func (s *Server) tell(failed []failure) {
	var names []string
	for _, f := range failed {
		names = append(names, f.name)
	}
	now := strings.Join(names, ", ")
	if now == s.told {
		return
	}
	s.told = now
	if now == "" {
		s.cfg.Log.Info("ready for work again")
		return
	}
	for _, f := range failed {
		s.cfg.Log.Warn("not ready", "check", f.name, "error", f.err, "cause", cause(f.err))
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
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text)) // who asked may be gone
}

// HiddenError is a sentence for strangers with the error that only the log may have.
type HiddenError struct {
	Says string
	Err  error
}

func (h *HiddenError) Error() string { return h.Says }

func cause(err error) any {
	var hidden *HiddenError
	if errors.As(err, &hidden) {
		return hidden.Err
	}
	return nil
}
