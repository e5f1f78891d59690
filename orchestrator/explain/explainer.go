package explain

import (
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Config is what an Explainer needs. Pool and Catalog are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants.
	Catalog *catalog.Catalog
}

// Explainer says why work does not run. It only reads. It is safe for concurrent use,
// holds no connection between calls and needs no closing.
type Explainer struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	queue   *queue.Queue
	control *admission.Control
}

// New returns the explainer of a central database.
func New(cfg Config) (*Explainer, error) {
	if cfg.Pool == nil {
		return nil, jobs.Missing("explain.Config.Pool", "the central database's pool")
	}
	if cfg.Catalog == nil {
		return nil, jobs.Missing("explain.Config.Catalog", "a catalog")
	}
	control, err := admission.New(admission.Config{Pool: cfg.Pool, Catalog: cfg.Catalog})
	if err != nil {
		return nil, err
	}
	return &Explainer{
		pool: cfg.Pool, catalog: cfg.Catalog, control: control,
		queue: queue.New(queue.Config{Pool: cfg.Pool, Catalog: cfg.Catalog}),
	}, nil
}
