package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs/lifecycle"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// ListenerConfig says how a Listener listens. The zero value works.
type ListenerConfig struct {
	// Conn is where the central database is reached directly, for a pool that goes
	// through a pooler in transaction mode, where notifications do not arrive. nil
	// means where the catalog's pool connects to.
	Conn *pgx.ConnConfig

	// Logger is told when notifications begin and cease to arrive. nil means
	// slog.Default().
	Logger *slog.Logger
}

// Listener makes a Catalog forget what has changed as soon as the change is
// committed, whoever made it: the catalog's tables notify by triggers. What it
// costs is one connection for each process and one round trip in 30 seconds,
// whatever the number of tenants.
//
//	           ┌── broken, or silent at a round trip ──┐
//	           ▼                                       │
//	connect ─▶ LISTEN ─▶ hear our own greeting ─▶ listening
//	   ▲          │ (5 s)
//	   └──────────┘ after 0.1 s, 0.2 s, … 10 s, with jitter; 1 min if deaf
//
// It believes that notifications arrive only when it has heard one: behind a
// pooler in transaction mode LISTEN succeeds and nothing comes. As long as it is
// not listening, answers are believed for FreshFor instead of Memory.TTL; those of
// before it listened are so, too.
type Listener struct {
	catalog *Catalog
	cfg     ListenerConfig
	told    bool // of the loop: that it is deaf

	cycle *lifecycle.Cycle
}

const (
	channel   = "headgate_catalog" // as in migrations/central/0011_catalog_changes.sql
	greeting  = "hello "
	stepFor   = 5 * time.Second // bounds one round trip
	pingEvery = 30 * time.Second
	retryMin  = 100 * time.Millisecond
	retryMax  = 10 * time.Second
	retryDeaf = time.Minute
	listenSQL = `LISTEN ` + channel
	greetSQL  = `SELECT pg_notify($1, $2)`
)

// errDeaf: LISTEN succeeded, and our own notification did not arrive.
var errDeaf = errors.New("notifications do not arrive; is there a pooler in transaction mode between? Give the listener a direct address")

// NewListener returns a listener that does nothing until Start.
func NewListener(c *Catalog, cfg ListenerConfig) *Listener {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	l := &Listener{catalog: c, cfg: cfg}
	l.cycle = lifecycle.New(lifecycle.Parts{Name: "the catalog's listener", Loop: func(ctx context.Context) error { l.loop(ctx); return nil }})
	return l
}

// Listening says whether notifications arrive.
func (l *Listener) Listening() bool { return l.catalog.memory.listening.Load() != deaf }

// Start listens in the background and returns at once. It is an error while it listens;
// after Stop it begins again. ctx is for starting only.
func (l *Listener) Start(ctx context.Context) error { return l.cycle.Start(ctx) }

// Stop ends the listening and waits for that, as long as ctx allows. It may be called
// twice, or without a Start.
func (l *Listener) Stop(ctx context.Context) error { return l.cycle.Stop(ctx) }

// Run listens until ctx ends, and stops. It returns nil after that, and an error if it
// cannot start.
func (l *Listener) Run(ctx context.Context) error { return l.cycle.Run(ctx) }

func (l *Listener) loop(ctx context.Context) {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		heard, err := l.runOnce(ctx)
		l.catalog.memory.listening.Store(deaf)
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = retryMin
		}
		wait := pause
		if errors.Is(err, errDeaf) {
			wait = retryDeaf
		}
		level := slog.LevelWarn
		if l.told && !heard {
			level = slog.LevelDebug // once an outage is enough
		}
		l.told = true
		l.cfg.Logger.Log(ctx, level, "not notified of changes in the catalog; they count after "+FreshFor.String(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // spreads reconnects, no secret
		}
	}
}

// runOnce listens until the connection breaks, and says whether it ever heard
// anything.
func (l *Listener) runOnce(ctx context.Context) (heard bool, err error) {
	conn, err := l.connect(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it is given up
	}()
	if err := l.prove(ctx, conn); err != nil {
		return false, err
	}
	if l.told {
		l.cfg.Logger.InfoContext(ctx, "notified of changes in the catalog again")
	}
	for {
		n, err := bounded(ctx, pingEvery, conn.WaitForNotification)
		switch {
		case err == nil:
			l.heard(n)
		case ctx.Err() != nil:
			return true, ctx.Err()
		case !pgconn.Timeout(err):
			return true, err
		default:
			if _, err := bounded(ctx, stepFor, func(ctx context.Context) (struct{}, error) { return struct{}{}, conn.Ping(ctx) }); err != nil {
				return true, err
			}
		}
	}
}

// bounded bounds one step.
func bounded[T any](ctx context.Context, d time.Duration, step func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return step(ctx)
}

func (l *Listener) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*stepFor)
	defer cancel()
	if l.cfg.Conn != nil {
		return pgx.ConnectConfig(ctx, l.cfg.Conn.Copy())
	}
	pool := l.catalog.pool.Config()
	conn := pool.ConnConfig.Copy()
	if pool.BeforeConnect != nil { // passwords that are made for each connection
		if err := pool.BeforeConnect(ctx, conn); err != nil {
			return nil, err
		}
	}
	return pgx.ConnectConfig(ctx, conn)
}

// prove begins to listen, and returns when a notification has come by the way
// that those of changes take.
func (l *Listener) prove(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, stepFor)
	defer cancel()
	if _, err := conn.Exec(ctx, listenSQL); err != nil {
		return err
	}
	since := l.catalog.memory.clock()
	own := greeting + uuid.NewString()
	if _, err := l.catalog.pool.Exec(ctx, greetSQL, channel, own); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		switch {
		case pgconn.Timeout(err):
			return fmt.Errorf("%w (%w)", errDeaf, err)
		case err != nil:
			return err
		case n.Payload == own:
			l.catalog.memory.listening.Store(since)
			return nil
		}
		l.heard(n)
	}
}

// heard forgets what a notification says has changed.
func (l *Listener) heard(n *pgconn.Notification) {
	memory := l.catalog.memory
	switch {
	case strings.HasPrefix(n.Payload, greeting): // another listener's
	case n.Payload == "":
		memory.drop()
	default:
		var ids []uuid.UUID
		for text := range strings.SplitSeq(n.Payload, ",") {
			id, ok := fit.UUID(text)
			if !ok { // everything, or what a newer schema says
				memory.dropAll()
				return
			}
			ids = append(ids, id)
		}
		memory.drop(ids...)
	}
}
