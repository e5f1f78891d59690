// Package health listens for whoever keeps the process running; worker/health answers.
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
	"time"

	"github.com/headgate/headgate/cmd/internal/conns"
	"github.com/headgate/headgate/worker/health"
)

// Config is how a Server answers. Log is required.
type Config struct {
	health.Config

	// Conns bounds the connections that are open at once: for one more, the one that has
	// waited longest without a request is closed. 0 means 64.
	Conns int

	// ReadWithin bounds how long a request may take to come, WriteWithin how long an answer
	// takes, /metrics included. 0 means 2 and 30 seconds.
	ReadWithin, WriteWithin time.Duration
}

func (c *Config) setDefaults() {
	c.Conns, c.ReadWithin, c.WriteWithin = cmp.Or(c.Conns, 64), cmp.Or(c.ReadWithin, 2*time.Second), cmp.Or(c.WriteWithin, 30*time.Second)
}

// Server answers at one address. Its methods are safe for concurrent use.
type Server struct {
	*health.Handler
	http *http.Server
	done chan struct{}
	addr net.Addr
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
	s := &Server{Handler: health.New(cfg.Config), done: make(chan struct{}), addr: listener.Addr()}
	mux := http.NewServeMux()
	for _, path := range health.Paths {
		mux.Handle("GET "+path, s)
	}
	paths := slices.Clone(health.Paths)
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

// Close ends all connections and waits for that.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// index lists what is answered, because somebody who has only the port asks for nothing else.
func index(paths []string) http.HandlerFunc {
	text := "headgate answers here: " + strings.Join(paths, ", ") + " (?verbose lists what is well too)\n"
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text)) // who asked may be gone
	}
}
