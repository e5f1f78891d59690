package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
)

// findSQL is the claim query: it looks for rows for the turns that were chosen ($2, in
// their order), $3 at most. For each turn it walks the index of available rows that begins
// with the lane, from the lane's cursor of each priority on, and stops at the turn's share.
// It stops altogether as soon as $3 rows are found. So the turns at the end, which are
// there in case others come short, cost nothing otherwise.
const findSQL = `
SELECT t.i, j.kind, j.id, j.priority, to_jsonb(j.scheduled_at)
FROM (SELECT * FROM jsonb_to_recordset($2::jsonb) AS t (i int, lane text, kinds jsonb, n int)) t
CROSS JOIN LATERAL (
    SELECT one.id, k.kind, one.priority, one.scheduled_at
    FROM jsonb_to_recordset(t.kinds) AS k (kind text, most int, floors jsonb)
    CROSS JOIN LATERAL jsonb_each(k.floors) AS f (priority, place)
    CROSS JOIN LATERAL (
        SELECT id, priority, scheduled_at FROM river_job
        WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = t.lane AND kind = k.kind AND priority = f.priority::smallint
          AND (scheduled_at, id) >= ((f.place->>0)::timestamptz, (f.place->>1)::bigint)
          AND scheduled_at <= coalesce($4::timestamptz, (SELECT clock_timestamp())) AND id <> ALL ($5::bigint[])
        ORDER BY scheduled_at, id
        LIMIT k.most
    ) one
    ORDER BY one.priority, one.scheduled_at, one.id
    LIMIT t.n
) j
LIMIT $3`

// anywhere are the cursors of a lane of which nothing is known.
const anywhere = `{"1": ["-infinity", -9223372036854775808], "2": ["-infinity", -9223372036854775808],
                   "3": ["-infinity", -9223372036854775808], "4": ["-infinity", -9223372036854775808]}`

// takeSQL claims rows, as River's own statement does, but not those that somebody else has
// locked. Their lane is woken again, because its cursor goes past them.
//
// Whoever wrote a row, the row must not keep others from being claimed. So an attempt that
// cannot be counted on stays the last one, and an attempted_by that is not a plain list of
// names begins anew.
const takeSQL = `
WITH locked AS MATERIALIZED (
    SELECT id FROM river_job WHERE id = ANY ($1::bigint[]) AND state = 'available' FOR UPDATE SKIP LOCKED
), locked_elsewhere AS (
    INSERT INTO headgate.wakeups (queue, lane, kind, priority, scheduled_at)
    SELECT queue, headgate.lane(metadata), kind, priority, scheduled_at FROM river_job
    WHERE (SELECT count(*) FROM locked) < cardinality($1::bigint[]) AND id = ANY ($1::bigint[]) AND id <> ALL (ARRAY(SELECT id FROM locked))
)
UPDATE river_job j
SET state = 'running', attempt = least(greatest(j.attempt, 0) + 1, 32767), attempted_at = coalesce($2::timestamptz, clock_timestamp()),
    attempted_by = CASE WHEN array_ndims(j.attempted_by) = 1 AND array_lower(j.attempted_by, 1) = 1
        THEN array_append(CASE WHEN array_length(j.attempted_by, 1) >= $4::int
             THEN j.attempted_by[array_length(j.attempted_by, 1) + 2 - $4::int:] ELSE j.attempted_by END, $3::text)
        ELSE ARRAY[$3::text] END
WHERE id = ANY (ARRAY(SELECT id FROM locked))
RETURNING j.id, j.args, j.attempt, j.attempted_at, j.attempted_by, j.created_at, j.errors, j.kind, j.max_attempts,
          j.metadata, j.priority, j.queue, j.scheduled_at, j.tags, j.unique_key, j.unique_states`

// wantedTurn is one turn as findSQL reads it, and wantedKind one lane of the turn.
type wantedTurn struct {
	I     int          `json:"i"`
	Owner string       `json:"lane"`
	Kinds []wantedKind `json:"kinds"`
	N     int          `json:"n"`
}

type wantedKind struct {
	Kind    string          `json:"kind"`
	Most    int             `json:"most"`
	Cursors json.RawMessage `json:"floors"`
}

// found is one row that is there to be taken.
type found struct {
	turn     int
	kind     string
	id       int64
	priority int
	due      json.RawMessage // as cursors have it
}

// find looks for rows for the turns.
func (c *claimer) find(ctx context.Context, db querier, turns []turn, want int, now *time.Time) ([]found, error) {
	if len(turns) == 0 {
		return nil, nil
	}
	wanted := make([]wantedTurn, len(turns))
	for i, t := range turns {
		wanted[i] = wantedTurn{I: i, Owner: t.owner.id, N: t.n, Kinds: make([]wantedKind, len(t.owner.lanes))}
		for k, l := range t.owner.lanes {
			wanted[i].Kinds[k] = wantedKind{l.kind, t.most[k], l.cursors}
		}
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, findSQL, c.queue, list, want, now, append([]int64{}, c.leftOut...))
	if err != nil {
		return nil, fmt.Errorf("looking for jobs to claim: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		err = row.Scan(&f.turn, &f.kind, &f.id, &f.priority, &f.due)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for jobs to claim: %w", err)
	}
	return all, nil
}

// queueTake adds to a batch the claim of what was admitted. Rows that somebody else had
// locked drop out.
func (b *claimBatch) queueTake(batch *pgx.Batch, params *riverdriver.JobGetAvailableParams) {
	if len(b.jobs) == 0 {
		return
	}
	batch.Queue(takeSQL, slices.Sorted(maps.Keys(b.jobs)), params.Now, params.ClientID, params.MaxAttemptedBy).Query(func(rows pgx.Rows) error {
		taken := map[int64]bool{}
		for rows.Next() {
			job, broken := scanTaken(rows)
			taken[job.ID] = true
			b.result.Jobs = append(b.result.Jobs, job)
			if broken != nil {
				b.result.DecodeErrors[job.ID] = broken
			}
		}
		b.lockedElsewhere = len(taken) < len(b.jobs)
		maps.DeleteFunc(b.jobs, func(id int64, _ *inflightJob) bool { return !taken[id] })
		slices.SortFunc(b.result.Jobs, func(x, y *rivertype.JobRow) int { return b.order[x.ID] - b.order[y.ID] })
		return rows.Err()
	})
}
