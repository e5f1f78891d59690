package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Catalog reads and writes the catalog's tables. It is safe for concurrent use.
//
// Each write has a form that takes the caller's transaction (AddServerTx). That
// form works inside a savepoint: when it fails, the transaction is as it was
// before the call and can go on.
type Catalog struct {
	pool   *pgxpool.Pool
	ring   *KeyRing
	recent *recent
}

// New returns a catalog on the central database behind pool, whose addresses
// are sealed with ring. It does nothing yet and does not take over the pool.
func New(pool *pgxpool.Pool, ring *KeyRing) *Catalog {
	return &Catalog{pool: pool, ring: ring, recent: newRecent()}
}

// Open is New with the key ring of the environment (see KeysFromEnv), after a
// look whether the central database answers.
func Open(ctx context.Context, pool *pgxpool.Pool) (*Catalog, error) {
	ring, err := KeysFromEnv()
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(ctx); err != nil {
		return nil, fmt.Errorf("open the catalog: %w", err)
	}
	return New(pool, ring), nil
}

// beginner starts a transaction: a pool does, and in a transaction a savepoint.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// within runs work in a transaction or savepoint that db begins, and undoes it
// if work fails.
func within[T any](ctx context.Context, db beginner, work func(tx pgx.Tx) (T, error)) (result T, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		result, err = work(tx)
		return err
	})
	return result, err
}
