package explain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/orchestrator/internal/central"
)

// queueLockedBySQL names a session that lets nobody read table river_job, in the form of
// headgate.locked_by; no row if nobody does.
const queueLockedBySQL = `
SELECT format('session %s of %s (%s, %s, since %s)', a.pid, a.usename, coalesce(nullif(a.application_name, ''), 'no application_name'),
              coalesce(a.state, 'its state is not shown'), coalesce(date_trunc('second', a.xact_start)::text, 'unknown'))
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (SELECT 'river_job'::regclass UNION ALL SELECT indexrelid FROM pg_index WHERE indrelid = 'river_job'::regclass)
LIMIT 1`

// queueLockedWithin bounds the look who has locked the queue, because the reader's own time
// may be over.
const queueLockedWithin = 2 * time.Second

// saysWhoLocks adds to the error of a read that has waited in vain for a lock who has locked
// the queue, and what an administrator runs. Other errors stay as they are.
func (x *Explainer) saysWhoLocks(ctx context.Context, err error) error {
	if !central.IsLockTimeout(err) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueLockedWithin)
	defer cancel()
	var by string
	switch looked := x.pool.QueryRow(ctx, queueLockedBySQL).Scan(&by); {
	case looked == nil:
		return fmt.Errorf("%w: table river_job is locked by %s, and jobs stand still; %s", err, by, central.EndSession(by))
	case errors.Is(looked, pgx.ErrNoRows):
		return fmt.Errorf("%w: what this reads was locked, and nobody holds table river_job now; try again", err)
	default:
		return fmt.Errorf("%w; who has locked it could not be seen: %w", err, looked)
	}
}
