package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivershared/uniquestates"
	"github.com/riverqueue/river/rivertype"
)

// takeSQL claims rows for the turns that were chosen ($2, in their order), $3 at
// most: what River's own statement does to them, and nothing else. For each turn
// it walks the index of available rows that begins with the lane, stops at the
// turn's share, and stops altogether as soon as $3 are found, so that the turns
// at the end, which are there in case others come short, cost nothing else.
//
// It answers with every row that it found, and the claimed row beside it unless
// somebody else has that one locked: a lane with a locked row is not empty.
const takeSQL = `
WITH found AS MATERIALIZED (
    SELECT t.i, j.id
    FROM (SELECT * FROM jsonb_to_recordset($2::jsonb) AS t (i int, lane text, kinds text[], most int[], n int)) t
    CROSS JOIN LATERAL (
        SELECT one.id
        FROM unnest(t.kinds, t.most) AS k (kind, most)
        CROSS JOIN LATERAL (
            SELECT id, priority, scheduled_at FROM river_job
            WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = t.lane AND kind = k.kind
              AND scheduled_at <= coalesce($4::timestamptz, (SELECT clock_timestamp()))
            ORDER BY priority, scheduled_at, id
            LIMIT k.most
        ) one
        ORDER BY one.priority, one.scheduled_at, one.id
        LIMIT t.n
    ) j
    LIMIT $3
), locked AS MATERIALIZED (
    SELECT j.id FROM found JOIN river_job j ON j.id = found.id WHERE j.state = 'available' FOR UPDATE OF j SKIP LOCKED
), taken AS (
    UPDATE river_job j
    SET state = 'running', attempt = j.attempt + 1, attempted_at = coalesce($4::timestamptz, clock_timestamp()),
        attempted_by = array_append(
            CASE WHEN array_length(j.attempted_by, 1) >= $6::int
                 THEN j.attempted_by[array_length(j.attempted_by, 1) + 2 - $6::int:] ELSE j.attempted_by END, $5::text)
    FROM locked WHERE j.id = locked.id
    RETURNING j.id, j.args, j.attempt, j.attempted_at, j.attempted_by, j.created_at, j.errors, j.kind, j.max_attempts,
              j.metadata, j.priority, j.queue, j.scheduled_at, j.tags, j.unique_key, j.unique_states
)
SELECT f.i, t.* FROM found f LEFT JOIN taken t ON t.id = f.id ORDER BY f.i, t.priority, t.scheduled_at, f.id`

// settleSQL charges owners, in all their active lanes alike: $3 is what their
// attempts took more or less than they were charged for, $4 what the jobs of this
// claim are expected to take, counted from the queue's present time ($5) at least:
// nobody saves up.
// It moves each lane's running mean ($6, $7, $8, $9), puts to rest what was found
// empty ($10, $11), until its next row is due, and who has no token left ($12, for
// $13 seconds).
const settleSQL = `
WITH charge AS (
    SELECT * FROM unnest($2::text[], $3::float8[], $4::float8[]) AS c (lane, debt, bill)
), mean AS (
    SELECT * FROM unnest($6::text[], $7::text[], $8::float8[], $9::int[]) AS m (lane, kind, seconds, attempts)
), empty AS (
    SELECT * FROM unnest($10::text[], $11::text[]) AS e (lane, kind)
), dry AS (
    SELECT * FROM unnest($12::text[], $13::float8[]) AS d (lane, seconds)
), change AS (
    SELECT k.lane, k.kind, c.debt, c.bill, m.seconds, m.attempts, e.lane IS NOT NULL AS empty, d.seconds AS dry
    FROM (SELECT lane FROM charge UNION SELECT lane FROM empty UNION SELECT lane FROM dry) o
    JOIN headgate.lanes k ON k.queue = $1 AND k.lane = o.lane
    LEFT JOIN charge c ON c.lane = k.lane
    LEFT JOIN mean m ON m.lane = k.lane AND m.kind = k.kind
    LEFT JOIN empty e ON e.lane = k.lane AND e.kind = k.kind
    LEFT JOIN dry d ON d.lane = k.lane
    WHERE k.active OR m.lane IS NOT NULL
)
UPDATE headgate.lanes l
SET vtime = CASE WHEN x.debt IS NULL THEN l.vtime ELSE greatest(l.vtime + x.debt, $5::float8) + x.bill END,
    cost = CASE WHEN x.attempts > 0 THEN l.cost + (x.seconds / x.attempts - l.cost) * least(x.attempts * 0.2, 1) ELSE l.cost END,
    active = l.active AND NOT x.empty AND x.dry IS NULL,
    wake_at = CASE WHEN NOT l.active THEN l.wake_at
                   WHEN x.dry IS NOT NULL THEN now() + make_interval(secs => x.dry)
                   WHEN x.empty THEN (SELECT min(ahead.scheduled_at) FROM (
                       SELECT scheduled_at FROM river_job
                       WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = l.lane AND kind = l.kind
                       LIMIT 100) ahead) END
FROM change x
WHERE l.queue = $1 AND l.lane = x.lane AND l.kind = x.kind`

