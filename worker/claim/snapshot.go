package claim

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// A claim is one transaction in three round trips: the snapshot (this file); choosing
// (choose.go) and finding rows; then taking them (take.go), charging (charge.go) and COMMIT
// (publish.go). All claims of all processes take turns under one advisory lock, because
// limits span queues. The lock is held for some milliseconds.

// idleSQL is what an idle worker asks at each poll, without the lock: three index probes,
// however many tenants there are, and whether other workers wait for what is limited.
const idleSQL = `
SELECT NOT EXISTS (SELECT FROM headgate.wakeups WHERE queue = $1)
   AND NOT EXISTS (SELECT FROM headgate.lanes WHERE queue = $1 AND active)
   AND NOT EXISTS (SELECT FROM headgate.lanes WHERE queue = $1 AND wake_at <= (SELECT clock_timestamp())),
       EXISTS (SELECT FROM headgate.hands WHERE waiting AND incarnation <> $2)`

// lockSQL takes the turn and waits for it for $1 at most. A session that says nothing for
// $3 loses the turn: a process that stops in the middle of its claim holds up all others
// for so long and no longer.
//
// The commit of a claim is not flushed. A crash of the server that loses the claim gives
// its jobs to another claim with another token, and the first claim's ends are refused. The
// log is written in order, so no end can outlive the claim that it belongs to.
//
// A claim's statements have one plan each, which walks indexes whatever the statistics say.
// Planning them anew took longer than running them, and a table that was small when it was
// analyzed may hold a million rows now.
const lockSQL = `
SELECT set_config('synchronous_commit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true),
       set_config('headgate.floors', 'kept', true), set_config('idle_in_transaction_session_timeout', $3, true),
       set_config('lock_timeout', $1, true), pg_advisory_xact_lock(4737, $2)`

