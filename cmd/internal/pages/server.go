package pages

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/cmd/internal/conns"
)

// How much of a job the pages show.
const (
	DetailRedacted = "redacted" // the names of arguments and the classes of errors
	DetailFull     = "full"     // arguments and errors as they are stored
)

// Details are the values of Config.Detail.
var Details = []string{DetailRedacted, DetailFull}

// Config is how the pages are served. All but the fields with a default are required.
type Config struct {
	// Names are further names by which the pages may be asked for, beside localhost and the
	// addresses of loopback. Nil means none.
	Names []string

	// Write lets the pages cancel, retry, pause and resume, and asks for the one-time
	// address before anything is shown. False means that the pages only read.
	Write bool

	// Detail is one of Details. "" means DetailRedacted.
	Detail string

	// Central is the central side. Its client carries out what is asked for.
	Central cli.Central

	// Database is how the pages' own pool connects to the central database. Sessions
	// behind a pooler in transaction mode belong to nobody: Pooled says so.
	Database *pgxpool.Config
	Pooled   bool

	// Actor is who the process works for, in the history of what the pages do.
	Actor string

	// Log is told what the pages do. Announce is handed the address to open, at the start
	// and, with Write, a new one whenever somebody has used the last.
	Log      *slog.Logger
	Announce func(address string)

	// Within bounds what the central database takes for one answer. 0 means 2 seconds.
	Within time.Duration

	// Read is how long a browser may take to read one answer. 0 means 10 seconds.
	Read time.Duration

	// Unread bounds the bytes of all answers together that are made and not yet read: for one
	// more, the oldest is broken off. One answer has at most a quarter. 0 means 64 MiB.
	Unread int

	// Session is how long a browser that opened the one-time address stays in. 0 means
	// 12 hours.
	Session time.Duration

	// Conns bounds the connections of browsers that are open at once: for one more, the one
	// that has waited longest without a request is closed. 0 means 64.
	Conns int

	// Idle is how long a connection may stay open without a request. 0 means 1 minute.
	Idle time.Duration
}

// uiConns bounds the connections to the central database.
const uiConns = 3

// Server serves the pages. Its methods are safe for concurrent use.
type Server struct {
	http *http.Server
	pool *pgxpool.Pool
	done chan struct{}
	addr net.Addr
}

// Listen opens addr, which Address must allow, and serves the pages there until Close.
func Listen(ctx context.Context, addr string, cfg Config) (*Server, error) {
	addr, err := Address(addr)
	if err != nil {
		return nil, err
	}
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, text := range cfg.Names {
		more, err := name(text)
		if err != nil {
			return nil, err
		}
		names = append(names, more)
	}
	cfg.Detail, cfg.Within, cfg.Session = cmp.Or(cfg.Detail, DetailRedacted), cmp.Or(cfg.Within, 2*time.Second), cmp.Or(cfg.Session, 12*time.Hour)
	cfg.Read, cfg.Unread = cmp.Or(cfg.Read, 10*time.Second), cmp.Or(cfg.Unread, 64<<20)
	if err := cli.OneOf("--ui-detail", cfg.Detail, Details); err != nil {
		return nil, err
	}
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("listening at %s for the pages: %w", addr, err)
	}
	s := &Server{pool: pool, done: make(chan struct{}), addr: listener.Addr()}
	handler, err := s.handler(ctx, cfg, names)
	if err != nil {
		pool.Close()
		return nil, errors.Join(err, listener.Close())
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: cmp.Or(cfg.Idle, time.Minute),
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	listener = conns.Bound(s.http, listener, cmp.Or(cfg.Conns, 64))
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("the pages are not served any more", "error", err)
		}
	}()
	return s, nil
}

// openPool is the pages' own: what a page asks takes no connection from the worker, and ends
// at its limit whether the pages still wait for the answer or not.
func openPool(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	database := cfg.Database.Copy()
	database.MaxConns, database.MinConns, database.MinIdleConns = uiConns, 0, 0
	database.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Second}
	}
	if former := database.AfterConnect; !cfg.Pooled {
		database.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if former != nil {
				if err := former(ctx, conn); err != nil {
					return err
				}
			}
			_, err := conn.Exec(ctx, setTimeoutSQL, (cfg.Within + late).Milliseconds())
			return err
		}
	}
	pool, err := pgxpool.NewWithConfig(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("opening the central database for the pages: %w", err)
	}
	return pool, nil
}

// late is how much later the server ends a statement by itself than the pages give up: that is
// for when the pages' own request to cancel has not come through.
const late = 500 * time.Millisecond

const setTimeoutSQL = `SELECT set_config('statement_timeout', $1::bigint::text, false)`

// handler is what is served: the guards, and behind them the pages.
func (s *Server) handler(ctx context.Context, cfg Config, names []string) (http.Handler, error) {
	river, err := newRiver(ctx, cfg, s.pool)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	river.mount(mux)
	mux.Handle("GET /{$}", http.RedirectHandler(prefix+"/", http.StatusFound))
	g := &guard{names: names, write: cfg.Write}
	address := "http://" + s.addr.String() + prefix + "/"
	if !cfg.Write {
		cfg.Announce(address)
		return g.before(mux), nil
	}
	g.entrance = newEntrance(s.addr, cfg, address)
	return g.before(mux), nil
}

// Addr is where the pages are.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends all connections and waits for that.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	s.pool.Close()
	return err
}
