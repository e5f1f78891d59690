package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// quarantineAfter is how many deaths a job must have been the only suspect of. With two,
// ten kills among three workers put an innocent job in quarantine once in seven times. Each
// more costs a worker that a poisoned job kills.
const quarantineAfter = 3

// giveBackAtOnce is how many jobs of a dead worker go back in one transaction, at most.
const giveBackAtOnce = 1000

// reap declares one incarnation dead and then gives its jobs back, using no attempt. It
// returns false if the incarnation has beaten since, or somebody else is reaping it.
//
// A job alone does not say why a worker died. Every job that was running at a death is
// noted, and is a suspect from its second death on. A worker runs one suspect at a time
// (suspects.go). A death counts against a job only if the job was the sole suspect running,
// the worker was not draining, and nothing else is killing workers just now.
// quarantineAfter such deaths put the job in quarantine.
//
// Should this process stop in between, or somebody have a row locked, what is left is found
// as the jobs of an incarnation that is over (returnOrphans).
func (k *Keeper) reap(ctx context.Context, dead peer) (bool, error) {
	count := 0
	err := inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) (err error) {
		draining, err := markDead(ctx, tx, dead)
		if err != nil {
			return err
		}
		rows, err := takeRows(ctx, tx, inflightRowsSQL, dead.incarnation)
		if count = len(rows); err != nil || count == 0 || draining {
			return err
		}
		return k.blame(ctx, tx, dead.incarnation, rows)
	})
	if errors.Is(err, errNotDead) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reaping worker %s: %w", dead.worker, err)
	}
	quarantined, err := k.giveBackAll(ctx, dead)
	k.cfg.Logger.WarnContext(ctx, "worker declared dead; its jobs go on elsewhere",
		"worker", dead.worker, "incarnation", dead.incarnation, "jobs", count, "quarantined", quarantined)
	return true, err
}

// giveBackAll gives back what ran under an incarnation that is over, in transactions of a
// bounded size. A transaction that was not done in time is tried with half as many jobs,
// now or at a later pass: a machine may be ten times as slow as it was.
func (k *Keeper) giveBackAll(ctx context.Context, dead peer) (quarantined int, err error) {
	for {
		var rows []inflightRow
		err = inTx(ctx, k.cfg.Pool, func(tx pgx.Tx) (err error) {
			rows, err = takeRows(ctx, tx, lockInflightRowsSQL, dead.incarnation, quarantineAfter, k.atOnce)
			if err != nil || len(rows) == 0 {
				return err
			}
			return k.giveBack(ctx, tx, dead, rows, died)
		})
		if err != nil {
			if pgErr := (*pgconn.PgError)(nil); k.atOnce > 1 && (ctx.Err() != nil || errors.As(err, &pgErr) && pgErr.Code == "57014") {
				k.atOnce /= 2
			}
			return quarantined, fmt.Errorf("giving back the jobs of worker %s, incarnation %s: %w", dead.worker, dead.incarnation, err)
		}
		for _, h := range rows {
			if h.poisoned {
				quarantined++
			}
		}
		if len(rows) < k.atOnce {
			return quarantined, nil
		}
		k.atOnce = min(2*k.atOnce, giveBackAtOnce)
	}
}

// orphansSQL finds running rows of incarnations that are over. An incarnation that was
// declared dead may wake, claim under its old name before its first heartbeat, and then
// really die. Nobody would mark it dead a second time. Rows of other River clients have no
// token of ours and are left alone.
//
// The statement walks the running rows and, once, the living workers, both by partial
// indexes. NOT IN is no join, which could walk the workers for each row.
const orphansSQL = `
SELECT DISTINCT headgate.claim_incarnation(j.attempted_by)
FROM river_job j
WHERE j.state = 'running' AND headgate.is_claimed(j.attempted_by)
  AND headgate.claim_incarnation(j.attempted_by) NOT IN (
    SELECT incarnation::text FROM headgate.living_workers)`

