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

// findSQL looks for rows for the turns that were chosen ($2, in their order), $3 at
// most. For each turn it walks the index of available rows that begins with the
// lane, stops at the turn's share, and stops altogether as soon as $3 are found, so
// that the turns at the end, which are there in case others come short, cost
// nothing else.
const findSQL = `
SELECT t.i, j.kind, j.id
FROM (SELECT * FROM jsonb_to_recordset($2::jsonb) AS t (i int, lane text, kinds text[], most int[], n int)) t
CROSS JOIN LATERAL (
    SELECT one.id, k.kind
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
LIMIT $3`

// takeSQL claims rows, as River's own statement does, but for those that somebody
// else has locked.
const takeSQL = `
WITH locked AS MATERIALIZED (
    SELECT id FROM river_job WHERE id = ANY ($1::bigint[]) AND state = 'available' FOR UPDATE SKIP LOCKED
)
UPDATE river_job j
SET state = 'running', attempt = j.attempt + 1, attempted_at = coalesce($2::timestamptz, clock_timestamp()),
    attempted_by = array_append(
        CASE WHEN array_length(j.attempted_by, 1) >= $4::int
             THEN j.attempted_by[array_length(j.attempted_by, 1) + 2 - $4::int:] ELSE j.attempted_by END, $3::text)
WHERE id = ANY (ARRAY(SELECT id FROM locked))
RETURNING j.id, j.args, j.attempt, j.attempted_at, j.attempted_by, j.created_at, j.errors, j.kind, j.max_attempts,
          j.metadata, j.priority, j.queue, j.scheduled_at, j.tags, j.unique_key, j.unique_states`

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
                   WHEN o.own->'e' IS NOT NULL THEN (
                       SELECT min(first.scheduled_at) FROM generate_series(1, 4) AS p (priority) CROSS JOIN LATERAL (
                           SELECT scheduled_at FROM river_job
                           WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = l.lane AND kind = l.kind AND priority = p.priority
                           ORDER BY scheduled_at LIMIT 1) first) END
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

// wantedTurn is one turn as findSQL reads it.
type wantedTurn struct {
	I     int      `json:"i"`
	Lane  string   `json:"lane"`
	Kinds []string `json:"kinds"`
	Most  []int    `json:"most"`
	N     int      `json:"n"`
}

// found is one row that is there to be taken.
type found struct {
	turn int
	kind string
	id   int64
}