// moveClockSQL moves the queue's present time on, and its mean cost.
const moveClockSQL = `
UPDATE headgate.lane_clocks c
SET vtime = greatest(c.vtime, $2),
    cost = CASE WHEN $4::int > 0 THEN c.cost + ($3::float8 / $4 - c.cost) * least($4 * 0.01, 0.5) ELSE c.cost END
WHERE c.queue = $1`

// spendSQL takes tokens of owners with a rate: $2 of them, $3 seconds apart.
const spendSQL = `
INSERT INTO headgate.lane_rates AS r (lane, tat)
SELECT lane, now() + make_interval(secs => n * every) FROM unnest($1::text[], $2::int[], $3::float8[]) AS s (lane, n, every)
ON CONFLICT (lane) DO UPDATE SET tat = greatest(r.tat, now()) + (excluded.tat - now())`

// publishSQL says what this process holds.
const publishSQL = `
INSERT INTO headgate.hands (incarnation, hand, waiting) VALUES ($1, $2, $3)
ON CONFLICT (incarnation) DO UPDATE SET hand = excluded.hand, waiting = excluded.waiting`

// ringSQL wakes the workers of queues; NULL means of all.
const ringSQL = `
SELECT pg_notify(current_schema() || '.river_insert', json_build_object('queue', queue)::text)
FROM headgate.lane_clocks WHERE $1::text[] IS NULL OR queue = ANY ($1)`

// wantedTurn is one turn as takeSQL reads it.
type wantedTurn struct {
	I     int      `json:"i"`
	Lane  string   `json:"lane"`
	Kinds []string `json:"kinds"`
	Most  []int    `json:"most"`
	N     int      `json:"n"`
}

// haul is what one taking brought.
type haul struct {
	result *riverdriver.JobGetAvailableResult
	grips  map[int64]*grip
	found  int
	billed map[string]float64 // by owner: virtual seconds
	spent  map[string]int     // by owner with a rate
	empty  []lane
	first  float64 // virtual time of the first owner served
	looks  int
	sated  bool // some turn got all that it asked for, and might have got more
}

// take claims rows for the turns.
func (c *claimer) take(ctx context.Context, db querier, turns []turn, want int, params *riverdriver.JobGetAvailableParams) (*haul, error) {
	wanted := make([]wantedTurn, len(turns))
	for i, t := range turns {
		wanted[i] = wantedTurn{I: i, Lane: t.owner.lane, N: t.n, Most: t.most}
		for _, l := range t.owner.lanes {
			wanted[i].Kinds = append(wanted[i].Kinds, l.kind)
		}
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, takeSQL, c.queue, list, want, params.Now, params.ClientID, params.MaxAttemptedBy)
	if err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	h := newHaul()
	counts := make([]int, len(turns))
	byKind := make([]map[string]int, len(turns))
	for rows.Next() {
		i, row, broken, err := scanTaken(rows)
		if err != nil {
			rows.Close()
			return nil, fmt.Errorf("reading a claimed job: %w", err)
		}
		h.found++
		counts[i]++
		if row == nil { // locked by somebody else
			continue
		}
		if byKind[i] == nil {
			byKind[i] = map[string]int{}
		}
		byKind[i][row.Kind]++
		h.add(c.queue, turns[i].owner, row, broken)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("claiming jobs: %w", err)
	}
	h.findEmpty(c.queue, turns, counts, byKind, want)
	return h, nil
}

// add takes one claimed row in hand and bills its owner.
func (h *haul) add(queue string, o *owner, row *rivertype.JobRow, broken error) {
	h.result.Jobs = append(h.result.Jobs, row)
	if broken != nil {
		h.result.DecodeErrors[row.ID] = broken
	}
	if len(h.grips) == 0 {
		h.first = o.vtime
	}
	c := o.candidate(row.Kind)
	cost := max(c.cost, shortest)
	h.grips[row.ID] = &grip{
		lane: lane{queue: queue, owner: o.lane, kind: row.Kind, server: c.server, database: c.database},
		bill: cost, weight: c.weight,
	}
	h.billed[o.lane] += cost / c.weight
	if c.rate != nil {
		h.spent[o.lane]++
	}
}

// candidate is the owner's lane of one kind.
func (o *owner) candidate(kind string) candidate {
	for _, c := range o.lanes {
		if c.kind == kind {
			return c
		}
	}
	return o.lanes[0]
}

