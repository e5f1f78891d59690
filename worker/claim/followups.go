package claim

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/headgate/headgate/jobs"
)

// FollowUp is a row of the queue, ready to be inserted with the end of the job
// whose handler asked for it.
type FollowUp struct {
	Kind        string          `json:"kind"`
	Args        json.RawMessage `json:"args"`
	Metadata    json.RawMessage `json:"metadata"`
	Queue       string          `json:"queue"`
	Priority    int             `json:"priority"`
	MaxAttempts int             `json:"max_attempts"`
	RunAt       *string         `json:"run_at,omitempty"` // RFC 3339; nil: now
}

// insertFollowUpsSQL inserts rows as River would, and wakes their queues.
const insertFollowUpsSQL = `
WITH f AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb)
        AS f (kind text, args jsonb, metadata jsonb, queue text, priority smallint, max_attempts smallint, run_at timestamptz)
), inserted AS (
    INSERT INTO river_job (kind, args, metadata, queue, priority, max_attempts, state, scheduled_at)
    SELECT kind, args, metadata, queue, priority, max_attempts,
           CASE WHEN run_at IS NULL THEN 'available' ELSE 'scheduled' END::river_job_state, coalesce(run_at, now())
    FROM f
)
SELECT headgate.notify_queues(array_agg(queue)) FROM f WHERE run_at IS NULL`

// insertFollowUps inserts what the handlers of the jobs that have just ended
// asked for. Of a group that is handed over again, because the reply to its
// commit was lost, no job has just ended.
func insertFollowUps(ctx context.Context, db querier, ends []end, fresh map[int64]string) error {
	var all []FollowUp
	for _, e := range ends {
		if fresh[e.id] == "completed" {
			all = append(all, e.followUps...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	rows, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", jobs.Count(len(all), "follow-up"), err)
	}
	if _, err := db.Exec(ctx, insertFollowUpsSQL, rows); err != nil {
		return fmt.Errorf("inserting %s: %w", jobs.Count(len(all), "follow-up"), err)
	}
	return nil
}
