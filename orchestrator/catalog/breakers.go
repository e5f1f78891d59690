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
