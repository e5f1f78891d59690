package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
    SELECT id FROM river_job WHERE id = ANY (ARRAY(SELECT id FROM found)) AND state = 'available' FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE river_job j
    SET state = 'running', attempt = j.attempt + 1, attempted_at = coalesce($4::timestamptz, clock_timestamp()),
        attempted_by = array_append(
            CASE WHEN array_length(j.attempted_by, 1) >= $6::int
                 THEN j.attempted_by[array_length(j.attempted_by, 1) + 2 - $6::int:] ELSE j.attempted_by END, $5::text)
    WHERE id = ANY (ARRAY(SELECT id FROM locked))
    RETURNING j.id, j.args, j.attempt, j.attempted_at, j.attempted_by, j.created_at, j.errors, j.kind, j.max_attempts,
              j.metadata, j.priority, j.queue, j.scheduled_at, j.tags, j.unique_key, j.unique_states
)
SELECT f.i, t.* FROM found f LEFT JOIN taken t ON t.id = f.id ORDER BY f.i, t.priority, t.scheduled_at, f.id`

// settleSQL charges owners ($2), in all their active lanes alike: debt is what
// their attempts took more or less than they were charged for, bill what the jobs
// of this claim are expected to take, counted from the queue's present time ($3) at
// least: nobody saves up. By kind it has what moves the lane's running mean, and
// whether the lane was found empty: it rests until its next row is due. An owner
// without a token rests for so many seconds (dry).
//
// The lanes of an owner are found by the primary key, and written by their place,
// for no join may look at all lanes of the queue.
const settleSQL = `
WITH owed AS (
    SELECT l.place, l.kind, o.debt, o.bill, o.dry, o.kinds->l.kind AS own
    FROM jsonb_to_recordset($2::jsonb) AS o (lane text, debt float8, bill float8, dry float8, kinds jsonb)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, kind FROM headgate.lanes WHERE queue = $1 AND lane = o.lane AND (active OR o.kinds ? kind) OFFSET 0
    ) l
)
UPDATE headgate.lanes l
SET vtime = greatest(l.vtime + o.debt, $3::float8) + o.bill,
    cost = CASE WHEN (o.own->>'n')::int > 0 THEN l.cost + ((o.own->>'s')::float8 / (o.own->>'n')::int - l.cost) * least((o.own->>'n')::int * 0.2, 1) ELSE l.cost END,
    active = l.active AND o.own->'e' IS NULL AND o.dry = 0,
    wake_at = CASE WHEN NOT l.active THEN l.wake_at
                   WHEN o.dry > 0 THEN now() + make_interval(secs => o.dry)
                   WHEN o.own->'e' IS NOT NULL THEN (SELECT min(ahead.scheduled_at) FROM (
                       SELECT scheduled_at FROM river_job
                       WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = l.lane AND kind = l.kind
                       LIMIT 100) ahead) END
FROM owed o
WHERE l.ctid = o.place`

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

// owed is one owner as settleSQL reads it.
type owed struct {
	Lane  string           `json:"lane"`
	Debt  float64          `json:"debt"`
	Bill  float64          `json:"bill"`
	Dry   float64          `json:"dry"`
	Kinds map[string]*mean `json:"kinds"`
}

// mean is what is new of one lane.
type mean struct {
	Seconds  float64 `json:"s"`
	Attempts int     `json:"n"`
	Empty    bool    `json:"e,omitempty"`
}

// account is what settling writes: one owed for each owner.
type account map[string]*owed

func (a account) of(owner string) *owed {
	if a[owner] == nil {
		a[owner] = &owed{Lane: owner, Kinds: map[string]*mean{}}
	}
	return a[owner]
}

func (a account) lane(owner, kind string) *mean {
	o := a.of(owner)
	if o.Kinds[kind] == nil {
		o.Kinds[kind] = &mean{}
	}
	return o.Kinds[kind]
}

// queueSettle adds to a batch what makes a haul, debts and parks lasting.
func (c *claimer) queueSettle(batch *pgx.Batch, v *view, h *haul, debts map[lane]debt, dry map[string]float64) error {
	a, sum := account{}, debt{}
	for l, d := range debts {
		a.of(l.owner).Debt += d.vtime
		m := a.lane(l.owner, l.kind)
		m.Seconds, m.Attempts = d.seconds, d.attempts
		sum.seconds, sum.attempts = sum.seconds+d.seconds, sum.attempts+d.attempts
	}
	for owner, bill := range h.billed {
		a.of(owner).Bill = bill
	}
	for _, l := range h.empty {
		a.lane(l.owner, l.kind).Empty = true
	}
	for owner, wait := range dry {
		if wait > 0 {
			a.of(owner).Dry = wait
		}
	}
	if len(a) > 0 {
		list, err := json.Marshal(slices.Collect(maps.Values(a)))
		if err != nil {
			return err
		}
		batch.Queue(settleSQL, c.queue, list, v.clock)
	}
	if clock := max(h.first, v.clock); clock > v.clock || sum.attempts > 0 {
		batch.Queue(moveClockSQL, c.queue, clock, sum.seconds, sum.attempts)
	}
	c.queueSpend(batch, v, h)
	return nil
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
