package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Catalog reads and writes the catalog's tables. It is safe for concurrent use.
//
// Each write has a form that takes the caller's transaction (AddServerTx). That
// form works inside a savepoint: when it fails, the transaction is as it was
// before the call and can go on.
type Catalog struct {
	pool   *pgxpool.Pool
	ring   *KeyRing
	memory *memory
	meter  *telemetry.Catalog
	places places
	roots  roots
}

// Config is what a Catalog needs. Pool is required.
type Config struct {
	// Pool is the central database.
	Pool *pgxpool.Pool

	// Ring seals and opens the addresses. nil is for processes that do neither: an
	// application that enqueues and looks tenants up.
	Ring *KeyRing

	// Memory says what is remembered of the answers.
	Memory Memory

	// Meter records how many questions the memory answers. nil means OpenTelemetry's global
	// provider.
	Meter metric.MeterProvider
}

// New returns a catalog on the central database behind pool, whose addresses
// are sealed with ring, with the defaults of Memory. It does nothing yet and does
// not take over the pool.
func New(pool *pgxpool.Pool, ring *KeyRing) *Catalog {
	defaults, _ := Memory{}.checked()     // they are right
	meter, _ := telemetry.NewCatalog(nil) // its name is right
	return &Catalog{pool: pool, ring: ring, memory: newMemory(defaults), meter: meter}
}

// NewWithConfig is New with choices. The error says which one is wrong.
func NewWithConfig(cfg Config) (*Catalog, error) {
	if cfg.Pool == nil {
		return nil, jobs.Missing("catalog.Config.Pool", "the central database's pool")
	}
	memory, err := cfg.Memory.checked()
	if err != nil {
		return nil, err
	}
	meter, err := telemetry.NewCatalog(cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("making the instruments of the catalog's metrics: %w", err)
	}
	return &Catalog{pool: cfg.Pool, ring: cfg.Ring, memory: newMemory(memory), meter: meter}, nil
}

// Open is New with the key ring of the environment (see KeysFromEnv), after a
// look whether the central database answers, and whether the ring opens what is sealed
// there (else the error matches ErrWrongKeys).
func Open(ctx context.Context, pool *pgxpool.Pool) (*Catalog, error) {
	ring, err := KeysFromEnv()
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	if err := NewKeys(pool, ring).Check(ctx); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	return New(pool, ring), nil
}

// Try runs do in one transaction, with the limits that this package's own transactions have,
// and commits it. A dry run undoes it instead, after the constraints are checked that wait for
// the commit, so that an error of the change is an error of its dry run. Whatever do returns
// undoes the transaction and is returned. do must use no other connection for what it writes,
// and must wait for nobody, because others wait for what it has locked. It is safe for
// concurrent use.
func (c *Catalog) Try(ctx context.Context, dryRun bool, do func(tx pgx.Tx) error) error {
	return central.Undone(central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		if err := do(tx); err != nil || !dryRun {
			return err
		}
		return central.Undo(ctx, tx)
	}))
}

// beginner starts a transaction: a pool does, and in a transaction a savepoint.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// within runs work in a transaction of our own on a pool, in a savepoint in the
// caller's transaction, and undoes it if work fails.
func within[T any](ctx context.Context, db beginner, work func(tx pgx.Tx) (T, error)) (result T, err error) {
	do := func(tx pgx.Tx) error {
		result, err = work(tx)
		return err
	}
	switch tx := db.(type) {
	case pgx.Tx:
		err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
			if err := access.Say(ctx, tx, "", ""); err != nil {
				return err
			}
			return do(tx)
		})
		err = central.NameHolders(ctx, tx, 0, err)
	case central.Beginner:
		err = central.Write(ctx, tx, do)
	default:
		err = fmt.Errorf("the catalog cannot begin a transaction on a %T", db)
	}
	return result, err
}
