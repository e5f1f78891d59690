// Package health listens for whoever keeps the process running; worker/health answers.
package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"github.com/headgate/headgate/worker/health"
)

// maxConns bounds the connections that a server has open at once.
const maxConns = 64

// Server answers at one address. Its methods are safe for concurrent use.
type Server struct {
	*health.Handler
	http *http.Server
	done chan struct{}
	addr net.Addr
}

// Listen opens addr and answers there until Close; cfg.Log is required. In addr the host
// may be left out, and the colon with it: 127.0.0.1 is meant then.
func Listen(ctx context.Context, addr string, cfg health.Config, more map[string]http.Handler) (*Server, error) {
	addr, err := Address(addr)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening at %s for health: %w", addr, err)
	}
	s := &Server{Handler: health.New(cfg), done: make(chan struct{}), addr: listener.Addr()}
	mux := http.NewServeMux()
	for _, path := range health.Paths {
		mux.Handle("GET "+path, s)
	}
	for path, handler := range more {
		mux.Handle("GET "+path, handler)
	}
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(netutil.LimitListener(listener, maxConns)); !errors.Is(err, http.ErrServerClosed) {
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
