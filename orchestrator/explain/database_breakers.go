package explain

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// DatabaseBreaker is the breaker of one database, by which all workers go while it is not
// closed.
type DatabaseBreaker struct {
	Breaker string `json:"breaker"` // closed, half-open or open

	// These are of one that is not closed.
	BreakerClass   string     `json:"breaker_class,omitempty"` // of the attempts that opened it: unreachable, or why the database refuses work
	BreakerSince   *time.Time `json:"breaker_since,omitempty"`
	BreakerUntil   *time.Time `json:"breaker_until,omitempty"` // when jobs may try it
	BreakerCause   string     `json:"breaker_cause,omitempty"`
	BreakerAllowed int        `json:"breaker_allowed,omitempty"` // jobs that may try it at a time, once BreakerUntil is over
}

const databaseBreakersSQL = `
SELECT id::text, CASE WHEN until > clock_timestamp() THEN 'open' ELSE 'half-open' END, class, since, until, cause, allowed
FROM headgate.breakers WHERE scope = 'database' ORDER BY since LIMIT 10000`

// DatabaseBreakers returns the breakers of databases that are not closed, by the databases'
// ids: the first 10,000 by when they opened.
func (x *Explainer) DatabaseBreakers(ctx context.Context) (map[string]DatabaseBreaker, error) {
	found := map[string]DatabaseBreaker{}
	var id string
	var b DatabaseBreaker
	rows, _ := x.pool.Query(ctx, databaseBreakersSQL) // its error is ForEachRow's too
	_, err := pgx.ForEachRow(rows, []any{&id, &b.Breaker, &b.BreakerClass, &b.BreakerSince, &b.BreakerUntil, &b.BreakerCause, &b.BreakerAllowed},
		func() error { found[id] = b; return nil })
	if err != nil {
		return nil, fmt.Errorf("listing the breakers of databases: %w", err)
	}
	return found, nil
}
