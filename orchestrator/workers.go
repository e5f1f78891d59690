package orchestrator

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Worker is one life of a worker process, from its start to its end.
type Worker struct {
	Incarnation string       `json:"incarnation"` // UUID; a process that was declared dead and woke has a new one
	Name        string       `json:"worker"`
	Host        string       `json:"host"`
	PID         int          `json:"pid"`
	State       WorkerState  `json:"state"`
	Kinds       []string     `json:"kinds"`
	Queues      []string     `json:"queues"`
	Running     int          `json:"running"` // jobs in hand
	StartedAt   time.Time    `json:"started_at"`
	BeatAt      time.Time    `json:"beat_at"` // its last sign of life
	ReapedAt    *time.Time   `json:"reaped_at,omitempty"`
	EndedAt     *time.Time   `json:"ended_at,omitempty"`
	Claims      WorkerClaims `json:"claims"`
}

// WorkerClaims is how a worker's claims went between its last two heartbeats.
// Polls that found nothing to do are not counted.
type WorkerClaims struct {
	Claims int     `json:"claims"`
	Jobs   int     `json:"jobs"`
	P50    float64 `json:"p50_ms"` // how long one took, its wait for its turn included
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`

	// Failing has each queue whose claims have failed since the last that did not.
	Failing []ClaimsFailing `json:"failing,omitempty"`
}

// ClaimsFailing says since when a worker's claims for one queue fail.
type ClaimsFailing struct {
	Queue string    `json:"queue"`
	Since time.Time `json:"since"` // by the worker's clock
	Times int       `json:"times"` // in a row
	Error string    `json:"error"` // the last one's
}

// Lasts says that it is more than a claim that was unlucky.
func (f ClaimsFailing) Lasts() bool { return f.Times >= 3 }

// WorkerState says what can be expected of a worker.
type WorkerState string

// The states of a worker.
const (
	WorkerAlive    WorkerState = "alive"    // claims and runs jobs
	WorkerDraining WorkerState = "draining" // ends what it has, claims nothing
	WorkerStopped  WorkerState = "stopped"  // ended in order
	WorkerLost     WorkerState = "lost"     // declared dead; its jobs went to others
)

const listWorkers = `
SELECT w.incarnation::text, w.worker, w.host, w.pid,
       CASE WHEN w.reaped_at IS NOT NULL THEN 'lost' WHEN w.ended_at IS NOT NULL THEN 'stopped' WHEN w.draining THEN 'draining' ELSE 'alive' END,
       w.kinds, w.queues,
       (SELECT count(*) FROM river_job j
        WHERE j.state = 'running' AND split_part(j.attempted_by[array_upper(j.attempted_by, 1)], ':', 1) = w.incarnation::text),
       w.started_at, w.beat_at, w.reaped_at, w.ended_at, w.claims
FROM headgate.workers w
ORDER BY (w.reaped_at IS NULL AND w.ended_at IS NULL) DESC, coalesce(w.reaped_at, w.ended_at) DESC, w.worker, w.started_at
LIMIT 1000`

// Workers lists the workers, those alive first, then those of the last seven
// days, at most 1000.
func (c *Client) Workers(ctx context.Context) ([]Worker, error) {
	rows, err := c.pool.Query(ctx, listWorkers)
	if err != nil {
		return nil, fmt.Errorf("listing workers: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Worker])
	if err != nil {
		return nil, fmt.Errorf("listing workers: %w", err)
	}
	return list, nil
}
