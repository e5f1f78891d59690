package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The tables that every claim writes are small, but for their dead rows, and these
// stay for as long as any snapshot in the database is older than they are: a
// report, a forgotten transaction, a standby's feedback. Each look-up of a lane
// passes all that the lane has been. So while there is such a snapshot they are
// written anew. Without one vacuum does that work, and does it better: this holds up
// claims (100 ms for 10,000 lanes), makes all sessions plan anew, and takes a lock
// that standbys replay.

// rewriteEvery is in passes of the keeper: 20 seconds at the default.
const rewriteEvery = 2

// rewriteRules say when.
type rewriteRules struct {
	every time.Duration // at most so often, of all processes together, tried or done
	old   int           // transactions that a snapshot must be behind
	dead  int           // rows, and for each live one
	each  int           //
	most  int           // live rows: more would hold up claims for too long
}

var bySnapshot = rewriteRules{old: 2_000, dead: 1_000, each: 5, most: 50_000}

// bloatedSQL takes the turn to write parts anew. The counts are Postgres' own, as of
// about a second ago; every login is shown everybody's backend_xmin.
const bloatedSQL = `
UPDATE headgate.rewrites r
SET tried_at = now()
FROM (
    SELECT part, bool_or(pg_stat_get_dead_tuples(t) > $3::int + $4::int * pg_stat_get_live_tuples(t)) AS bloated, max(pg_stat_get_live_tuples(t)) AS live
    FROM (SELECT part, ('headgate.' || jsonb_array_elements_text(tables))::regclass AS t FROM jsonb_each($6::jsonb) p (part, tables)) p
    GROUP BY part
) b
WHERE r.part = b.part AND b.bloated AND b.live <= $5 AND r.tried_at NOT BETWEEN now() - make_interval(secs => $1) AND now()
  AND $2 < (SELECT max(age) FROM (
      SELECT greatest(age(backend_xmin), age(backend_xid)) AS age FROM pg_stat_activity
      WHERE coalesce(datname = current_database(), true) AND backend_type IS DISTINCT FROM 'autovacuum worker'
      UNION ALL SELECT age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
      UNION ALL SELECT age(xmin) FROM pg_replication_slots
  ) s)
RETURNING r.part`

// rewriteParts are the tables by part: those of a row a lane, and those of a row a
// queue, a group or a process, which stay small; and one that enqueuers write too.
var rewriteParts = map[string][]string{
	"lanes": {"lanes", "lane_rates"}, "clocks": {"lane_groups", "lane_clocks", "hands"}, "wakeups": {"wakeups"},
}

const rewriteSQL = `SELECT headgate.rewrite($1)`

// rewrite writes anew what is bloated, and returns the parts. What somebody has
// locked is left for the next time: for wake-ups, by a transaction that has enqueued
// and not ended; for the rest, by a dump. Who enqueues meanwhile waits for as long as
// this does, 20 ms at most before it begins.
func (k *Keeper) rewrite(ctx context.Context) (done []string, err error) {
	rules := k.rules
	rows, err := k.cfg.Pool.Query(ctx, bloatedSQL, rules.every.Seconds(), rules.old, rules.dead, rules.each, rules.most, rewriteParts)
	if err != nil {
		return nil, fmt.Errorf("looking for dead rows of lanes: %w", err)
	}
	parts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("looking for dead rows of lanes: %w", err)
	}
	for _, part := range parts {
		err := inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			queueLock(batch, sweepLockWait, 0)
			batch.Queue(`SET LOCAL lock_timeout = '20ms'`)
			batch.Queue(`SET LOCAL extra_float_digits = 1`) // rows go through text: virtual times stay what they are
			batch.Queue(rewriteSQL, rewriteParts[part])
			return tx.SendBatch(ctx, batch).Close()
		})
		switch pgErr := (*pgconn.PgError)(nil); {
		case err == nil:
			done = append(done, part)
		case errors.As(err, &pgErr) && pgErr.Code == "55P03":
		default:
			return done, fmt.Errorf("writing %s anew: %w", part, err)
		}
	}
	return done, nil
}
