package catalog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// resetBreakersSQL takes away the breakers of a server (or of none) and of databases, and
// wakes the workers if there was one.
const resetBreakersSQL = `
WITH gone AS (
    DELETE FROM headgate.breakers WHERE scope = 'server' AND id = $1 OR scope = 'database' AND id = ANY ($2) RETURNING 1
)
SELECT headgate.wake_queues() FROM (SELECT count(*) AS n FROM gone) g WHERE g.n > 0`

// resetBreakers has workers try databases by their new addresses at full width, because what
// a breaker says is of the addresses before. A server is named only where its own address
// has changed. An address that does not answer opens the breaker again, after three failures.
func resetBreakers(ctx context.Context, tx pgx.Tx, server *uuid.UUID, databases ...uuid.UUID) error {
	if _, err := tx.Exec(ctx, resetBreakersSQL, server, databases); err != nil {
		return fmt.Errorf("resetting the breakers: %w", err)
	}
	return nil
}

// resetAdoptedSQL takes away the breakers of one database ($1) or, for NULL, of all, that are
// there because another central database works them, and wakes the workers if there was one.
const resetAdoptedSQL = `
WITH gone AS (
    DELETE FROM headgate.breakers WHERE scope = 'database' AND class = 'wrong_centre' AND ($1::uuid IS NULL OR id = $1) RETURNING 1
)
SELECT headgate.wake_queues() FROM (SELECT count(*) AS n FROM gone) g WHERE g.n > 0`

// resetTrustingSQL takes away the breakers of databases that do not answer and whose addresses
// name an authority ($1), and of the servers of such databases.
const resetTrustingSQL = `
WITH trusting AS MATERIALIZED (
    SELECT d.id, d.server_id FROM headgate.databases d WHERE $1::text = ANY (headgate.authorities_of(d))
), gone AS (
    DELETE FROM headgate.breakers
    WHERE class = 'unreachable' AND (scope = 'server' AND id IN (SELECT server_id FROM trusting) OR scope = 'database' AND id IN (SELECT id FROM trusting))
    RETURNING 1
)
SELECT headgate.wake_queues() FROM (SELECT count(*) AS n FROM gone) g WHERE g.n > 0`

// ResetBreaker has workers try a database at full width, because somebody has mended what its
// breaker says, at the same address. The breaker of the server stays. A database that refuses
// work still opens the breaker again. The error matches jobs.ErrUnknownDatabase.
func (h *Hosting) ResetBreaker(ctx context.Context, database string) error {
	_, err := within(ctx, h.c.pool, func(tx pgx.Tx) (none struct{}, err error) {
		found, err := databaseID(ctx, tx, database)
		if err != nil {
			return none, err
		}
		id, err := uuid.Parse(found)
		if err != nil {
			return none, err
		}
		return none, resetBreakers(ctx, tx, nil, id)
	})
	if err != nil {
		return fmt.Errorf("reset the breaker of database %s: %w", shown(database), err)
	}
	return nil
}
