package pages

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// River's UI counts the rows of each state every two seconds for each browser, in the order
// of an index that Headgate has trimmed: seconds at a million rows. These counts are bounded,
// ask for no order, and are kept for a while.

// mostCounted is the highest number that is counted to.
const mostCounted = 10_000

// keepCounts is how long counts are given again.
const keepCounts = 10 * time.Second

// countStatesSQL walks an index of each state, or the table where most of it is of that state;
// of pending rows, which there are hardly ever, it walks the table.
const countStatesSQL = `
SELECT (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'available' LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'cancelled' AND finalized_at IS NOT NULL LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'completed' AND finalized_at IS NOT NULL LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'discarded' AND finalized_at IS NOT NULL LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'pending' LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'retryable' LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'running' LIMIT $1) s),
       (SELECT count(*) FROM (SELECT FROM river_job WHERE state = 'scheduled' LIMIT $1) s)`

// stateCount is the count of one state as River's UI reads it.
type stateCount struct {
	Accuracy   string    `json:"accuracy"` // exact_cached, or lower_bound where there are more
	Count      int       `json:"count"`
	ObservedAt time.Time `json:"observed_at"`
}

// stateCounts are in the order of countStatesSQL.
type stateCounts struct {
	Available stateCount `json:"available"`
	Cancelled stateCount `json:"cancelled"`
	Completed stateCount `json:"completed"`
	Discarded stateCount `json:"discarded"`
	Pending   stateCount `json:"pending"`
	Retryable stateCount `json:"retryable"`
	Running   stateCount `json:"running"`
	Scheduled stateCount `json:"scheduled"`
}

// counter counts for all browsers together.
type counter struct {
	pool *pgxpool.Pool
	turn chan struct{} // one counts at a time

	mu   sync.Mutex
	last stateCounts
	at   time.Time
}

func newCounter(pool *pgxpool.Pool) *counter {
	return &counter{pool: pool, turn: make(chan struct{}, 1)}
}

func (c *counter) kept() (stateCounts, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, time.Since(c.at) < keepCounts
}

// counts returns what was counted lately, or counts.
func (c *counter) counts(ctx context.Context) (stateCounts, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return stateCounts{}, ctx.Err()
	}
	if last, fresh := c.kept(); fresh {
		return last, nil
	}
	var now stateCounts
	all := []*stateCount{&now.Available, &now.Cancelled, &now.Completed, &now.Discarded, &now.Pending, &now.Retryable, &now.Running, &now.Scheduled}
	into := make([]any, len(all))
	for i, count := range all {
		into[i] = &count.Count
	}
	// A literal, because a plan that does not know the bound walks whole tables.
	sql := strings.ReplaceAll(countStatesSQL, "$1", fmt.Sprint(mostCounted+1))
	if err := c.pool.QueryRow(ctx, sql, pgx.QueryExecModeExec).Scan(into...); err != nil {
		return stateCounts{}, fmt.Errorf("counting jobs: %w", err)
	}
	at := time.Now()
	for _, count := range all {
		count.Accuracy, count.ObservedAt = "exact_cached", at.UTC()
		if count.Count > mostCounted {
			count.Accuracy, count.Count = "lower_bound", mostCounted
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.at = now, at
	return now, nil
}

func (u *riverUI) states(w http.ResponseWriter, r *http.Request) {
	u.limited(w, r, func(a *answer, r *http.Request) {
		counts, err := u.counter.counts(r.Context())
		switch {
		case err != nil && r.Context().Err() != nil:
			u.tooLong(a, r)
		case err != nil:
			u.failed(a, r, err)
		default:
			a.header.Set("Content-Type", "application/json; charset=utf-8")
			_ = json.NewEncoder(a).Encode(counts) // never fails
		}
	})
}
