package tenantdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Config is what a Pools needs. The zero value works.
type Config struct {
	// MaxConns bounds the connections of this process to one database under one
	// login. 0 means 8.
	MaxConns int

	// IdleTimeout is how long a connection, and then its pool, is kept without
	// work. 0 means 30 seconds.
	IdleTimeout time.Duration

	// ConnectTimeout bounds one connection attempt, name look-up, TLS and login
	// included, where the address does not say. 0 means 5 seconds.
	ConnectTimeout time.Duration

	// RootCerts is the directory of the certificates that addresses may name as
	// sslrootcert (NAME is read from NAME.crt). "" means that only the system's
	// roots are trusted.
	RootCerts string

	// Logger is told of opened and closed pools at debug level. nil means
	// slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.MaxConns = cmp.Or(c.MaxConns, 8)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 30*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// Pools holds the open pools. All its methods are safe for concurrent use.
type Pools struct {
	cfg Config

	mu     sync.Mutex
	open   map[key]*pool // guarded by mu; no connection is made or closed while it is held
	closed bool

	stop context.CancelFunc
	done chan struct{}
}

type key struct {
	server, database, login string
	upgrading               bool // its connections may be to an older schema: kept apart
}

// pool is one pgxpool and what it takes to know that nobody needs it.
type pool struct {
	conns *pgxpool.Pool
	place placeHolder

	users    int       // guarded by Pools.mu
	lastUsed time.Time // guarded by Pools.mu
}

// New starts a Pools. Close it to close the connections and end the goroutine
// that closes idle pools.
func New(cfg Config) *Pools {
	ctx, stop := context.WithCancel(context.Background())
	p := &Pools{cfg: cfg.withDefaults(), open: map[key]*pool{}, stop: stop, done: make(chan struct{})}
	go p.closeIdleLoop(ctx)
	return p
}

// ErrClosed: the Pools was closed.
var ErrClosed = errors.New("tenant connections are closed")

// With runs fn on a connection to place, waiting for a free one as long as ctx
// allows. If fn returns nil the connection is reset and kept; after an error or
// a panic it is closed, so that no state of a failed job can meet the next one.
// Errors of connecting are *[ConnectError]; fn's error is returned as it is.
func (p *Pools) With(ctx context.Context, place address.Place, fn func(conn *pgx.Conn) error) error {
	pl, err := p.use(place)
	if err != nil {
		return err
	}
	defer p.unuse(pl)

	conn, err := pl.conns.Acquire(ctx)
	if err != nil {
		return connectError(ctx, place, err)
	}
	healthy := false
	defer func() {
		if !healthy || !reset(conn.Conn()) {
			discard(conn)
			return
		}
		conn.Release()
	}()
	err = fn(conn.Conn())
	healthy = err == nil
	return err
}

// use returns the place's pool, opened if need be, and marks it used.
func (p *Pools) use(place address.Place) (*pool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	k := key{place.ServerID, place.DatabaseID, place.Login, place.Upgrading}
	pl := p.open[k]
	if pl == nil {
		var err error
		if pl, err = p.newPool(place); err != nil {
			return nil, err
		}
		p.open[k] = pl
		p.cfg.Logger.Debug("tenant pool opened", "database", place.Database, "login", place.Login)
	}
	pl.place.Store(&place) // the newest address wins: a rotated password needs no restart
	pl.users++
	return pl, nil
}

func (p *Pools) unuse(pl *pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pl.users--
	pl.lastUsed = time.Now()
}

// resetSQL takes away every kind of state that a session can carry to its next
// user, in one round trip. DISCARD ALL would also drop the statements that pgx
// has prepared and still believes in.
const resetSQL = `
RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *;
SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES`

// reset reports whether conn is fit for its next user.
func reset(conn *pgx.Conn) bool {
	if conn.IsClosed() || conn.PgConn().TxStatus() != 'I' {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := conn.PgConn().Exec(ctx, resetSQL).ReadAll()
	return err == nil
}

// discard takes conn out of its pool and closes it, within a bound.
func discard(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Hijack().Close(ctx) // closing is all we can do; the socket is closed in any case
}

// closeIdleLoop ends when ctx does.
func (p *Pools) closeIdleLoop(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(max(p.cfg.IdleTimeout/2, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p.closeIdle(now)
		}
	}
}

// closeIdle closes the pools that nobody has used for IdleTimeout and returns
// how many they were.
func (p *Pools) closeIdle(now time.Time) int {
	p.mu.Lock()
	var idle []*pool
	for k, pl := range p.open {
		if pl.users == 0 && now.Sub(pl.lastUsed) >= p.cfg.IdleTimeout {
			idle = append(idle, pl)
			delete(p.open, k)
		}
	}
	p.mu.Unlock()
	for _, pl := range idle {
		pl.conns.Close()
		p.cfg.Logger.Debug("tenant pool closed", "database", pl.place.Load().Database)
	}
	return len(idle)
}

// Open returns the number of open pools.
func (p *Pools) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// Close refuses new work, waits for the connections in use and closes all. It
// may be called twice.
func (p *Pools) Close() {
	p.mu.Lock()
	already := p.closed
	p.closed = true
	open := p.open
	p.open = map[key]*pool{}
	p.mu.Unlock()
	if already {
		<-p.done
		return
	}
	p.stop()
	<-p.done
	for _, pl := range open {
		pl.conns.Close()
	}
}

func (p *Pools) newPool(place address.Place) (*pool, error) {
	cfg, err := neutralConfig()
	if err != nil {
		return nil, fmt.Errorf("preparing connections to database %s: %w", place.Database, err)
	}
	pl := &pool{lastUsed: time.Now()}
	pl.place.Store(&place)
	cfg.MaxConns = int32(min(p.cfg.MaxConns, 1000))
	cfg.MaxConnIdleTime = p.cfg.IdleTimeout
	cfg.HealthCheckPeriod = max(p.cfg.IdleTimeout/2, 10*time.Millisecond)
	cfg.BeforeConnect = func(ctx context.Context, conn *pgx.ConnConfig) error {
		return p.address(ctx, *pl.place.Load(), conn)
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		return checkIdentity(ctx, *pl.place.Load(), conn)
	}
	pl.conns, err = pgxpool.NewWithConfig(context.Background(), cfg)
	return pl, err
}
