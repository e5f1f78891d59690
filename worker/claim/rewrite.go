package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The tables that every claim writes are small, but for their dead rows, and these
// stay for as long as any snapshot in the database is older than they are: a
// report, a forgotten transaction, a standby's feedback. Each look-up of a lane
// passes all that the lane has been. So they are written anew when there are too
// many (the first parameter of each, and $2 for each live row), which vacuum is
// there for in quiet times. Where there are more than rewriteMost live rows that
// would hold up claims for too long.

// bloatedSQL asks Postgres' own counts, which are as of about a second ago.
const bloatedSQL = `
SELECT pg_stat_get_dead_tuples('headgate.lanes'::regclass) > $1::int + $2::int * pg_stat_get_live_tuples('headgate.lanes'::regclass)
       AND pg_stat_get_live_tuples('headgate.lanes'::regclass) <= $3
       OR (SELECT max(pg_stat_get_dead_tuples(('headgate.' || t)::regclass)) FROM unnest('{lane_groups,lane_clocks,lane_rates,hands}'::text[]) t) > $1,
       pg_stat_get_dead_tuples('headgate.wakeups'::regclass) > $1 AND pg_stat_get_live_tuples('headgate.wakeups'::regclass) <= $3`

const (
	rewriteDead = 1_000
	rewriteEach = 5
	rewriteMost = 50_000
)

const (
	rewriteLanesSQL   = `SELECT headgate.rewrite_lanes()`
	rewriteWakeupsSQL = `SELECT headgate.rewrite_wakeups()`
)

// rewrite writes anew what is bloated, and returns how many of the two parts. What
// somebody has locked is left for the next time: for wake-ups, a transaction that
// has enqueued and not ended; for the rest, a dump. Who enqueues meanwhile waits
// for as long as this does, 20 ms at most before it begins.
func (k *Keeper) rewrite(ctx context.Context) (n int, err error) {
	var lanes, wakeups bool
	if err := k.cfg.Pool.QueryRow(ctx, bloatedSQL, rewriteDead, rewriteEach, rewriteMost).Scan(&lanes, &wakeups); err != nil {
		return 0, fmt.Errorf("looking for dead rows of lanes: %w", err)
	}
	for _, part := range []struct {
		bloated bool
		sql     string
	}{{lanes, rewriteLanesSQL}, {wakeups, rewriteWakeupsSQL}} {
		if !part.bloated {
			continue
		}
		err := pgx.BeginFunc(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
			batch := &pgx.Batch{}
			batch.Queue(lockSQL, "2s", 0)
			batch.Queue(`SET LOCAL lock_timeout = '20ms'`)
			batch.Queue(part.sql)
			return tx.SendBatch(ctx, batch).Close()
		})
		switch pgErr := (*pgconn.PgError)(nil); {
		case err == nil:
			n++
		case errors.As(err, &pgErr) && pgErr.Code == "55P03":
		default:
			return n, fmt.Errorf("writing lanes anew: %w", err)
		}
	}
	return n, nil
}