// wakeSQL makes lanes active that have got rows, or whose time has come. It reads again
// what the catalog and the limits say of their owners. A lane that is active and has not
// changed is not written.
//
// Rows that have become available before a lane's cursor (column floors) move the cursor
// back. Of a lane that is new, the wake-ups are all that there is (or the sweep finds the
// rest).
//
// An owner that was idle starts where its last charge has left it, but no more than some
// turns ($4) behind the queue's present time. It starts at the present time if nothing has
// waited in the queue since: what it has used while nobody else wanted it does not count
// against it. An owner that was not charged starts at the queue's present time, before
// those that are there already ($3). A crowd that wakes together is spread over one quantum
// ($2), so that a newcomer need not wait until each of the crowd has had its first turn.
//
// Each owner is looked up by its keys (OFFSET 0 keeps the look-ups from being joins).
// Owners whose rows somebody else has locked ($5) sleep on.
const wakeSQL = `
WITH consumed AS (
    DELETE FROM headgate.wakeups WHERE queue = $1 AND lane <> ALL ($5::text[]) RETURNING lane, kind, priority, scheduled_at
), woken AS (
    SELECT lane, kind, jsonb_object_agg(priority, jsonb_build_array(first, '-9223372036854775808'::bigint)) FILTER (WHERE priority IS NOT NULL) AS floors
    FROM (
        SELECT lane, kind, priority, min(scheduled_at) AS first FROM consumed GROUP BY lane, kind, priority
        UNION ALL
        SELECT lane, kind, NULL, NULL FROM headgate.lanes WHERE queue = $1 AND wake_at <= (SELECT clock_timestamp()) AND lane <> ALL ($5::text[])
    ) w
    GROUP BY lane, kind
), fresh AS (
    SELECT w.lane, w.kind,
           CASE WHEN was.kind IS NULL THEN w.floors
                WHEN w.floors IS NULL THEN was.floors
                ELSE was.floors || coalesce((SELECT jsonb_object_agg(key, value) FROM jsonb_each(w.floors) f
                                             WHERE coalesce((value->>0)::timestamptz <= (was.floors->key->>0)::timestamptz, true)), '{}') END AS floors,
           coalesce(o.server_id, '00000000-0000-0000-0000-000000000000') AS server_id,
           coalesce(o.database_id, '00000000-0000-0000-0000-000000000000') AS database_id,
           coalesce(o.held, '') AS held, o.held_until AS wake_at,
           coalesce(o.weight, 1) AS weight, o.max_running, o.rate, o.rate_period,
           greatest(coalesce(s.active, greatest(
                        CASE WHEN s.ever > m.vtime THEN m.vtime ELSE s.ever END,
                        c.vtime + CASE WHEN count(*) OVER () > 1 THEN $2::float8 * (hashtext(w.lane) & 1023) / 1024 ELSE -$3::float8 END)),
                    c.vtime - $3) AS vtime,
           c.cost
    FROM woken w
    JOIN headgate.lane_clocks c ON c.queue = $1
    LEFT JOIN LATERAL (SELECT * FROM headgate.lanes WHERE queue = $1 AND lane = w.lane AND kind = w.kind OFFSET 0) was ON true
    LEFT JOIN LATERAL (SELECT * FROM headgate.lane_owner(headgate.uuid_or_null(w.lane), w.kind) OFFSET 0) o ON true
    LEFT JOIN LATERAL (
        SELECT max(vtime) FILTER (WHERE active) AS active, max(vtime) FILTER (WHERE epoch = c.epoch) AS ever
        FROM headgate.lanes l WHERE l.queue = $1 AND l.lane = w.lane
    ) s ON true
    CROSS JOIN LATERAL (SELECT c.vtime + $4::float8 * greatest(coalesce(was.cost, c.cost), $2) / coalesce(o.weight, 1) AS vtime) m
), groups AS (
    INSERT INTO headgate.lane_groups (queue, server_id, kind) SELECT DISTINCT $1, server_id, kind FROM fresh ON CONFLICT DO NOTHING
)
INSERT INTO headgate.lanes AS l
    (queue, lane, kind, active, wake_at, floors, vtime, cost, server_id, database_id, held, weight, max_running, rate, rate_period)
SELECT $1, lane, kind, held = '', wake_at, floors, vtime, cost, server_id, database_id, held, weight, max_running, rate, rate_period
FROM fresh
ON CONFLICT (queue, lane, kind) DO UPDATE
SET active = excluded.active, wake_at = excluded.wake_at, floors = excluded.floors, vtime = excluded.vtime,
    server_id = excluded.server_id, database_id = excluded.database_id, held = excluded.held,
    weight = excluded.weight, max_running = excluded.max_running, rate = excluded.rate, rate_period = excluded.rate_period
WHERE l.wake_at IS NOT NULL
   OR l.floors IS DISTINCT FROM excluded.floors
   OR (l.active, l.server_id, l.database_id, l.held, l.weight, l.max_running, l.rate, l.rate_period)
      IS DISTINCT FROM (excluded.active, excluded.server_id, excluded.database_id, excluded.held, excluded.weight, excluded.max_running, excluded.rate, excluded.rate_period)`

// othersSQL is one row for each other worker process that lives, also if it has never
// claimed, and one for each that was declared dead and whose sessions are still there. A
// row of headgate.hands that has been written again has another xmin.
const othersSQL = `
SELECT w.incarnation::text, coalesce(h.xmin::text, ''), NOT w.draining, false, h.hand
FROM headgate.living_workers w LEFT JOIN headgate.hands h ON h.incarnation = w.incarnation
WHERE w.incarnation <> $1
UNION ALL
SELECT h.incarnation::text, h.xmin::text, false, true, h.hand
FROM headgate.hands h WHERE h.dead AND h.incarnation <> $1 AND headgate.is_there(h.hand)`

