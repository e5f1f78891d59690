package orchestrator

import (
	"cmp"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Config is what a Client needs. Pool and Catalog are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants.
	Catalog *catalog.Catalog

	// Check looks at a kind and at arguments that are JSON already, and says why they do
	// not fit: those of a job to rerun. Check is for the kinds that this program knows
	// (CheckStored). nil means that all fit. Check is called inside transactions, by
	// several goroutines at once.
	Check func(kind string, args []byte) error

	// Tracer traces enqueues: the span of an enqueue is a child of the span in its ctx, and
	// the job's attempts are linked to it. nil means OpenTelemetry's global provider, which
	// records nothing where the program has set none.
	Tracer trace.TracerProvider

	// Logger is told what the client does. nil means slog.Default().
	Logger *slog.Logger
}

// Client enqueues jobs, ends and repeats them, and answers for them. It is safe for concurrent use, holds
// no connection between calls and needs no closing.
type Client struct {
	pool  *pgxpool.Pool
	queue *queue.Queue
}

// New returns a client on the central database.
func New(cfg Config) (*Client, error) {
	if cfg.Pool == nil {
		return nil, jobs.Missing("orchestrator.Config.Pool", "the central database's pool")
	}
	if cfg.Catalog == nil {
		return nil, jobs.Missing("orchestrator.Config.Catalog", "a catalog")
	}
	log, check := cmp.Or(cfg.Logger, slog.Default()), cfg.Check
	if check == nil {
		check = func(string, []byte) error { return nil }
	}
	return &Client{pool: cfg.Pool, queue: queue.New(queue.Config{
		Pool: cfg.Pool, Catalog: cfg.Catalog, Check: check, Tracer: telemetry.NewTracer(cfg.Tracer), Logger: log,
	})}, nil
}

// CheckStored says why JSON is none of a kind's arguments: what Enqueue refuses, and
// what does not fit the type of like, which is any value of the kind's struct. Types
// that hold the JSON of any kind take what is an object. It is what Config.Check is
// made of.
func CheckStored(like jobs.Args, raw []byte) error { return wire.CheckStored(like, raw) }
