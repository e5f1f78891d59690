package explain

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// standing is what bears on the work of one owner (a tenant, or a database), of one
// kind, in one queue: the rows by which worker/claim decides, and what living
// workers hold as of their last claims.
type standing struct {
	owner, queue, kind string

	now                         time.Time
	tenant, tenantStatus, zone  string // "" for a job of scope database, or a tenant that is gone
	server                      string
	serverState, databaseState  stateOf
	budget                      int
	queuePausedAt               *jobs.Time // River's own pause
	limits                      admission.OwnerLimits
	statusReason                string   // why the tenant has its status
	idle                        bool     // nothing of the tenant waits
	cancels                     bool     // the tenant's waiting jobs are cancelled while it takes no work
	refused, lacking, refusal   string   // why the tenant may not have the kind: feature or kinds; the feature's name; and in words
	kinds                       []string // that the tenant may have, nil for all
	kindMax, kindEach, queueMax *int
	pauses                      []admission.Pause
	ahead                       time.Duration // of the rate's bucket being full
	serverBreaker, dbBreaker    *breaker
	database                    string
	workers                     workerCounts
	failing                     []workerFailing
	held                        heldCounts
	turn                        turnCounts
}

// stateOf is the state of a server or a database, and who has decided so.
type stateOf struct {
	state, reason, by string
	since             *time.Time
}

// breaker is a row of headgate.breakers.
type breaker struct {
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Allowed int       `json:"allowed"`
	Cause   string    `json:"cause"`
	Worker  string    `json:"worker"`
	Class   string    `json:"class"`
}

// workerCounts are of workers that have given a sign of life lately.
type workerCounts struct {
	alive   int
	silent  int        // that have not, and that nobody has declared dead
	lastAt  *time.Time // the last sign of life of those
	taking  int        // not draining
	knowing int        // of those taking, the ones that know the kind
	working int        // ... that work the queue
	fit     int        // ... both
}

// workerFailing is a queue that a worker cannot claim from.
type workerFailing struct {
	ClaimsFailing
	worker string
}

// heldCounts are sums over the hands of workers alive.
type heldCounts struct {
	queue, owner, kind, ownerKind int // running jobs
	serverJobs, serverPlaces      int // running jobs, and those and kept connections
	serverLost                    int // of the places, those of workers that are silent, or lost and not gone
}

// turnCounts say when an owner's lane has its turn. Each is counted to maxCount.
type turnCounts struct {
	active  bool       // the lane has, or may have, rows that are due
	wakeAt  *jobs.Time // when it is looked at again, if it is not active
	before  int        // active lanes of the queue that have had less service
	weight  float64
	weights float64 // of all owners with active lanes in the queue
	owners  int     // that these are
	waiting int     // jobs of the lane that are available
}

const maxCount = 1000

// standingSQL reads primary and unique keys.
const standingSQL = `
SELECT clock_timestamp(), coalesce(t.slug, ''), coalesce(t.status, ''), coalesce(t.timezone, 'UTC'), coalesce(d.name, ''),
       coalesce(s.name, ''), coalesce(s.state, ''), coalesce(s.state_reason, ''), coalesce(s.state_by, ''), s.state_since,
       coalesce(d.state, ''), coalesce(d.state_reason, ''), coalesce(d.state_by, ''), d.state_since, coalesce(s.connection_budget, 0),
       (SELECT paused_at FROM river_queue WHERE name = $2),
       kl.max_running, kl.max_per_tenant, ql.max_running,
       coalesce((SELECT greatest(extract(epoch FROM tat - clock_timestamp()), 0) FROM headgate.lane_rates WHERE lane = $1), 0)::float8,
       (SELECT json_agg(json_build_object('scope', p.scope, 'name', CASE p.scope WHEN 'tenant' THEN t.slug WHEN 'server' THEN s.name ELSE p.target END,
                                          'by', p.paused_by, 'note', p.note, 'since', p.since, 'until', p.until)
                        ORDER BY array_position('{tenant,kind,queue,server}'::text[], p.scope))
        FROM (VALUES ('tenant', $1), ('kind', $3), ('queue', $2), ('server', s.id::text)) k (scope, target)
        JOIN headgate.active_pauses p USING (scope, target)),
       (SELECT to_json(b) FROM headgate.breakers b WHERE b.scope = 'server' AND b.id = s.id),
       (SELECT to_json(b) FROM headgate.breakers b WHERE b.scope = 'database' AND b.id = d.id),
       coalesce(t.status_reason, ''), coalesce(t.waiting = 'cancel', false), coalesce(r.why, ''), coalesce(r.name, ''), coalesce(r.says, ''), coalesce(t.kinds, p.kinds),
       t.plan, tl.max_running, pl.max_running, tl.weight, pl.weight,
       tl.rate, extract(epoch FROM tl.rate_period)::float8, pl.rate, extract(epoch FROM pl.rate_period)::float8
FROM (VALUES (headgate.uuid_or_null($1))) o (id)
LEFT JOIN headgate.tenants t ON t.id = o.id
LEFT JOIN headgate.plans p ON p.name = t.plan
LEFT JOIN LATERAL headgate.kind_refusal(t.id, $3, '') r ON $3 <> ''
LEFT JOIN headgate.databases d ON d.id = coalesce(t.database_id, o.id)
LEFT JOIN headgate.servers s ON s.id = d.server_id
LEFT JOIN headgate.tenant_limits tl ON tl.tenant_id = t.id
LEFT JOIN headgate.plan_limits pl ON pl.plan = t.plan
LEFT JOIN headgate.kind_limits kl ON kl.kind = $3
LEFT JOIN headgate.queue_limits ql ON ql.queue = $2`

