package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
)

// openCentral opens the worker's own connections to the central database, as
// Config.Pool's are made. What they must be set to is no matter of who made that
// pool, or of the database's or the login's defaults:
//
//   - on connections of their own by the startup packet;
//   - where a pooler refuses that, by the first statement of each connection;
//   - behind a pooler in transaction mode not at all: there the login's settings
//     must be right, and the worker does not start where they are not. River is told the
//     queue's schema, because the first of the search_path may be another one.
func (w *Worker) openCentral(ctx context.Context) error {
	if err := migrations.CheckVersion(ctx, w.cfg.Pool); err != nil {
		return err
	}
	schema, err := migrations.Queue(ctx, w.cfg.Pool)
	if err != nil {
		return err
	}
	if w.pooled() {
		w.schema = migrations.RiverSchema(schema)
	}
	w.session = sessionName(w.cfg.Pool.Config().ConnConfig.RuntimeParams["application_name"])
	w.central, err = w.centralPool(ctx, schema)
	if err != nil {
		return err
	}
	if err := migrations.CheckSession(ctx, w.central); err != nil {
		w.central.Close()
		return err
	}
	return nil
}

// pooled says that a pooler stands before the central database, whose sessions nobody sets.
func (w *Worker) pooled() bool { return w.cfg.PollOnly || w.cfg.Listen != nil }

func (w *Worker) centralPool(ctx context.Context, schema string) (*pgxpool.Pool, error) {
	cfg := w.cfg.Pool.Config()
	cfg.ConnConfig.RuntimeParams["application_name"] = w.session
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns = int32(w.cfg.CentralConns), 0, 0
	settings := append([]session.Setting{{Name: "search_path", Value: pgx.Identifier{schema}.Sanitize()}}, session.Central...)
	if w.pooled() {
		session.PinPooled(cfg.ConnConfig.RuntimeParams)
		return pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	}
	direct := cfg.Copy()
	session.Pin(direct.ConnConfig.RuntimeParams, settings)
	pool, err := reached(ctx, direct)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && strings.Contains(pgErr.Message, "unsupported startup parameter") {
		first := cfg.AfterConnect
		cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, session.Whole(settings)); err != nil || first == nil {
				return err
			}
			return first(ctx, conn)
		}
		session.PinPooled(cfg.ConnConfig.RuntimeParams)
		return reached(ctx, cfg)
	}
	return pool, err
}

// sessionName is the application_name of this process's sessions in the central database,
// and of no other's: that of Config.Pool and eight letters, as Postgres keeps them.
func sessionName(name string) string {
	const most = 63
	last := "/" + uuid.NewString()[:8]
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, cmp.Or(name, "headgate"))
	return plain[:min(len(plain), most-len(last))] + last
}

// reached opens a pool, and one connection of it.
func reached(ctx context.Context, cfg *pgxpool.Config) (*pgxpool.Pool, error) {
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("reaching the central database: %w", err)
	}
	return pool, nil
}
