package claim

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// settleSQL charges owners ($2), in all their active lanes alike: debt is what
// their attempts took more or less than they were charged for, bill what the jobs
// of this claim are expected to take, counted from the queue's present time ($3) at
// least: nobody saves up. What was charged before this epoch ($5) does not count in a
// lane at rest. By kind it has what moves the lane's running mean (s, n);
// where its rows begin now, by priority (f); and whether it was found empty (e): it
// rests until its next row is due, and if there is none has no floor to remember,
// since whatever comes will say where it is. An owner without a token rests for so
// many seconds (dry).
//
// The lanes of an owner are found by the primary key, and written by their place,
// for no join may look at all lanes of the queue.
const settleSQL = `
WITH owed AS (
    SELECT l.place, o.debt, o.bill, o.dry, o.kinds->l.kind AS own, l.floors, next.due
    FROM jsonb_to_recordset($2::jsonb) AS o (lane text, debt float8, bill float8, dry float8, kinds jsonb)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, lane, kind, coalesce(floors, $4::jsonb) || coalesce(o.kinds->kind->'f', '{}') AS floors
        FROM headgate.lanes WHERE queue = $1 AND lane = o.lane AND (active OR o.kinds ? kind) OFFSET 0
    ) l
    CROSS JOIN LATERAL (
        SELECT min(first.scheduled_at) AS due
        FROM jsonb_each(CASE WHEN o.kinds->l.kind->'e' IS NOT NULL THEN l.floors END) AS f (priority, place)
        CROSS JOIN LATERAL (
            SELECT scheduled_at FROM river_job
            WHERE state = 'available' AND queue = $1 AND headgate.lane(metadata) = l.lane AND kind = l.kind AND priority = f.priority::smallint
              AND (scheduled_at, id) >= ((f.place->>0)::timestamptz, (f.place->>1)::bigint)
            ORDER BY scheduled_at, id LIMIT 1
        ) first
    ) next
)
UPDATE headgate.lanes l
SET vtime = greatest(CASE WHEN l.active OR l.epoch = $5 THEN l.vtime ELSE $3::float8 END + o.debt, $3::float8) + o.bill,
    epoch = CASE WHEN o.debt > 0 OR o.bill > 0 THEN $5::bigint ELSE l.epoch END,
    cost = CASE WHEN (o.own->>'n')::int > 0 THEN l.cost + ((o.own->>'s')::float8 / (o.own->>'n')::int - l.cost) * least((o.own->>'n')::int * 0.2, 1) ELSE l.cost END,
    floors = CASE WHEN o.own->'e' IS NOT NULL AND o.due IS NULL THEN '{}' WHEN o.own->'f' IS NOT NULL THEN o.floors ELSE l.floors END,
    active = l.active AND o.own->'e' IS NULL AND o.dry = 0,
    wake_at = CASE WHEN NOT l.active THEN l.wake_at WHEN o.dry > 0 THEN now() + make_interval(secs => o.dry) ELSE o.due END
FROM owed o
WHERE l.ctid = o.place`

// moveClockSQL moves the queue's present time on, and its mean cost, and begins a new
// epoch if nothing waits ($5 says that this is likely).
//
// Neither statement waits for whoever has locked the row: another claim does it.
const moveClockSQL = `
UPDATE headgate.lane_clocks c
SET vtime = greatest(c.vtime, $2),
    epoch = CASE WHEN $5::boolean AND NOT EXISTS (SELECT FROM headgate.lanes WHERE queue = $1 AND active) THEN c.epoch + 1 ELSE c.epoch END,
    cost = CASE WHEN $4::int > 0 THEN c.cost + ($3::float8 / $4 - c.cost) * least($4 * 0.01, 0.5) ELSE c.cost END
WHERE c.ctid = (SELECT ctid FROM headgate.lane_clocks WHERE queue = $1 FOR NO KEY UPDATE SKIP LOCKED)`

// raiseFloorsSQL looks where the lanes of each group begin now. The floor is a bit
// ($2) before the queue's present time at most, so that no lane that wakes is below.
const raiseFloorsSQL = `
UPDATE headgate.lane_groups g
SET floor = least(c.vtime, (
    SELECT vtime FROM headgate.lanes l
    WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind AND l.active AND l.vtime >= g.floor
    ORDER BY l.vtime LIMIT 1)) - $2::float8
FROM headgate.lane_clocks c
WHERE g.ctid = ANY (ARRAY(SELECT ctid FROM headgate.lane_groups WHERE queue = $1 FOR NO KEY UPDATE SKIP LOCKED)) AND c.queue = g.queue`

// raiseEvery is how many lanes a process writes before it raises floors: so many
// dead entries of the index a look may have to pass. floorSlack is in virtual
// seconds, and more than headStart.
const (
	raiseEvery = 200
	floorSlack = 1e-4
)

// spendSQL takes tokens of owners with a rate: $2 of them, $3 seconds apart.
const spendSQL = `
INSERT INTO headgate.lane_rates AS r (lane, tat)
SELECT lane, now() + make_interval(secs => n * every) FROM unnest($1::text[], $2::int[], $3::float8[]) AS s (lane, n, every)
ON CONFLICT (lane) DO UPDATE SET tat = greatest(r.tat, now()) + (excluded.tat - now())`

// ringSQL wakes the workers of queues; NULL means of all.
const ringSQL = `
SELECT pg_notify(current_schema() || '.river_insert', json_build_object('queue', queue)::text)
FROM headgate.lane_clocks WHERE $1::text[] IS NULL OR queue = ANY ($1)`

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

	Floors map[int]place `json:"f,omitempty"`
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

// queueMoveClock adds to a batch what the whole claim has come to.
func (c *claimer) queueMoveClock(batch *pgx.Batch, v *view, all *haul) {
	if all.charged {
		idle := len(all.grips) < all.want
		batch.Queue(moveClockSQL, c.queue, max(all.clock, v.clock), all.ended.seconds, all.ended.attempts, idle)
	}
}

// queueSettle adds to a batch what makes a haul, payments and parks lasting, and to all
// what moves the queue's clock.
func (c *claimer) queueSettle(batch *pgx.Batch, v *view, all, h *haul, paid map[string]owing, dry map[string]float64) error {
	a, sum := account{}, ended{}
	for owner, o := range paid {
		a.of(owner).Debt = o.vtime
		for _, e := range o.lanes {
			m := a.lane(owner, e.kind)
			m.Seconds, m.Attempts = e.seconds, e.attempts
			sum.seconds, sum.attempts = sum.seconds+e.seconds, sum.attempts+e.attempts
		}
	}
	for owner, bill := range h.billed {
		a.of(owner).Bill = bill
	}
	for _, l := range h.empty {
		a.lane(l.owner, l.kind).Empty = true
	}
	for l, floors := range h.floors {
		a.lane(l.owner, l.kind).Floors = floors
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
		batch.Queue(settleSQL, c.queue, list, v.clock, anywhere, v.epoch)
		c.written += len(a)
	}
	all.clock, all.charged = max(all.clock, h.first), all.charged || len(a) > 0
	all.ended.seconds, all.ended.attempts = all.ended.seconds+sum.seconds, all.ended.attempts+sum.attempts
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