// returnOrphans gives back the rows of incarnations that are over, if they were so at the
// last pass too. An incarnation that has just woken ends its rows itself.
func (k *Keeper) returnOrphans(ctx context.Context) error {
	rows, err := k.cfg.Pool.Query(ctx, orphansSQL)
	if err != nil {
		return fmt.Errorf("looking for orphaned jobs: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for orphaned jobs: %w", err)
	}
	before := k.orphans
	k.orphans = make(map[string]bool, len(found))
	var failed []error
	for _, incarnation := range found {
		if incarnation == k.former {
			continue
		}
		if k.orphans[incarnation] = true; before[incarnation] {
			_, err := k.giveBackAll(ctx, peer{incarnation: incarnation})
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

var errNotDead = errors.New("it has beaten since, or was reaped by another")

// markDeadSQL is the reaper's claim on the dead: the heartbeat that was seen must be the
// last one. A row that somebody else has locked is being reaped, or beats.
const markDeadSQL = `
UPDATE headgate.workers SET reaped_at = now()
WHERE incarnation = (
    SELECT incarnation FROM headgate.workers
    WHERE incarnation = $1 AND beats = $2 AND reaped_at IS NULL AND ended_at IS NULL
    FOR UPDATE SKIP LOCKED)
RETURNING draining`

func markDead(ctx context.Context, tx pgx.Tx, dead peer) (draining bool, err error) {
	err = tx.QueryRow(ctx, markDeadSQL, dead.incarnation, dead.beats).Scan(&draining)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errNotDead
	}
	return draining, err
}

// inflightRow is a job that was running when its worker died.
type inflightRow struct {
	id       int64
	uid      string
	kind     string
	suspect  bool // it had been running at two earlier deaths
	poisoned bool // it goes to quarantine
}

// inflightRowsSQL is what a dead incarnation was running, by the partial index on running
// rows. It locks nothing: an end that comes meanwhile is as good as before.
const inflightRowsSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text, j.kind, coalesce(s.deaths >= 2, false), false
FROM river_job j LEFT JOIN headgate.suspects s ON s.job_id = j.id
WHERE j.state = 'running' AND headgate.claim_incarnation(j.attempted_by) = $1
ORDER BY j.id`

// lockInflightRowsSQL locks up to $3 of these rows, but not those that somebody else has
// locked. It says which have been the only suspect of $2 deaths. It asks for no order, as
// takeForeignSQL does not.
const lockInflightRowsSQL = `
SELECT j.id, headgate.job_uid(j.metadata, j.id, j.created_at)::text, j.kind, coalesce(s.deaths >= 2, false), coalesce(s.alone >= $2::int, false)
FROM river_job j LEFT JOIN headgate.suspects s ON s.job_id = j.id AND s.quarantined_at IS NULL
WHERE j.state = 'running' AND headgate.claim_incarnation(j.attempted_by) = $1
LIMIT $3
FOR UPDATE OF j SKIP LOCKED`

func takeRows(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]inflightRow, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h inflightRow, err error) {
		err = row.Scan(&h.id, &h.uid, &h.kind, &h.suspect, &h.poisoned)
		return h, err
	})
}

// suspectSQL notes one more death for each job that was running. It notes one death alone
// for the sole suspect, if there is one and nothing else is killing workers just now. That
// is so if no other worker died lately without this job, unless by a sole suspect of its
// own that has not survived an attempt since.
const suspectSQL = `
WITH alone AS (
    SELECT $4::bigint AS job_id
    WHERE NOT EXISTS (
        SELECT FROM headgate.workers w
        WHERE w.reaped_at > now() - $5::interval AND w.incarnation <> $6 AND NOT w.draining
          AND NOT $4 = ANY (w.in_hand)
          AND NOT EXISTS (SELECT FROM headgate.suspects other WHERE other.job_id = w.sole_suspect))
)
INSERT INTO headgate.suspects AS s (job_id, job_uid, kind)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
ON CONFLICT (job_id) DO UPDATE
SET deaths = s.deaths + 1, alone = s.alone + (SELECT count(*) FROM alone WHERE alone.job_id = s.job_id)`

const noteInflightSQL = `UPDATE headgate.workers SET in_hand = $2, sole_suspect = $3 WHERE incarnation = $1`

// blame makes suspects of what was running at a death.
func (k *Keeper) blame(ctx context.Context, tx pgx.Tx, incarnation string, rows []inflightRow) error {
	sole := soleSuspect(rows)
	ids := column(rows, func(h inflightRow) int64 { return h.id })
	if _, err := tx.Exec(ctx, noteInflightSQL, incarnation, ids, sole); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, suspectSQL, ids, column(rows, func(h inflightRow) string { return h.uid }),
		column(rows, func(h inflightRow) string { return h.kind }), sole, k.cfg.BlameWindow, incarnation)
	return err
}

// soleSuspect is the only job among the rows that was a suspect before, if there is exactly
// one.
func soleSuspect(rows []inflightRow) (sole *int64) {
	for i := range rows {
		if rows[i].suspect && sole != nil {
			return nil
		}
		if rows[i].suspect {
			sole = &rows[i].id
		}
	}
	return sole
}

// giveBackSQL makes the jobs available again with the attempt that they had not used, or
// puts them in quarantine. It writes what happened into the history, and wakes the queues.
//
// The token of the claim becomes void: an end that comes late must not find the row even
// before the row is claimed again. A wish to cancel stays: the next attempt sees the mark,
// and the tenant's ledger settles the job. Since when an attempt is unaccounted for stays
// with the row (wire.Meta).
const giveBackSQL = `
WITH h AS (
    SELECT * FROM unnest($1::bigint[], $2::boolean[]) AS h (id, poisoned)
), ours AS MATERIALIZED (
    SELECT ` + ownSQL + `
), moved AS (
    UPDATE river_job j
    SET state = CASE WHEN h.poisoned THEN 'discarded'::river_job_state ELSE 'available' END,
        attempt = CASE WHEN h.poisoned THEN j.attempt ELSE greatest(j.attempt - 1, 0) END,
        attempted_by = headgate.void_claim(j.attempted_by),
        finalized_at = CASE WHEN h.poisoned THEN now() END,
        metadata = CASE WHEN jsonb_typeof(j.metadata) = 'object' AND isfinite(coalesce(j.attempted_at, j.created_at)) AND NOT j.metadata ? 'open_since'
                        THEN j.metadata || jsonb_build_object('open_since', floor(extract(epoch FROM coalesce(j.attempted_at, j.created_at)))) ELSE j.metadata END
    FROM ours, h WHERE j.id = h.id
    RETURNING j.id, j.metadata, j.created_at, j.kind, j.attempt, j.attempted_at, j.queue, h.poisoned
), marked AS (
    UPDATE headgate.suspects s SET quarantined_at = now() FROM h WHERE s.job_id = h.id AND h.poisoned
), recorded AS (
    INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, class, message, started_at, ended_at, schedule, worker)
    SELECT gen_random_uuid(), headgate.job_uid(m.metadata, m.id, m.created_at), m.id, headgate.uuid_or_null(m.metadata->>'tenant'), m.kind,
           CASE WHEN m.poisoned THEN m.attempt ELSE m.attempt + 1 END,
           CASE WHEN m.poisoned THEN 'discarded' ELSE 'snoozed' END,
           CASE WHEN m.poisoned THEN 'quarantined' ELSE $4 END,
           CASE WHEN m.poisoned THEN 'its worker died three times while this job alone was under suspicion; look at it, then release it with: headgate job retry'
                ELSE $5 END,
           CASE WHEN m.attempted_at BETWEEN now() - interval '1 year' AND now() THEN m.attempted_at ELSE now() END, now(),
           coalesce(left(m.metadata->>'schedule', 200), ''), $3
    FROM moved m
)
SELECT headgate.notify_queues(array_agg(queue)) FROM moved WHERE NOT poisoned`

// loss is why jobs are given back, as the history tells it.
type loss struct{ class, message string }

var (
	died       = loss{"lost_worker", "its worker died; the job goes on elsewhere and has used no attempt"}
	answerLost = loss{"lost_worker", "its worker lives but did not have it: the answer to its claim, or its end, was lost; the job goes on and has used no attempt"}
)

// dropKeySQL makes the unique key of a running row count no more. Another row has the same
// key, and this one may be done: its ledger says so at its next attempt.
const dropKeySQL = `UPDATE river_job SET unique_states = NULL WHERE id = $1 AND state = 'running'`

// giveBack gives back what can be, in a transaction of the caller's. A row that cannot be
// available again is set aside (aside.go).
func (k *Keeper) giveBack(ctx context.Context, tx pgx.Tx, from peer, rows []inflightRow, why loss) error {
	err := giveBackRows(ctx, tx, from, rows, why)
	if !oddRow(err) || tryPlain(ctx, tx, "running", "default", func(tx pgx.Tx, id int64) error {
		return giveBackRows(ctx, tx, from, []inflightRow{{id: id}}, why)
	}) != nil {
		return err
	}
	for i := range rows {
		err := giveBackRows(ctx, tx, from, rows[i:i+1], why)
		if keyTaken(err) {
			err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, dropKeySQL, rows[i].id); err != nil {
					return err
				}
				return giveBackRows(ctx, tx, from, rows[i:i+1], why)
			})
		}
		if oddRow(err) {
			setAsideIn(ctx, tx, k.cfg.Logger, rows[i].id, "given back", err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func giveBackRows(ctx context.Context, tx pgx.Tx, from peer, rows []inflightRow, why loss) error {
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, giveBackSQL, column(rows, func(h inflightRow) int64 { return h.id }),
			column(rows, func(h inflightRow) bool { return h.poisoned }), from.worker, why.class, why.message)
		return err
	})
}
