package orchestrator

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ServerLoad is what the workers that live have to do with one server, as of
// their last heartbeats.
type ServerLoad struct {
	Workers int    `json:"workers"` // that have connections to it, or jobs that wait for one
	Open    int    `json:"open"`    // connections, idle ones included
	Waiting int    `json:"waiting"` // jobs
	Breaker string `json:"breaker"` // the worst of the workers': closed, half-open or open
}

const serverLoadsSQL = `
SELECT l.key, count(*)::int, coalesce(sum((l.value->>'open')::int), 0)::int, coalesce(sum((l.value->>'waiting')::int), 0)::int,
       CASE WHEN bool_or(l.value->>'breaker' = 'open') THEN 'open' WHEN bool_or(l.value->>'breaker' = 'half-open') THEN 'half-open' ELSE 'closed' END
FROM headgate.workers w, jsonb_each(w.servers) l
WHERE w.reaped_at IS NULL AND w.ended_at IS NULL
GROUP BY l.key`

// ServerLoads returns the load of the servers in use, by their ids.
func (c *Client) ServerLoads(ctx context.Context) (map[string]ServerLoad, error) {
	rows, err := c.pool.Query(ctx, serverLoadsSQL)
	if err != nil {
		return nil, fmt.Errorf("list the load of servers: %w", err)
	}
	loads := map[string]ServerLoad{}
	var id string
	var l ServerLoad
	_, err = pgx.ForEachRow(rows, []any{&id, &l.Workers, &l.Open, &l.Waiting, &l.Breaker}, func() error { loads[id] = l; return nil })
	if err != nil {
		return nil, fmt.Errorf("list the load of servers: %w", err)
	}
	return loads, nil
}
