package schedule

import (
	"cmp"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel/metric"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Config is what a Store needs. Pool and Catalog are required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Catalog knows the tenants.
	Catalog *catalog.Catalog

	// Check looks at a kind and at arguments that are JSON already, and says why they do
	// not fit: those of a schedule that is edited, triggered or fires. Check is for the
	// kinds that this program knows (orchestrator.CheckStored), because after a deploy a schedule
	// may ask for a kind that is gone. nil means that all fit. Check is called inside
	// transactions, by several goroutines at once.
	Check func(kind string, args []byte) error

	// Tracer traces what fires: each occurrence begins a trace, and the job's attempts are
	// linked to it. nil means OpenTelemetry's global provider, which records nothing where
	// the program has set none.
	Tracer trace.TracerProvider

	// Meter records the metrics of the scheduler that package jobs/telemetry names. nil
	// means OpenTelemetry's global provider.
	Meter metric.MeterProvider

	// Logger is told what the store and its scheduler do. nil means slog.Default().
	Logger *slog.Logger
}

// Store has the schedules of tenants and databases, and behind three doors what is
// shared by many of them. It is safe for concurrent use, holds no connection between
// calls and needs no closing.
type Store struct {
	deps

	// Templates are schedules for all tenants of a selector.
	Templates *Templates

	// Calendars are days and times of the day at which schedules do not fire.
	Calendars *Calendars

	// Files make the templates and calendars what a file says.
	Files *Files
}

// Templates has the schedules for all tenants of a selector.
type Templates struct{ deps }

// Calendars has the exclusion calendars, blackouts and maintenance windows.
type Calendars struct{ deps }

// Files compares a file of templates and calendars with the database, and applies it.
type Files struct {
	deps
	templates *Templates
}

// deps is what all doors stand on.
type deps struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	check   func(kind string, args []byte) error // never nil
	log     *slog.Logger
	queue   *queue.Queue
	tracer  telemetry.Tracer
	meter   *telemetry.Scheduler
}

// New returns the schedules of a central database.
func New(cfg Config) (*Store, error) {
	if cfg.Pool == nil {
		return nil, jobs.Missing("schedule.Config.Pool", "the central database's pool")
	}
	if cfg.Catalog == nil {
		return nil, jobs.Missing("schedule.Config.Catalog", "a catalog")
	}
	log, check := cmp.Or(cfg.Logger, slog.Default()), cfg.Check
	if check == nil {
		check = func(string, []byte) error { return nil }
	}
	meter, err := telemetry.NewScheduler(cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("making the instruments of the scheduler's metrics: %w", err)
	}
	d := deps{
		tracer: telemetry.NewTracer(cfg.Tracer), meter: meter,
		pool: cfg.Pool, catalog: cfg.Catalog, check: check, log: log,
		queue: queue.New(queue.Config{Pool: cfg.Pool, Catalog: cfg.Catalog, Check: check, Logger: log}),
	}
	templates := &Templates{d}
	return &Store{deps: d, Templates: templates, Calendars: &Calendars{d}, Files: &Files{d, templates}}, nil
}