// limitsSQL reads what is decided of the queue, of kinds and of servers.
const limitsSQL = `
SELECT (SELECT vtime FROM headgate.lane_clocks WHERE queue = $1),
       (SELECT epoch FROM headgate.lane_clocks WHERE queue = $1),
       (SELECT max_running FROM headgate.queue_limits WHERE queue = $1),
       EXISTS (SELECT FROM headgate.active_pauses WHERE scope = 'queue' AND target = $1),
       (SELECT json_object_agg(kind, json_build_array(max_running, max_per_tenant)) FROM headgate.kind_limits),
       (SELECT json_object_agg(s.id, json_build_array(s.connection_budget, b.allowed))
        FROM headgate.servers s LEFT JOIN headgate.breakers b ON b.scope = 'server' AND b.id = s.id),
       (SELECT json_object_agg(id, CASE WHEN until > now() THEN 0 ELSE allowed END) FROM headgate.breakers WHERE scope = 'database')`

// candidatesSQL brings the first lanes of each group in order of virtual time. It walks an
// index that has them in this order, from the group's low watermark (column floor) on.
//
// Groups that are closed are left out as a whole: those of a paused kind, or of a server
// that is down, paused, or behind an open breaker ($2 are the kinds that this process
// knows). A second snapshot leaves out what is full, too ($3 servers, but not for the kinds
// $8, which need no connection; $4 kinds).
//
// Single lanes are stepped over: those of owners that were at their limit a moment ago, of
// which there are never more than running jobs, and of owners whose rows somebody has
// locked ($5); and those of databases behind a breaker ($6), which each claim walks past.
const candidatesSQL = `
WITH open AS MATERIALIZED (
    SELECT g.server_id, g.kind, g.floor
    FROM headgate.lane_groups g
    WHERE g.queue = $1 AND ($2::text[] IS NULL OR g.kind = ANY ($2)) AND (g.server_id <> ALL ($3::uuid[]) OR g.kind = ANY ($8::text[])) AND g.kind <> ALL ($4::text[])
      AND NOT EXISTS (SELECT FROM headgate.active_pauses p WHERE p.scope = 'kind' AND p.target = g.kind)
      AND NOT EXISTS (SELECT FROM headgate.active_pauses p WHERE p.scope = 'server' AND p.target = g.server_id::text)
      AND NOT EXISTS (SELECT FROM headgate.servers s WHERE s.id = g.server_id AND s.state <> 'open')
      AND NOT EXISTS (SELECT FROM headgate.breakers b WHERE b.scope = 'server' AND b.id = g.server_id AND b.until > now())
)
SELECT l.lane, l.kind, l.server_id::text, l.database_id::text, l.vtime, l.cost, l.weight, l.max_running, l.floors,
       l.rate, extract(epoch FROM l.rate_period)::float8,
       CASE WHEN l.rate IS NOT NULL THEN (SELECT extract(epoch FROM r.tat - now())::float8 FROM headgate.lane_rates r WHERE r.lane = l.lane) END
FROM open g
CROSS JOIN LATERAL (
    SELECT * FROM headgate.lanes l
    WHERE l.queue = $1 AND l.server_id = g.server_id AND l.kind = g.kind AND l.active AND l.vtime >= g.floor AND l.lane <> ALL ($5::text[]) AND l.database_id <> ALL ($6::uuid[])
    ORDER BY l.vtime
    LIMIT $7
) l`

// nobody stands for no server and no database.
const nobody = "00000000-0000-0000-0000-000000000000"

// snapshot is what a claim has read before it chooses.
type snapshot struct {
	clock      float64
	epoch      int64
	paused     bool
	limits     limits
	others     []*usage
	candidates []candidate
	groups     map[laneGroup]int // how many lanes of each it has
	most       int               // how many at most
}

// laneGroup is what is taken or left out as a whole.
type laneGroup struct{ server, kind string }

