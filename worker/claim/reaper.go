package claim

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// quarantineAfter is how many deaths a job must have been the only suspect of. With
// two, ten kills among three workers put an innocent job in quarantine once in seven
// times; each more costs a worker that a poisoned job kills.
const quarantineAfter = 3

// reap declares one incarnation dead and gives its jobs back, in one
// transaction, using no attempt. It returns false if the incarnation has beaten
// since, or somebody else has reaped it.
//
// A job alone does not say why a worker died. So: every job in hand at a death
// is noted, and a suspect from its second death on; a worker runs one suspect
// at a time (suspects.go); a death counts against a job only if it was the sole
// suspect in hand, the worker was not draining, and nothing else is killing workers
// just now. quarantineAfter such deaths put the job in quarantine.
func (k *Keeper) reap(ctx context.Context, dead living) (bool, error) {
	var hand []inHand
	quarantined := 0
	err := pgx.BeginFunc(ctx, k.cfg.Pool, func(tx pgx.Tx) (err error) {
		draining, err := bury(ctx, tx, dead)
		if err != nil {
			return err
		}
		if hand, err = takeHand(ctx, tx, dead.incarnation); err != nil || len(hand) == 0 {
			return err
		}
		if !draining {
			if quarantined, err = k.blame(ctx, tx, dead.incarnation, hand); err != nil {
				return err
			}
		}
		return giveBack(ctx, tx, dead, hand, died)
	})
	if errors.Is(err, errNotDead) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reaping worker %s: %w", dead.worker, err)
	}
	k.cfg.Logger.WarnContext(ctx, "worker declared dead; its jobs go on elsewhere",
		"worker", dead.worker, "incarnation", dead.incarnation, "jobs", len(hand), "quarantined", quarantined)
	return true, nil
}

// orphansSQL finds running rows of incarnations that are over. One that was
// declared dead may wake, claim under its old name before its first heartbeat,
// and then really die; nobody would bury it a second time. Rows of other River
// clients have no token of ours and are left alone. It walks the running rows
// and, once (NOT IN, which is no join that could do so for each row), the living
// workers, both by partial indexes.
const orphansSQL = `
SELECT DISTINCT split_part(j.attempted_by[array_upper(j.attempted_by, 1)], ':', 1)
FROM river_job j
WHERE j.state = 'running' AND j.attempted_by[array_upper(j.attempted_by, 1)] ~ '^[0-9a-f-]{36}:[0-9]+$'
  AND split_part(j.attempted_by[array_upper(j.attempted_by, 1)], ':', 1) NOT IN (
    SELECT incarnation::text FROM headgate.workers WHERE reaped_at IS NULL AND ended_at IS NULL)`

// sweep gives back this process's own strays, and the rows of incarnations that
// are over, if they were so at the last pass too: one that has just woken ends
// them itself.
func (k *Keeper) sweep(ctx context.Context) error {
	if err := k.returnStrays(ctx, k.lastPass); err != nil {
		return err
	}
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
	for _, incarnation := range found {
		if incarnation == k.former {
			continue
		}
		if !before[incarnation] {
			k.orphans[incarnation] = true
			continue
		}
		err := pgx.BeginFunc(ctx, k.cfg.Pool, func(tx pgx.Tx) error {
			hand, err := takeHand(ctx, tx, incarnation)
			if err != nil || len(hand) == 0 {
				return err
			}
			return giveBack(ctx, tx, living{incarnation: incarnation}, hand, died)
		})
		if err != nil {
			return fmt.Errorf("giving back the jobs of incarnation %s: %w", incarnation, err)
		}
	}
	return nil
}

var errNotDead = errors.New("it has beaten since, or was reaped by another")

// burySQL is the reaper's claim on the dead: the heartbeat that was seen must
// be the last one.
const burySQL = `
UPDATE headgate.workers SET reaped_at = now()
WHERE incarnation = $1 AND beats = $2 AND reaped_at IS NULL AND ended_at IS NULL
RETURNING draining`

func bury(ctx context.Context, tx pgx.Tx, dead living) (draining bool, err error) {
	err = tx.QueryRow(ctx, burySQL, dead.incarnation, dead.beats).Scan(&draining)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, errNotDead
	}
	return draining, err
}

// inHand is a job that was running when its worker died.
type inHand struct {
	id       int64
	uid      string
	kind     string
	suspect  bool // it had been in hand at two earlier deaths
	poisoned bool // it goes to quarantine
}

// takeHandSQL locks what the dead incarnation was running, by the partial index
// on running rows.
const takeHandSQL = `
SELECT j.id, coalesce(j.metadata->>'job_uid', ''), j.kind, coalesce(s.deaths >= 2, false)
FROM river_job j LEFT JOIN headgate.suspects s ON s.job_id = j.id
WHERE j.state = 'running' AND split_part(j.attempted_by[array_upper(j.attempted_by, 1)], ':', 1) = $1
ORDER BY j.id
FOR UPDATE OF j`

func takeHand(ctx context.Context, tx pgx.Tx, incarnation string) ([]inHand, error) {
	return takeRows(ctx, tx, takeHandSQL, incarnation)
}

func takeRows(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]inHand, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (h inHand, err error) {
		err = row.Scan(&h.id, &h.uid, &h.kind, &h.suspect)
		return h, err
	})
}

