package queue

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// countUnended counts what selectLeavers cancels, of tenants ($1) whatever their status, by
// the same indexes.
const countUnended = `
WITH q AS MATERIALIZED (SELECT * FROM headgate.waiting_queues() AS w (name))
SELECT t.id,
       (SELECT count(*) FROM q CROSS JOIN LATERAL (SELECT FROM river_job j WHERE j.queue = q.name AND headgate.lane(j.metadata) = t.id AND j.state = 'available' OFFSET 0) a),
       (SELECT count(*) FROM river_job j WHERE headgate.lane(j.metadata) = t.id AND j.state IN ('scheduled', 'retryable'))
FROM unnest($1::text[]) AS t (id)`

// countRunning reads all rows that run, which slots bound.
const countRunning = `
SELECT headgate.lane(metadata), count(*) FROM river_job
WHERE state = 'running' AND headgate.lane(metadata) = ANY ($1::text[]) GROUP BY 1`

// Unended counts the jobs of tenants, by their UUIDs, that have not ended.
func (q *Queue) Unended(ctx context.Context, tenants []string) (counts map[string]jobs.Unended, err error) {
	if err := q.Ready(ctx); err != nil {
		return nil, err
	}
	tx, err := central.BeginRead(ctx, q.pool)
	if err != nil {
		return nil, fmt.Errorf("counting jobs of tenants: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it has written nothing
	if _, err := tx.Exec(ctx, walkIndexes); err != nil {
		return nil, fmt.Errorf("counting jobs of tenants: %w", err)
	}
	counts = make(map[string]jobs.Unended, len(tenants))
	var id string
	var n jobs.Unended
	rows, _ := tx.Query(ctx, countUnended, tenants) // its error is ForEachRow's too
	_, err = pgx.ForEachRow(rows, []any{&id, &n.Waiting, &n.Scheduled}, func() error {
		counts[id] = n
		return nil
	})
	if err == nil {
		rows, _ = tx.Query(ctx, countRunning, tenants) // as above
		_, err = pgx.ForEachRow(rows, []any{&id, &n.Running}, func() error {
			of := counts[id]
			of.Running = n.Running
			counts[id] = of
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("counting jobs of tenants: %w", err)
	}
	return counts, nil
}
