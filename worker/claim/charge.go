package claim

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// chargeSQL charges owners ($2), in all their active lanes alike. debt is their adjustment.
// bill is what the jobs of this claim are expected to take; it counts from the queue's
// present time ($3) at least, because nobody saves up time. A lane at rest forgets what it
// was charged before this epoch ($5).
//
// By kind the parameter has what moves the lane's running mean (s, n), where the lane's
// rows begin now, by priority (f), and whether the lane was found empty (e). An empty lane
// rests until its next row is due. If it has no row at all it keeps no cursors, because
// whatever comes will say where it is. An owner without a token rests for so many seconds
// (dry).
//
// The statement finds an owner's lanes by the primary key and writes them by their place in
// the table, because no join may look at all lanes of the queue.
const chargeSQL = `
WITH charged AS (
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
FROM charged o
WHERE l.ctid = o.place`

// moveClockSQL moves the queue's present time and its mean cost on. It begins a new epoch
// if nothing waits ($5 says that this is likely).
//
// This statement and the next wait for nobody who has locked the row: another claim does
// it.
const moveClockSQL = `
UPDATE headgate.lane_clocks c
SET vtime = greatest(c.vtime, $2),
    epoch = CASE WHEN $5::boolean AND NOT EXISTS (SELECT FROM headgate.lanes WHERE queue = $1 AND active) THEN c.epoch + 1 ELSE c.epoch END,
    cost = CASE WHEN $4::int > 0 THEN c.cost + ($3::float8 / $4 - c.cost) * least($4 * 0.01, 0.5) ELSE c.cost END
WHERE c.ctid = (SELECT ctid FROM headgate.lane_clocks WHERE queue = $1 FOR NO KEY UPDATE SKIP LOCKED)`

// raiseLowWatermarksSQL looks where the lanes of each group begin now. The low watermark is
// a bit ($2) before the queue's present time at most, so that no lane that wakes is below
// it.
const raiseLowWatermarksSQL = `
UPDATE headgate.lane_groups g
SET floor = least(c.vtime, (
    SELECT vtime FROM headgate.lanes l
    WHERE l.queue = g.queue AND l.server_id = g.server_id AND l.kind = g.kind AND l.active AND l.vtime >= g.floor
    ORDER BY l.vtime LIMIT 1)) - $2::float8
FROM headgate.lane_clocks c
WHERE g.ctid = ANY (ARRAY(SELECT ctid FROM headgate.lane_groups WHERE queue = $1 FOR NO KEY UPDATE SKIP LOCKED)) AND c.queue = g.queue`

// raiseEvery is how many lanes a process writes before it raises low watermarks: a snapshot
// may have to pass so many dead entries of the index. watermarkSlack is in virtual seconds,
// and more than headStart.
const (
	raiseEvery     = 200
	watermarkSlack = 1e-4
)

// spendSQL takes tokens of owners with a rate: $2 of them, $3 seconds apart.
const spendSQL = `
INSERT INTO headgate.lane_rates AS r (lane, tat)
SELECT lane, now() + make_interval(secs => n * every) FROM unnest($1::text[], $2::int[], $3::float8[]) AS s (lane, n, every)
ON CONFLICT (lane) DO UPDATE SET tat = greatest(r.tat, now()) + (excluded.tat - now())`

// notifySQL wakes the workers of queues; NULL means of all.
const notifySQL = `
SELECT headgate.notify_queues(array_agg(queue)) FROM headgate.lane_clocks WHERE $1::text[] IS NULL OR queue = ANY ($1)`

// ownerCharge is one owner as chargeSQL reads it.
type ownerCharge struct {
	Owner      string                 `json:"lane"`
	Adjustment float64                `json:"debt"`
	Bill       float64                `json:"bill"`
	Throttled  float64                `json:"dry"`
	Kinds      map[string]*laneCharge `json:"kinds"`
}

// laneCharge is what is new of one lane.
type laneCharge struct {
	Seconds  float64 `json:"s"`
	Attempts int     `json:"n"`
	Empty    bool    `json:"e,omitempty"`

	Cursors map[int]cursor `json:"f,omitempty"`
}

// charges is what a claim writes: one ownerCharge for each owner.
type charges map[string]*ownerCharge

func (a charges) of(owner string) *ownerCharge {
	if a[owner] == nil {
		a[owner] = &ownerCharge{Owner: owner, Kinds: map[string]*laneCharge{}}
	}
	return a[owner]
}

func (a charges) lane(owner, kind string) *laneCharge {
	o := a.of(owner)
	if o.Kinds[kind] == nil {
		o.Kinds[kind] = &laneCharge{}
	}
	return o.Kinds[kind]
}

// queueMoveClock adds to a batch what the whole claim means for the queue's clock.
func (c *claimer) queueMoveClock(batch *pgx.Batch, snap *snapshot, all *claimBatch) {
	if all.charged {
		idle := len(all.jobs) < all.want
		batch.Queue(moveClockSQL, c.queue, max(all.clock, snap.clock), all.ended.seconds, all.ended.attempts, idle)
	}
}

// queueCharges adds to a batch the statements that make a claim's charges and rests
// lasting, and adds to all what moves the queue's clock.
func (c *claimer) queueCharges(batch *pgx.Batch, snap *snapshot, all, b *claimBatch, applied map[string]adjustment, throttled map[string]float64) error {
	a, sum := charges{}, ended{}
	for owner, adj := range applied {
		a.of(owner).Adjustment = adj.vtime
		for _, e := range adj.lanes {
			m := a.lane(owner, e.kind)
			m.Seconds, m.Attempts = e.seconds, e.attempts
			sum.seconds, sum.attempts = sum.seconds+e.seconds, sum.attempts+e.attempts
		}
	}
	for owner, bill := range b.billed {
		a.of(owner).Bill = bill
	}
	for _, l := range b.empty {
		a.lane(l.owner, l.kind).Empty = true
	}
	for l, cursors := range b.cursors {
		a.lane(l.owner, l.kind).Cursors = cursors
	}
	for owner, wait := range throttled {
		if wait > 0 {
			a.of(owner).Throttled = wait
		}
	}
	if len(a) > 0 {
		encoded, err := json.Marshal(slices.Collect(maps.Values(a)))
		if err != nil {
			return err
		}
		batch.Queue(chargeSQL, c.queue, encoded, snap.clock, anywhere, snap.epoch)
		c.written += len(a)
	}
	all.clock, all.charged = max(all.clock, b.first), all.charged || len(a) > 0
	all.ended.seconds, all.ended.attempts = all.ended.seconds+sum.seconds, all.ended.attempts+sum.attempts
	c.queueSpend(batch, snap, b)
	return nil
}

func (c *claimer) queueSpend(batch *pgx.Batch, snap *snapshot, b *claimBatch) {
	if len(b.spent) == 0 {
		return
	}
	var lanes []string
	var n []int
	var every []float64
	for _, one := range snap.candidates {
		if k := b.spent[one.owner]; k > 0 && one.rate != nil {
			lanes, n, every = append(lanes, one.owner), append(n, k), append(every, one.rate.every)
			delete(b.spent, one.owner) // once for each owner
		}
	}
	batch.Queue(spendSQL, lanes, n, every)
}
