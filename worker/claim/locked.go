package claim

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Somebody else's transaction (a person's at psql, a tool's) may have locked rows that
// claims write: lanes, wake-ups, rates. A claim that finds such a row gives up after half a
// second (rowWaitSQL), looks whose rows are locked, and leaves those owners to later
// claims. Their jobs wait for the transaction's end, and nobody else's.

// sessionText names a session of pg_stat_activity a, as far as this login may see it.
const sessionText = `CASE WHEN a.pid IS NOT NULL THEN format('session %s of %s (%s%s)%s, which an administrator ends with SELECT pg_terminate_backend(%s)', a.pid, a.usename,
       coalesce(nullif(a.application_name, ''), 'no application_name'), ', ' || a.state,
       ' in a transaction since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS"Z"'), a.pid) END`

// holdersSQL names the sessions that have held for half a second what claims wait for: rows
// of what claims write, a table, or the claims' lock; 2 at most. Many sessions write rows of
// river_job, and no claim waits for these.
const holdersSQL = `
SELECT coalesce(string_agg(says, ' and '), '') FROM (
    SELECT DISTINCT ` + sessionText + ` AS says
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.granted AND a.pid <> pg_backend_pid() AND a.datname = current_database()
      AND (l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
               AND l.relation IN ('headgate.lanes'::regclass, 'headgate.lane_groups'::regclass, 'headgate.lane_clocks'::regclass,
                                  'headgate.lane_rates'::regclass, 'headgate.wakeups'::regclass, 'headgate.hands'::regclass)
           OR l.locktype = 'relation' AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') AND l.relation = 'river_job'::regclass
           OR l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
               AND l.relation IN (SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'headgate'::regnamespace AND c.relkind IN ('r', 'p', 'i'))
           OR l.locktype = 'advisory' AND l.classid = 4737)
      AND coalesce(a.xact_start < clock_timestamp() - interval '0.5 seconds', true)
    LIMIT 2) h`

// lockedLanesSQL returns the owners of a queue's rows that somebody else has locked, their
// names, and who has locked the rows: $3 owners at most, among those in $2 or, if that is
// NULL, among all. The caller has the turn, so no claim is among the holders. The holder of
// a row is known if it is one transaction.
const lockedLanesSQL = `
SELECT r.lane, coalesce('tenant ' || t.slug, 'database ' || d.name, r.lane), coalesce(min(` + sessionText + `), '')
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
LEFT JOIN headgate.tenants t ON t.id = headgate.uuid_or_null(r.lane)
LEFT JOIN headgate.databases d ON d.id = headgate.uuid_or_null(r.lane)
GROUP BY r.lane, t.slug, d.name
LIMIT $3`

// keepTurnSQL lets a claim that has waited in vain for a row undo what it has done and
// still have the turn. To wait for another turn, behind others that meet the same row,
// would find out nothing.
const keepTurnSQL = `SAVEPOINT turn`

// lockedMost bounds the owners that a claim steps over, because the claim compares each
// lane with them. If there are more, the queue's claims fail and say so.
const lockedMost = 1000

// lockedFor is how long these owners are taken to be locked without another look.
const lockedFor = 2 * time.Second

// lockedOwners are owners whose rows somebody else has locked.
type lockedOwners struct {
	owners []string
	at     time.Time // when that was seen
	why    error     // nil: there are none
}

// findLockedInTurn looks whose rows are locked, in a claim that has waited in vain for a
// row. It says whether owners can be left out: the next claim goes on without them.
func (c *claimer) findLockedInTurn(ctx context.Context, conn *pgx.Conn) bool {
	if _, err := conn.Exec(ctx, `ROLLBACK TO SAVEPOINT turn`); err != nil {
		return false
	}
	if err := c.findLocked(ctx, conn, nil); err != nil || c.locked.why == nil {
		return false
	}
	c.log.ErrorContext(ctx, "somebody else has locked rows that claims need; the jobs of their owners wait, and the others go on",
		"queue", c.queue, "error", c.locked.why)
	c.gate.waker.wake(c.queue)
	return true
}

// holdersWithin bounds the look for those who hold up a claim whose own time may be over.
const holdersWithin = 2 * time.Second

// holders says who holds up claims, as far as that can be seen.
func (c *claimer) holders(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdersWithin)
	defer cancel()
	var by string
	if err := c.pool.QueryRow(ctx, holdersSQL).Scan(&by); err != nil {
		return fmt.Errorf("looking who holds up claims: %w", err)
	}
	if by == "" {
		return nil
	}
	return fmt.Errorf("claims wait for %s", by)
}

// recheckLocked looks now and then whether the owners that are left out are free. If there
// is no turn for that in time, they stay left out until the next look.
func (c *claimer) recheckLocked(ctx context.Context) {
	if c.locked.why == nil || time.Since(c.locked.at) < lockedFor {
		return
	}
	err := inTx(ctx, c.pool, func(tx pgx.Tx) error {
		if err := lockClaims(ctx, tx); err != nil {
			return err
		}
		return c.findLocked(ctx, tx, c.locked.owners)
	})
	if err != nil {
		c.locked.at = time.Now()
		c.log.WarnContext(ctx, "could not look whether rows that claims need are free again; trying again", "queue", c.queue, "error", err)
	}
}

// findLocked looks which owners' rows are locked, among some or, if that is nil, all. The
// caller has the turn.
func (c *claimer) findLocked(ctx context.Context, db querier, among []string) error {
	rows, err := db.Query(ctx, lockedLanesSQL, c.queue, among, lockedMost+1)
	if err != nil {
		return fmt.Errorf("looking whose rows somebody has locked: %w", err)
	}
	var owners []string
	var owner, name, by, first, holder string
	_, err = pgx.ForEachRow(rows, []any{&owner, &name, &by}, func() error {
		owners = append(owners, owner)
		first = cmp.Or(first, name)
		if by != "" {
			holder = " by " + by
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking whose rows somebody has locked: %w", err)
	}
	if len(owners) > lockedMost {
		return fmt.Errorf("rows of more than %d owners in headgate.lanes are locked%s", lockedMost, holder)
	}
	c.locked = lockedOwners{owners: owners, at: time.Now()}
	if len(owners) == 0 {
		return nil
	}
	if holder == "" { // two transactions share the lock
		if err := c.holders(ctx); err != nil {
			holder = ": " + err.Error()
		}
	}
	more := ""
	if len(owners) > 1 {
		more = fmt.Sprintf(" and %d more", len(owners)-1)
	}
	c.locked.why = fmt.Errorf("the jobs of %s%s wait, because rows of its lane are locked%s", first, more, holder)
	return nil
}