// findEmpty says which lanes have no more rows that are due. A turn that got all
// it asked for does not know, nor does the one at which taking ended.
func (h *haul) findEmpty(queue string, turns []turn, counts []int, byKind []map[string]int, want int) {
	last := len(turns)
	if h.found >= want {
		for last--; counts[last] == 0; last-- { // looks for the last turn that got something
		}
	}
	for i, t := range turns[:last] {
		locked := counts[i]
		for _, n := range byKind[i] {
			locked -= n
		}
		h.sated = h.sated || counts[i] >= t.n
		if counts[i] >= t.n || locked > 0 {
			continue
		}
		for k, l := range t.owner.lanes {
			if byKind[i][l.kind] < t.most[k] {
				h.empty = append(h.empty, lane{queue: queue, owner: t.owner.lane, kind: l.kind})
			}
		}
	}
}

// scanTaken reads one row of takeSQL. The job is nil if it was found and not
// claimed; broken says why River cannot run it.
func scanTaken(rows pgx.Rows) (turn int, job *rivertype.JobRow, broken, err error) {
	var (
		id                             *int64
		attempt, maxAttempts, priority *int16
		attemptedAt, created, due      *time.Time
		kind, queue                    *string
		failures                       [][]byte
		states                         pgtype.Bits
		row                            rivertype.JobRow
	)
	err = rows.Scan(&turn, &id, &row.EncodedArgs, &attempt, &attemptedAt, &row.AttemptedBy, &created, &failures, &kind, &maxAttempts,
		&row.Metadata, &priority, &queue, &due, &row.Tags, &row.UniqueKey, &states)
	if err != nil || id == nil {
		return turn, nil, nil, err
	}
	row.ID, row.Kind, row.Queue, row.State = *id, *kind, *queue, rivertype.JobStateRunning
	row.Attempt, row.MaxAttempts, row.Priority = max(int(*attempt), 0), max(int(*maxAttempts), 0), max(int(*priority), 0)
	row.CreatedAt, row.ScheduledAt, row.AttemptedAt = created.UTC(), due.UTC(), ptr(attemptedAt.UTC())
	if states.Valid && len(states.Bytes) > 0 {
		row.UniqueStates = uniquestates.UniqueBitmaskToStates(states.Bytes[0])
	}
	row.Errors = make([]rivertype.AttemptError, len(failures))
	for i, raw := range failures {
		if err := riverdriver.UnmarshalAttemptError(raw, &row.Errors[i]); err != nil {
			row.Errors = nil
			return turn, &row, fmt.Errorf("error unmarshaling `errors`: %w", err), nil
		}
	}
	return turn, &row, nil, nil
}

// queueSettle adds to a batch what makes a haul, debts and parks lasting.
func (c *claimer) queueSettle(batch *pgx.Batch, v *view, h *haul, debts map[lane]debt, dry map[string]float64) {
	var owners, meanLanes, meanKinds, emptyLanes, emptyKinds, dryLanes []string
	var owed, bills, seconds, dryFor []float64
	var attempts []int
	debtOf := map[string]float64{}
	sum := debt{}
	for l, d := range debts {
		debtOf[l.owner] += d.vtime
		if d.attempts > 0 {
			meanLanes, meanKinds = append(meanLanes, l.owner), append(meanKinds, l.kind)
			seconds, attempts = append(seconds, d.seconds), append(attempts, d.attempts)
			sum.seconds, sum.attempts = sum.seconds+d.seconds, sum.attempts+d.attempts
		}
	}
	for owner := range h.billed {
		debtOf[owner] += 0
	}
	for owner, d := range debtOf {
		owners, owed, bills = append(owners, owner), append(owed, d), append(bills, h.billed[owner])
	}
	for _, l := range h.empty {
		emptyLanes, emptyKinds = append(emptyLanes, l.owner), append(emptyKinds, l.kind)
	}
	for owner, wait := range dry {
		if wait > 0 {
			dryLanes, dryFor = append(dryLanes, owner), append(dryFor, wait)
		}
	}
	if len(owners)+len(emptyLanes)+len(dryLanes) > 0 {
		batch.Queue(settleSQL, c.queue, owners, owed, bills, v.clock, meanLanes, meanKinds, seconds, attempts, emptyLanes, emptyKinds, dryLanes, dryFor)
	}
	if clock := max(h.first, v.clock); clock > v.clock || sum.attempts > 0 {
		batch.Queue(moveClockSQL, c.queue, clock, sum.seconds, sum.attempts)
	}
	c.queueSpend(batch, v, h)
}

func (c *claimer) queueSpend(batch *pgx.Batch, v *view, h *haul) {
	if len(h.spent) == 0 {
		return
	}
	var lanes []string
	var n []int
	var every []float64
	for _, one := range v.candidates {
		if k := h.spent[one.lane]; k > 0 && one.rate != nil {
			lanes, n, every = append(lanes, one.lane), append(n, k), append(every, one.rate.every)
			delete(h.spent, one.lane) // once for each owner
		}
	}
	batch.Queue(spendSQL, lanes, n, every)
}