// find looks for rows for the turns.
func (c *claimer) find(ctx context.Context, db querier, turns []turn, want int, now *time.Time) ([]found, error) {
	if len(turns) == 0 {
		return nil, nil
	}
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
	rows, err := db.Query(ctx, findSQL, c.queue, list, want, now)
	if err != nil {
		return nil, fmt.Errorf("looking for jobs to claim: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		err = row.Scan(&f.turn, &f.kind, &f.id)
		return f, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for jobs to claim: %w", err)
	}
	return all, nil
}

// haul is what one claim, or one pass of it, takes.
type haul struct {
	result *riverdriver.JobGetAvailableResult
	grips  map[int64]*grip
	order  map[int64]int      // of the rows, as they were found, from 1
	passes []*haul            // whose rows are yet to be taken
	found  int                // rows that were there, some of them beyond a limit
	billed map[string]float64 // by owner: virtual seconds
	spent  map[string]int     // by owner with a rate
	empty  []lane
	first  float64 // virtual time of the first owner served
	looks  int
	sated  bool // some turn got all that it asked for, and might have got more
	denied bool // a limit kept back what was there
	missed bool // somebody else had a row locked
}

// admit takes of what was found as much as room has, in order, and bills the
// owners. It says which lanes have no more rows that are due: a turn that got all
// it asked for does not know, nor does the one at which looking ended.
func (h *haul) admit(queue string, turns []turn, all []found, room *room, want int) {
	h.found = len(all)
	counts := make([]int, len(turns))
	kinds := make([]map[string]int, len(turns))
	left := make([]bool, len(turns))
	for _, f := range all {
		o := turns[f.turn].owner
		c := o.candidate(f.kind)
		counts[f.turn]++
		if kinds[f.turn] == nil {
			kinds[f.turn] = map[string]int{}
		}
		kinds[f.turn][f.kind]++
		if n, _ := room.owner(c, 1); n == 0 || room.kind(c, 1) == 0 {
			h.denied, left[f.turn] = true, true
			continue
		}
		room.takeOwner(c, 1)
		room.takeKind(c, 1)
		h.add(queue, o, c, f.id)
	}
	last := len(turns)
	if len(all) >= want && len(all) > 0 {
		last = all[len(all)-1].turn
	}
	for i, t := range turns[:last] {
		h.sated = h.sated || counts[i] >= t.n
		if counts[i] >= t.n || left[i] {
			continue
		}
		for k, l := range t.owner.lanes {
			if kinds[i][l.kind] < t.most[k] {
				h.empty = append(h.empty, lane{queue: queue, owner: t.owner.lane, kind: l.kind})
			}
		}
	}
}

// add takes one row in hand and bills its owner.
func (h *haul) add(queue string, o *owner, c candidate, id int64) {
	if len(h.grips) == 0 {
		h.first = o.vtime
	}
	cost := max(c.cost, shortest)
	h.order[id] = len(h.grips) + 1
	h.grips[id] = &grip{
		lane: lane{queue: queue, owner: o.lane, kind: c.kind, server: c.server, database: c.database},
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

// queueTake adds to a batch the claim of what was admitted. What somebody else had
// locked drops out.
func (h *haul) queueTake(batch *pgx.Batch, params *riverdriver.JobGetAvailableParams) {
	if len(h.grips) == 0 {
		return
	}
	batch.Queue(takeSQL, slices.Sorted(maps.Keys(h.grips)), params.Now, params.ClientID, params.MaxAttemptedBy).Query(func(rows pgx.Rows) error {
		taken := map[int64]bool{}
		for rows.Next() {
			job, broken, err := scanTaken(rows)
			if err != nil {
				return fmt.Errorf("reading a claimed job: %w", err)
			}
			taken[job.ID] = true
			h.result.Jobs = append(h.result.Jobs, job)
			if broken != nil {
				h.result.DecodeErrors[job.ID] = broken
			}
		}
		h.missed = len(taken) < len(h.grips)
		maps.DeleteFunc(h.grips, func(id int64, _ *grip) bool { return !taken[id] })
		slices.SortFunc(h.result.Jobs, func(a, b *rivertype.JobRow) int { return h.order[a.ID] - h.order[b.ID] })
		return rows.Err()
	})
}

// scanTaken reads one row of takeSQL; broken says why River cannot run it.
func scanTaken(rows pgx.Rows) (job *rivertype.JobRow, broken, err error) {
	var (
		attempt, maxAttempts, priority int16
		attemptedAt                    time.Time
		failures                       [][]byte
		states                         pgtype.Bits
		row                            rivertype.JobRow
	)
	err = rows.Scan(&row.ID, &row.EncodedArgs, &attempt, &attemptedAt, &row.AttemptedBy, &row.CreatedAt, &failures, &row.Kind, &maxAttempts,
		&row.Metadata, &priority, &row.Queue, &row.ScheduledAt, &row.Tags, &row.UniqueKey, &states)
	if err != nil {
		return nil, nil, err
	}
	row.State, row.AttemptedAt = rivertype.JobStateRunning, ptr(attemptedAt.UTC())
	row.Attempt, row.MaxAttempts, row.Priority = max(int(attempt), 0), max(int(maxAttempts), 0), max(int(priority), 0)
	row.CreatedAt, row.ScheduledAt = row.CreatedAt.UTC(), row.ScheduledAt.UTC()
	if states.Valid && len(states.Bytes) > 0 {
		row.UniqueStates = uniquestates.UniqueBitmaskToStates(states.Bytes[0])
	}
	row.Errors = make([]rivertype.AttemptError, len(failures))
	for i, raw := range failures {
		if err := riverdriver.UnmarshalAttemptError(raw, &row.Errors[i]); err != nil {
			row.Errors = nil
			return &row, fmt.Errorf("error unmarshaling `errors`: %w", err), nil
		}
	}
	return &row, nil, nil
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