// workersSQL walks the workers alive, by their partial index.
const workersSQL = `
SELECT count(*) FILTER (WHERE NOT silent), count(*) FILTER (WHERE silent), max(beat_at) FILTER (WHERE silent), count(*) FILTER (WHERE taking),
       count(*) FILTER (WHERE taking AND $2 = ANY (kinds)), count(*) FILTER (WHERE taking AND $1 = ANY (queues)),
       count(*) FILTER (WHERE taking AND $2 = ANY (kinds) AND $1 = ANY (queues))
FROM (SELECT kinds, queues, beat_at, headgate.silent(beat_at, dead_after) AS silent, NOT draining AND NOT headgate.silent(beat_at, dead_after) AS taking
      FROM headgate.living_workers) w`

// failingSQL are the workers alive whose claims for a queue (”: for any) fail, those
// first that have done so for longest. Workers of an older version do not say.
const failingSQL = `
SELECT w.worker, f
FROM headgate.living_workers w
CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(w.claims->'failing') WHEN 'array' THEN w.claims->'failing' ELSE '[]' END) f
WHERE NOT w.draining AND NOT headgate.silent(w.beat_at, w.dead_after) AND $1 IN ('', f->>'queue')
ORDER BY f->>'since', w.worker
LIMIT 10`

// heldSQL adds up what living workers hold: a row a worker process. Connections are
// those of the dead too, for as long as claims count them.
const heldSQL = `
SELECT coalesce(sum((h.hand->'queues'->>$2)::int) FILTER (WHERE h.alive), 0)::int,
       coalesce(sum((SELECT sum(n::int) FROM jsonb_each_text(h.hand->'owners'->$1) k (kind, n))) FILTER (WHERE h.alive), 0)::int,
       coalesce(sum((SELECT sum((kinds->>$3)::int) FROM jsonb_each(h.hand->'owners') o (owner, kinds))) FILTER (WHERE h.alive), 0)::int,
       coalesce(sum((h.hand->'owners'->$1->>$3)::int) FILTER (WHERE h.alive), 0)::int,
       coalesce(sum((h.hand->'servers'->s.id->>'jobs')::int) FILTER (WHERE h.alive), 0)::int,
       coalesce(sum(greatest((h.hand->'servers'->s.id->>'jobs')::int, (h.hand->'servers'->s.id->>'conns')::int)), 0)::int,
       coalesce(sum(greatest((h.hand->'servers'->s.id->>'jobs')::int, (h.hand->'servers'->s.id->>'conns')::int)) FILTER (WHERE NOT h.alive OR headgate.silent(h.beat_at, h.dead_after)), 0)::int
FROM headgate.counted_hands h
LEFT JOIN LATERAL (
    SELECT d.server_id::text AS id FROM headgate.databases d
    WHERE d.id = coalesce((SELECT t.database_id FROM headgate.tenants t WHERE t.id = headgate.uuid_or_null($1)), headgate.uuid_or_null($1))
) s ON true`

// turnSQL walks, of each group of lanes, the beginning of the index that claims
// walk; and the index of the lane's own rows. It stops at $4 each time.
const turnSQL = `
SELECT coalesce(m.active, false), m.wake_at,
       (SELECT count(*) FROM (
            SELECT FROM headgate.lane_groups g
            CROSS JOIN LATERAL (
                SELECT FROM headgate.lanes l
                WHERE l.queue = $2 AND l.server_id = g.server_id AND l.kind = g.kind AND l.active AND l.vtime >= g.floor AND l.vtime < m.vtime LIMIT $4
            ) l
            WHERE g.queue = $2 AND m.active LIMIT $4) b),
       coalesce(m.weight, 1), coalesce(a.weights, 0), a.owners,
       (SELECT count(*) FROM (
            SELECT FROM river_job
            WHERE state = 'available' AND queue = $2 AND headgate.lane(metadata) = $1 AND kind = $3 LIMIT $4) w)
FROM (SELECT) one
LEFT JOIN headgate.lanes m ON m.queue = $2 AND m.lane = $1 AND m.kind = $3
CROSS JOIN LATERAL (
    SELECT sum(weight) AS weights, count(*) AS owners FROM (
        SELECT DISTINCT lane, weight FROM (
            SELECT l.lane, l.weight FROM headgate.lane_groups g
            CROSS JOIN LATERAL (
                SELECT lane, weight FROM headgate.lanes l
                WHERE l.queue = $2 AND l.server_id = g.server_id AND l.kind = g.kind AND l.active ORDER BY l.vtime LIMIT $4
            ) l
            WHERE g.queue = $2 LIMIT $4
        ) first
    ) o
) a`

