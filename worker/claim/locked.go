package claim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
)

// Somebody else's transaction (a person's at psql, a tool's) may have locked rows that
// claims write: lanes, wake-ups, rates. A claim that finds one in its way gives up after a
// second (rowWaitSQL), looks whose rows they are, and leaves those owners to later claims.
// Their jobs wait for the transaction's end, and nobody else's.

// sessionText names a session of pg_stat_activity a, and says how it is ended.
const sessionText = `format('session %s of %s (%s, %s) in a transaction since %s, which SELECT pg_terminate_backend(%s) ends', a.pid, a.usename,
       coalesce(nullif(a.application_name, ''), 'no application_name'), a.state, to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'), a.pid)`

// holdersSQL names the sessions that have written or locked rows of what claims write, or
// the tables, for more than a second: 2 at most.
const holdersSQL = `
SELECT coalesce(string_agg(says, ' and '), '') FROM (
    SELECT DISTINCT ` + sessionText + ` AS says
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock' AND a.pid <> pg_backend_pid()
      AND l.relation IN ('headgate.lanes'::regclass, 'headgate.lane_groups'::regclass, 'headgate.lane_clocks'::regclass,
                         'headgate.lane_rates'::regclass, 'headgate.wakeups'::regclass, 'headgate.hands'::regclass)
      AND a.xact_start < clock_timestamp() - interval '1 second'
    LIMIT 2) h`

// lockedLanesSQL returns the owners of a queue's rows that somebody else has locked,
// among those in $2 or, if that is NULL, all, and who has: $3 at most. The turn is held,
// so no claim is among the holders. Who holds a row is known if it is one transaction.
const lockedLanesSQL = `
SELECT r.lane, coalesce(min(` + sessionText + `), '')
FROM (
    SELECT lane, xmax FROM headgate.lanes WHERE queue = $1 AND ($2::text[] IS NULL OR lane = ANY ($2)) AND ctid NOT IN (
        SELECT ctid FROM headgate.lanes WHERE queue = $1 AND ($2::text[] IS NULL OR lane = ANY ($2)) FOR NO KEY UPDATE SKIP LOCKED)
    UNION ALL
    SELECT lane, xmax FROM headgate.wakeups WHERE queue = $1 AND ($2::text[] IS NULL OR lane = ANY ($2)) AND ctid NOT IN (
        SELECT ctid FROM headgate.wakeups WHERE queue = $1 AND ($2::text[] IS NULL OR lane = ANY ($2)) FOR UPDATE SKIP LOCKED)
    UNION ALL
    SELECT lane, xmax FROM headgate.lane_rates WHERE ($2::text[] IS NULL OR lane = ANY ($2)) AND ctid NOT IN (
        SELECT ctid FROM headgate.lane_rates WHERE ($2::text[] IS NULL OR lane = ANY ($2)) FOR NO KEY UPDATE SKIP LOCKED)
) r
LEFT JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = r.xmax AND l.granted
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
GROUP BY r.lane
LIMIT $3`

// lockedMost bounds the owners that a claim steps over, because it compares each lane
// that it looks at with them. If there are more, the queue's claims fail and say so.
const lockedMost = 1000

// lockedFor is how long they are taken to be locked without another look.
const lockedFor = 2 * time.Second

// lockedOwners are owners whose rows somebody else has locked.
type lockedOwners struct {
	owners []string
	at     time.Time // when that was seen
	why    error     // nil: there are none
}

// withoutLocked answers a claim that has waited in vain for a row: if owners can be left
// out, the next claim goes on without them, and this one has brought nothing.
func (c *claimer) withoutLocked(ctx context.Context, failed error) (*haul, error) {
	if err := c.findLocked(ctx, nil); err != nil {
		return nil, errors.Join(c.held(ctx), failed, err)
	}
	if c.locked.why == nil {
		return nil, errors.Join(c.held(ctx), failed)
	}
	c.log.ErrorContext(ctx, "somebody else has locked rows that claims need; the jobs of their owners wait, and the others go on",
		"queue", c.queue, "error", c.locked.why)
	c.desk.bell.ring(c.queue)
	return &haul{result: &riverdriver.JobGetAvailableResult{}}, nil
}

// held says who holds up claims, as far as that can be seen.
func (c *claimer) held(ctx context.Context) error {
	var by string
	if err := c.pool.QueryRow(ctx, holdersSQL).Scan(&by); err != nil {
		return fmt.Errorf("looking who holds up claims: %w", err)
	}
	if by == "" {
		return nil
	}
	return fmt.Errorf("claims wait for %s", by)
}

// lookAgain looks, now and then, whether those that are left out are free.
func (c *claimer) lookAgain(ctx context.Context) error {
	if c.locked.why == nil || time.Since(c.locked.at) < lockedFor {
		return nil
	}
	return c.findLocked(ctx, c.locked.owners)
}

// findLocked looks which owners' rows are locked, among some or, if that is nil, all.
func (c *claimer) findLocked(ctx context.Context, among []string) error {
	var owners []string
	var holder string
	err := inTx(ctx, c.pool, func(tx pgx.Tx) error {
		if err := lockClaims(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, lockedLanesSQL, c.queue, among, lockedMost+1)
		if err != nil {
			return err
		}
		owners, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (owner string, err error) {
			var by string
			if err = row.Scan(&owner, &by); by != "" {
				holder = " by " + by
			}
			return owner, err
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("looking whose rows somebody has locked: %w", err)
	}
	if len(owners) > lockedMost {
		return fmt.Errorf("rows of more than %d owners in headgate.lanes are locked%s", lockedMost, holder)
	}
	c.locked = lockedOwners{owners: owners, at: time.Now()}
	if len(owners) > 0 {
		more := ""
		if len(owners) > 1 {
			more = fmt.Sprintf(" and %d more", len(owners)-1)
		}
		c.locked.why = fmt.Errorf("the jobs of tenant or database %s%s wait, because rows of its lane are locked%s", owners[0], more, holder)
	}
	return nil
}