// more says that a group that is not full has more lanes than the snapshot.
func (snap *snapshot) more(b saturated) bool {
	for g, n := range snap.groups {
		if n >= snap.most && !b.covers(g) {
			return true
		}
	}
	return false
}

// queueSnapshot adds the snapshot's queries to a batch.
func (c *claimer) queueSnapshot(batch *pgx.Batch, snap *snapshot, incarnation string, kinds []string, b saturated, most int) {
	batch.Queue(othersSQL, incarnation).Query(func(rows pgx.Rows) (err error) {
		snap.others, err = pgx.CollectRows(rows, scanUsage)
		c.gate.observe(snap.others, time.Now())
		return err
	})
	batch.Queue(limitsSQL, c.queue).QueryRow(snap.scanLimits)
	batch.Queue(candidatesSQL, c.queue, kinds, append(list(b.servers), b.tried...), list(b.kinds), slices.AppendSeq(list(c.locked.owners), maps.Keys(b.owners)), list(b.databases), most, c.gate.apart).Query(func(rows pgx.Rows) (err error) {
		snap.candidates, err = pgx.CollectRows(rows, scanCandidate)
		snap.groups, snap.most = map[laneGroup]int{}, most
		for i, one := range snap.candidates {
			snap.groups[one.group]++
			if slices.Contains(c.gate.apart, one.kind) {
				snap.candidates[i].server = ""
			}
		}
		return err
	})
}

// list is an array that is not NULL.
func list(s []string) []string { return append([]string{}, s...) }

func scanUsage(row pgx.CollectableRow) (*usage, error) {
	u, raw, dead := newUsage(), []byte(nil), false
	if err := row.Scan(&u.incarnation, &u.version, &u.claiming, &dead, &raw); err != nil || raw == nil {
		return u, err
	}
	if err := json.Unmarshal(raw, u); err != nil {
		return nil, fmt.Errorf("reading what another worker holds: %w", err)
	}
	if dead {
		return u.remains(), nil
	}
	return u, nil
}

func (snap *snapshot) scanLimits(row pgx.Row) error {
	var clock *float64
	var epoch *int64
	var kinds, servers, databases []byte
	if err := row.Scan(&clock, &epoch, &snap.limits.queue, &snap.paused, &kinds, &servers, &databases); err != nil {
		return err
	}
	if clock != nil {
		snap.clock, snap.epoch = *clock, *epoch
	}
	snap.limits.kinds = map[string]kindLimit{}
	snap.limits.servers, snap.limits.halfOpen = map[string]int{}, map[string]int{}
	pairs := map[string][2]*int{}
	if err := each(kinds, &pairs); err != nil {
		return err
	}
	for kind, pair := range pairs {
		snap.limits.kinds[kind] = kindLimit{pair[0], pair[1]}
	}
	pairs = map[string][2]*int{}
	if err := each(servers, &pairs); err != nil {
		return err
	}
	for id, pair := range pairs {
		snap.limits.servers[id] = *pair[0]
		if pair[1] != nil {
			snap.limits.halfOpen[id] = *pair[1]
		}
	}
	return each(databases, &snap.limits.databases)
}

func each[T any](raw []byte, into *T) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

func scanCandidate(row pgx.CollectableRow) (c candidate, err error) {
	var tokens *int
	var period, ahead *float64
	err = row.Scan(&c.owner, &c.kind, &c.server, &c.database, &c.vtime, &c.cost, &c.weight, &c.maxRunning, &c.cursors, &tokens, &period, &ahead)
	if c.server == nobody {
		c.server = ""
	}
	if c.database == nobody {
		c.database = ""
	}
	c.group = laneGroup{c.server, c.kind}
	if c.cursors == nil {
		c.cursors = []byte(anywhere)
	}
	if tokens != nil && period != nil {
		c.rate = &rate{burst: *tokens, every: *period / float64(*tokens)}
		if ahead != nil {
			c.rate.ahead = math.Max(*ahead, 0)
		}
	}
	return c, err
}