// ask adds what a standing asks to a batch.
func (s *standing) ask(batch *pgx.Batch) {
	batch.Queue(standingSQL, s.owner, s.queue, s.kind).QueryRow(s.scan)
	batch.Queue(workersSQL, s.queue, s.kind).QueryRow(func(row pgx.Row) error {
		w := &s.workers
		return row.Scan(&w.alive, &w.silent, &w.lastAt, &w.taking, &w.knowing, &w.working, &w.fit)
	})
	batch.Queue(failingSQL, s.queue).Query(func(rows pgx.Rows) error {
		var f workerFailing
		s.failing = nil
		_, err := pgx.ForEachRow(rows, []any{&f.worker, &f.ClaimsFailing}, func() error {
			if f.Lasts() && f.concerns(s.owner) {
				s.failing = append(s.failing, f)
			}
			f.ClaimsFailing = ClaimsFailing{}
			return nil
		})
		return err
	})
	batch.Queue(heldSQL, s.owner, s.queue, s.kind).QueryRow(func(row pgx.Row) error {
		h := &s.held
		return row.Scan(&h.queue, &h.owner, &h.kind, &h.ownerKind, &h.serverJobs, &h.serverPlaces, &h.serverLost)
	})
	batch.Queue(turnSQL, s.owner, s.queue, s.kind, maxCount).QueryRow(func(row pgx.Row) error {
		t := &s.turn
		return row.Scan(&t.active, &t.wakeAt, &t.before, &t.weight, &t.weights, &t.owners, &t.waiting)
	})
}

func (s *standing) scan(row pgx.Row) error {
	var pauses, serverBreaker, dbBreaker []byte
	var ahead float64
	err := s.limits.Scan(row, &s.now, &s.tenant, &s.tenantStatus, &s.zone, &s.database, &s.server, &s.serverState.state, &s.serverState.reason, &s.serverState.by, &s.serverState.since, &s.databaseState.state, &s.databaseState.reason, &s.databaseState.by, &s.databaseState.since, &s.budget,
		&s.queuePausedAt, &s.kindMax, &s.kindEach, &s.queueMax, &ahead, &pauses, &serverBreaker, &dbBreaker, &s.statusReason, &s.cancels, &s.refused, &s.lacking, &s.refusal, &s.kinds)
	if err != nil {
		return err
	}
	s.ahead = time.Duration(ahead * float64(time.Second))
	for _, part := range []struct {
		raw  []byte
		into any
	}{{pauses, &s.pauses}, {serverBreaker, &s.serverBreaker}, {dbBreaker, &s.dbBreaker}} {
		if part.raw == nil {
			continue
		}
		if err := json.Unmarshal(part.raw, part.into); err != nil {
			return err
		}
	}
	return nil
}

// askAll fills standings as of one moment, with plans that walk indexes whatever the
// statistics say of tables that change by the second.
func (x *Explainer) askAll(ctx context.Context, standings []*standing, more ...func(*pgx.Batch)) error {
	tx, err := beginOnIndexes(ctx, x.pool)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has written nothing
	return askIn(ctx, tx, standings, more...)
}

func askIn(ctx context.Context, tx pgx.Tx, standings []*standing, more ...func(*pgx.Batch)) error {
	batch := &pgx.Batch{}
	for _, add := range more {
		add(batch)
	}
	for _, s := range standings {
		s.ask(batch)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("explaining: %w", err)
	}
	return nil
}

// beginOnIndexes begins a transaction that reads and walks indexes. The caller rolls it
// back.
func beginOnIndexes(ctx context.Context, pool *pgxpool.Pool) (pgx.Tx, error) {
	tx, err := central.BeginRead(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("explaining: %w", err)
	}
	_, err = tx.Exec(ctx, holdLanesSQL) // by itself: to parse the others takes the snapshot
	if err == nil {
		_, err = tx.Exec(ctx, onIndexesSQL)
	}
	if err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx)) // the error says more
		return nil, fmt.Errorf("explaining: %w", err)
	}
	return tx, nil
}

// holdLanesSQL comes before the snapshot: workers write these tables anew now and
// then (worker/claim/rewrite.go), and a snapshot from before that finds them empty.
const holdLanesSQL = `LOCK TABLE river_job, headgate.lanes, headgate.lane_groups, headgate.lane_clocks, headgate.lane_rates, headgate.hands IN ACCESS SHARE MODE`

const onIndexesSQL = `SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)`