// suspectSQL notes one more death for each job in hand, and one alone for the
// sole suspect, if there is one and nothing else is killing workers just now: no
// other worker died lately without this job in hand, unless by a sole suspect
// of its own that has not survived an attempt since.
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
SET deaths = s.deaths + 1, alone = s.alone + (SELECT count(*) FROM alone WHERE alone.job_id = s.job_id)
RETURNING job_id, alone`

const noteHandSQL = `UPDATE headgate.workers SET in_hand = $2, sole_suspect = $3 WHERE incarnation = $1`

// blame makes suspects and returns how many of them have done it often enough.
func (k *Keeper) blame(ctx context.Context, tx pgx.Tx, incarnation string, hand []inHand) (quarantined int, err error) {
	sole := soleSuspect(hand)
	ids := column(hand, func(h inHand) int64 { return h.id })
	if _, err := tx.Exec(ctx, noteHandSQL, incarnation, ids, sole); err != nil {
		return 0, err
	}
	rows, err := tx.Query(ctx, suspectSQL, ids, column(hand, func(h inHand) string { return h.uid }),
		column(hand, func(h inHand) string { return h.kind }), sole, k.cfg.BlameWindow, incarnation)
	if err != nil {
		return 0, err
	}
	var id int64
	var alone int
	_, err = pgx.ForEachRow(rows, []any{&id, &alone}, func() error {
		for i := range hand {
			if hand[i].id == id && alone >= quarantineAfter {
				hand[i].poisoned = true
				quarantined++
			}
		}
		return nil
	})
	return quarantined, err
}

// soleSuspect is the only job in hand that was a suspect before, if there is
// exactly one.
func soleSuspect(hand []inHand) (sole *int64) {
	for i := range hand {
		if hand[i].suspect && sole != nil {
			return nil
		}
		if hand[i].suspect {
			sole = &hand[i].id
		}
	}
	return sole
}

// giveBackSQL makes the jobs available again with the attempt that they had not
// used, or puts them in quarantine, writes what happened into the history, and
// wakes the queues. The token of the claim becomes void: an end that comes late
// must not find it even before the row is claimed again. Cancelled while running
// stays wanted: the next attempt sees the mark and settles it in the tenant's
// ledger. Since when an attempt is unaccounted for stays with the row (jobs.Meta).
const giveBackSQL = `
WITH h AS (
    SELECT * FROM unnest($1::bigint[], $2::boolean[]) AS h (id, poisoned)
), moved AS (
    UPDATE river_job j
    SET state = CASE WHEN h.poisoned THEN 'discarded'::river_job_state ELSE 'available' END,
        attempt = CASE WHEN h.poisoned THEN j.attempt ELSE greatest(j.attempt - 1, 0) END,
        attempted_by[array_upper(j.attempted_by, 1)] = j.attempted_by[array_upper(j.attempted_by, 1)] || ':lost',
        finalized_at = CASE WHEN h.poisoned THEN now() END,
        metadata = CASE WHEN jsonb_typeof(j.metadata) = 'object' AND isfinite(coalesce(j.attempted_at, j.created_at)) AND NOT j.metadata ? 'open_since'
                        THEN j.metadata || jsonb_build_object('open_since', floor(extract(epoch FROM coalesce(j.attempted_at, j.created_at)))) ELSE j.metadata END
    FROM h WHERE j.id = h.id
    RETURNING j.id, j.metadata, j.kind, j.attempt, j.attempted_at, j.queue, h.poisoned
), marked AS (
    UPDATE headgate.suspects s SET quarantined_at = now() FROM h WHERE s.job_id = h.id AND h.poisoned
), told AS (
    INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, class, message, started_at, ended_at, schedule, worker)
    SELECT gen_random_uuid(), (m.metadata->>'job_uid')::uuid, m.id,
           CASE WHEN m.metadata->>'tenant' ~ '^[0-9a-f-]{36}$' THEN (m.metadata->>'tenant')::uuid END, m.kind,
           CASE WHEN m.poisoned THEN m.attempt ELSE m.attempt + 1 END,
           CASE WHEN m.poisoned THEN 'discarded' ELSE 'snoozed' END,
           CASE WHEN m.poisoned THEN 'quarantined' ELSE $4 END,
           CASE WHEN m.poisoned THEN 'its worker died three times while this job alone was under suspicion; look at it, then release it with: headgate job retry'
                ELSE $5 END,
           coalesce(m.attempted_at, now()), now(), coalesce(m.metadata->>'schedule', ''), $3
    FROM moved m
    WHERE m.metadata->>'job_uid' ~ '^[0-9a-f-]{36}$'
)
SELECT count(pg_notify(current_schema() || '.river_insert', json_build_object('queue', q.queue)::text))
FROM (SELECT DISTINCT queue FROM moved WHERE NOT poisoned) q`

// loss is why jobs are given back, as the history tells it.
type loss struct{ class, message string }

var (
	died    = loss{"lost_worker", "its worker died; the job goes on elsewhere and has used no attempt"}
	strayed = loss{"lost_worker", "its worker lives but did not have it: the answer to its claim, or its end, was lost; the job goes on and has used no attempt"}
)

func giveBack(ctx context.Context, tx pgx.Tx, from living, hand []inHand, why loss) error {
	_, err := tx.Exec(ctx, giveBackSQL, column(hand, func(h inHand) int64 { return h.id }),
		column(hand, func(h inHand) bool { return h.poisoned }), from.worker, why.class, why.message)
	return err
}
