package explain

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ServerLoad is what the workers that live have to do with one server: what counts
// against its budget as of their last claims, the rest as of their last heartbeats.
type ServerLoad struct {
	Running int    `json:"running"` // jobs, over all worker processes
	InUse   int    `json:"in_use"`  // of the budget: running jobs, and connections that are kept
	Workers int    `json:"workers"` // that have connections to it, or jobs that wait for one
	Open    int    `json:"open"`    // connections, idle ones included
	Waiting int    `json:"waiting"` // jobs that a worker has claimed and that wait for a connection
	Breaker string `json:"breaker"` // closed, half-open or open: the worst that anybody knows

	// Of the breaker that all workers go by, where it is not closed.
	BreakerSince *time.Time `json:"breaker_since,omitempty"`
	BreakerUntil *time.Time `json:"breaker_until,omitempty"` // when jobs may try it
	BreakerCause string     `json:"breaker_cause,omitempty"`

	BrokenDatabases int `json:"broken_databases,omitempty"` // databases on it whose own breakers are not closed: Explainer.DatabaseBreakers
}

// serverLoadsSQL reads a row a worker process and a row a server. What a dead process
// still has is in headgate.hands for as long as claims count it.
const serverLoadsSQL = `
WITH alive AS (
    SELECT servers FROM headgate.living_workers
), beats AS (
    SELECT l.key AS id, count(*)::int AS workers, coalesce(sum((l.value->>'open')::int), 0)::int AS open,
           coalesce(sum((l.value->>'waiting')::int), 0)::int AS waiting,
           bool_or(l.value->>'breaker' = 'open') AS broken, bool_or(l.value->>'breaker' = 'half-open') AS tried
    FROM alive w, jsonb_each(w.servers) l
    GROUP BY l.key
), held AS (
    SELECT l.key AS id, coalesce(sum((l.value->>'jobs')::int) FILTER (WHERE h.alive), 0)::int AS running,
           sum(greatest((l.value->>'jobs')::int, (l.value->>'conns')::int))::int AS in_use
    FROM headgate.counted_hands h, jsonb_each(h.hand->'servers') l
    GROUP BY l.key
), broken AS (
    SELECT d.server_id, count(*)::int AS n FROM headgate.breakers b JOIN headgate.databases d ON d.id = b.id WHERE b.scope = 'database' GROUP BY 1
)
SELECT s.id::text, coalesce(h.running, 0), coalesce(h.in_use, 0), coalesce(b.workers, 0), coalesce(b.open, 0), coalesce(b.waiting, 0),
       CASE WHEN b.broken OR r.until > clock_timestamp() THEN 'open' WHEN b.tried OR r.id IS NOT NULL THEN 'half-open' ELSE 'closed' END,
       r.since, r.until, coalesce(r.cause, ''), coalesce(k.n, 0)
FROM headgate.servers s
LEFT JOIN beats b ON b.id = s.id::text
LEFT JOIN held h ON h.id = s.id::text
LEFT JOIN headgate.breakers r ON r.scope = 'server' AND r.id = s.id
LEFT JOIN broken k ON k.server_id = s.id
WHERE b.id IS NOT NULL OR h.id IS NOT NULL OR r.id IS NOT NULL OR k.n > 0`

// ServerLoads returns the load of the servers that are in use or do not answer, by
// their ids.
func (x *Explainer) ServerLoads(ctx context.Context) (map[string]ServerLoad, error) {
	rows, err := x.pool.Query(ctx, serverLoadsSQL)
	if err != nil {
		return nil, fmt.Errorf("list the load of servers: %w", err)
	}
	loads := map[string]ServerLoad{}
	var id string
	var l ServerLoad
	_, err = pgx.ForEachRow(rows, []any{&id, &l.Running, &l.InUse, &l.Workers, &l.Open, &l.Waiting, &l.Breaker, &l.BreakerSince, &l.BreakerUntil, &l.BreakerCause, &l.BrokenDatabases},
		func() error { loads[id] = l; return nil })
	if err != nil {
		return nil, fmt.Errorf("list the load of servers: %w", err)
	}
	return loads, nil
}
