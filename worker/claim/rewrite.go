package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The tables that every claim writes have few live rows and many dead ones. Dead rows
// stay as long as an older snapshot is open in the database: a report, a forgotten
// transaction, a standby's feedback. Each look-up of a lane passes all dead versions of
// that lane. So the keeper rewrites these tables while such a snapshot is open.
//
// Without an old snapshot vacuum does that work, and does it better. A rewrite holds up
// claims (100 ms at 10,000 lanes), makes all sessions plan again, and takes a lock that
// standbys replay.

// rewriteEvery is the number of the keeper's passes between two rewrites: 20 seconds by
// default.
const rewriteEvery = 2

// rewriteRules say when tables are rewritten.
type rewriteRules struct {
	every time.Duration // between two attempts, over all processes
	old   int           // how many transactions behind the oldest snapshot must be
	dead  int           // dead rows: more than dead + each * live rows are needed
	each  int           // see dead
	most  int           // live rows: a table with more would hold up claims for too long
}

var bySnapshot = rewriteRules{old: 2_000, dead: 1_000, each: 5, most: 50_000}

// bloatedSQL returns the parts to rewrite, and marks them as tried, so that one process
// rewrites each. The counts are Postgres's own, about a second old. Every login may see
// the backend_xmin of all sessions.
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

// rewriteParts are the tables by part. Tables of one part are rewritten together: those
// with a row a lane; those with a row a group, queue or process; and wakeups, which
// enqueuers write too.
var rewriteParts = map[string][]string{
	"lanes": {"lanes", "lane_rates"}, "clocks": {"lane_groups", "lane_clocks", "hands"}, "wakeups": {"wakeups"},
}

const rewriteSQL = `SELECT headgate.rewrite($1)`

// rewrite rewrites the bloated parts and returns them. A part that somebody has locked
// is left for the next time: an open transaction that has enqueued locks wakeups, and a
// dump locks the others. An enqueuer waits for the rewrite, and at most 20 ms for its
// beginning.
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
