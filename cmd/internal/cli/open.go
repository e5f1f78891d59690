package cli

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Pool opens the central database with at least so many connections, after a
// look whether its schema fits this program. The caller closes it.
func (app *App) Pool(ctx context.Context, conns int32) (*pgxpool.Pool, error) {
	cfg, err := app.Config()
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = max(cfg.MaxConns, conns)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the central database: %w", err)
	}
	if err := migrations.Check(ctx, pool); err != nil {
		pool.Close()
		return nil, Unreachable(cfg.ConnConfig, err)
	}
	return pool, nil
}

// Conn opens one connection with a session of its own, for migrations:
// past the pooler if there is one.
func (app *App) Conn(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := app.SessionConfig()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err == nil && cfg.AfterConnect != nil {
		err = cfg.AfterConnect(ctx, conn)
	}
	if err != nil {
		return nil, Unreachable(cfg.ConnConfig, err)
	}
	return conn, nil
}

// AdminConn opens one connection to the central database with an administrator's address,
// which is read as AddressFrom does and kept nowhere. Where the central database is given as
// well, the address has to lead to a database of the same name.
func (app *App) AdminConn(ctx context.Context, flag, file, variable string) (*pgx.Conn, error) {
	text, from, err := app.addressText(ctx, flag, file, variable)
	if err != nil {
		return nil, err
	}
	cfg, err := app.configOf(text, from)
	if err != nil {
		return nil, err
	}
	if usual, _, err := app.centralString(); err == nil {
		if other, err := app.configOf(usual, ""); err == nil && other.ConnConfig.Database != cfg.ConnConfig.Database {
			return nil, Usagef("%s: it leads to database %s, and the central database is %s: give the administrator's address of that one", from, Quote(cfg.ConnConfig.Database), Quote(other.ConnConfig.Database))
		}
	}
	session.Pin(cfg.ConnConfig.RuntimeParams, session.Central)
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, Unreachable(cfg.ConnConfig, err)
	}
	return conn, nil
}

// ListenPool is a pool past the pooler, for the connection that listens; nil where the
// central pool can do it, or where no way past is known.
func ListenPool(ctx context.Context, app *App) (*pgxpool.Pool, error) {
	cfg, err := app.DirectConfig()
	if cfg == nil || err != nil || !app.Pooled() {
		return nil, err
	}
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the central database past its pooler: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("DATABASE_DIRECT_URL: %w", Unreachable(cfg.ConnConfig, err))
	}
	return pool, nil
}

// Central is the central side as most commands need it.
type Central struct {
	Pool    *pgxpool.Pool
	Catalog *catalog.Catalog
	Client  *orchestrator.Client

	Schedules *schedule.Store
	Admission *admission.Control
	Explain   *explain.Explainer
}

// Open connects to the central database, and hands work what stands on it. ring
// may be nil where nothing is sealed or opened.
func (app *App) Open(ctx context.Context, ring *catalog.KeyRing, work func(Central) error) error {
	pool, err := app.Pool(ctx, 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	central, err := app.On(pool, ring)
	if err != nil {
		return err
	}
	return work(central)
}

// On makes the central side on a pool that is open.
func (app *App) On(pool *pgxpool.Pool, ring *catalog.KeyRing) (Central, error) {
	cat, err := catalog.NewWithConfig(catalog.Config{Pool: pool, Ring: ring, Meter: app.Meter})
	if err != nil {
		return Central{}, err
	}
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: cat, Check: app.Check, Tracer: app.Tracer, Logger: app.Log})
	if err != nil {
		return Central{}, err
	}
	schedules, err := schedule.New(schedule.Config{Pool: pool, Catalog: cat, Check: app.Check, Tracer: app.Tracer, Meter: app.Meter, Logger: app.Log})
	if err != nil {
		return Central{}, err
	}
	control, err := admission.New(admission.Config{Pool: pool, Catalog: cat})
	if err != nil {
		return Central{}, err
	}
	explainer, err := explain.New(explain.Config{Pool: pool, Catalog: cat})
	return Central{Pool: pool, Catalog: cat, Client: client, Schedules: schedules, Admission: control, Explain: explainer}, err
}

// Keys reads the ring from the environment.
func (app *App) Keys() (*catalog.KeyRing, error) {
	ring, err := catalog.LoadKeyRing(app.Env)
	if err != nil {
		return nil, &UsageError{err}
	}
	return ring, nil
}

// CloseConn closes a connection whatever has become of ctx.
func CloseConn(ctx context.Context, conn *pgx.Conn) { _ = conn.Close(context.WithoutCancel(ctx)) }

// SourceConn opens one connection to a database of the user's own, which is read once. Its
// address is read as AddressFrom does, so that no part of it comes from the environment or
// from files, and kept nowhere.
func (app *App) SourceConn(ctx context.Context, flag, file, variable string) (*pgx.Conn, error) {
	text, from, err := app.addressText(ctx, flag, file, variable)
	if err != nil {
		return nil, err
	}
	if _, err := address.Parse(text); err != nil {
		return nil, Usagef("%s: %w", from, err)
	}
	cfg, err := app.configOf(text, from)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return nil, InWords(err, fmt.Sprintf("%s: the source at %s:%d cannot be reached (%v); is it running, and is the address right?", from, cfg.ConnConfig.Host, cfg.ConnConfig.Port, Cause(err)))
	}
	return conn, nil
}
