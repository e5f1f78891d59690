package orchestrator

import (
	"cmp"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// Config is what a Client needs. Pool and Catalog are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants.
	Catalog *catalog.Catalog

	// Logger is told what the client and its loops do. nil means slog.Default().
	Logger *slog.Logger
}

// Client enqueues jobs and keeps schedules. It is safe for concurrent use, holds
// no connection between calls and needs no closing.
type Client struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	log     *slog.Logger
	queue   theQueue
	bell    *bell
}

// silent is River's driver without its notification of an insert: a statement
// more in the transaction, at most once in a cooldown. Ours is in insert.go.
type silent struct{ *riverpgxv5.Driver }

// SupportsListenNotify is called by River.
func (silent) SupportsListenNotify() bool { return false }

// New returns a client on the central database.
func New(cfg Config) (*Client, error) {
	if cfg.Pool == nil {
		return nil, errors.New("orchestrator.Config.Pool is missing: give the central database's pool")
	}
	if cfg.Catalog == nil {
		return nil, errors.New("orchestrator.Config.Catalog is missing: give a catalog")
	}
	log := cmp.Or(cfg.Logger, slog.Default())
	return &Client{pool: cfg.Pool, catalog: cfg.Catalog, log: log, bell: newBell(cfg.Pool, log)}, nil
}
