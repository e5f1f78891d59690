package admission

import (
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Config is what a Control needs. Pool and Catalog are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants.
	Catalog *catalog.Catalog
}

// Control sets limits and pauses. It is safe for concurrent use, holds no connection
// between calls and needs no closing.
type Control struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
}

// New returns the control of a central database.
func New(cfg Config) (*Control, error) {
	if cfg.Pool == nil {
		return nil, jobs.Missing("admission.Config.Pool", "the central database's pool")
	}
	if cfg.Catalog == nil {
		return nil, jobs.Missing("admission.Config.Catalog", "a catalog")
	}
	return &Control{pool: cfg.Pool, catalog: cfg.Catalog}, nil
}
