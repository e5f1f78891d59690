package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
)

// Job is a job as the central database knows it: its row in the queue, and what
// is known of its attempts. Rows are written by anybody: their times may be infinite.
type Job struct {
	UID         string          `json:"uid"`
	ID          int64           `json:"id"`
	Kind        string          `json:"kind"`
	State       string          `json:"state"`              // of the queue, see States
	Tenant      string          `json:"tenant,omitempty"`   // slug
	Database    string          `json:"database,omitempty"` // name; where the tenant's rows live now
	Queue       string          `json:"queue"`
	Priority    int             `json:"priority"`
	Attempt     int             `json:"attempt"`
	MaxAttempts int             `json:"max_attempts"`
	Schedule    string          `json:"schedule,omitempty"`
	Args        json.RawMessage `json:"args"`
	Tags        []string        `json:"tags"`
	EnqueuedAt  jobs.Time       `json:"enqueued_at"`
	ScheduledAt jobs.Time       `json:"scheduled_at"`
	FinishedAt  *jobs.Time      `json:"finished_at"`
	RerunOf     string          `json:"rerun_of,omitempty"` // UID of the job that this one repeats

	Cancel    *jobs.CancelRequest `json:"cancel,omitempty"`    // who wanted it cancelled
	Tombstone string              `json:"tombstone,omitempty"` // UID of the job that stops this one in its ledger
	Held      *jobs.Held          `json:"held,omitempty"`      // why attempts in a row used none, since when and how many

	Attempts []jobs.Outcome `json:"attempts,omitempty"` // ended ones, oldest first; Job only

	named bool // its UID stands in its row
}

// name is what the job is found by: its UID, or its number where the UID is one that
// was made from the row (jobs.UIDOfRow).
func (j *Job) name() string {
	if j.named {
		return j.UID
	}
	return strconv.FormatInt(j.ID, 10)
}

// ErrUnknownJob: there is no such job, or not any more.
var ErrUnknownJob = errors.New("unknown job")

// jobColumns reads the names behind the ids in a row's metadata by primary key;
// another River client may have written something there that is no UUID.
const jobColumns = `
SELECT j.metadata, j.id, j.kind,
       CASE WHEN j.finalized_at IS NULL AND j.metadata ? 'cancel_attempted_at' THEN 'cancelling' ELSE j.state::text END, coalesce(t.slug, ''), coalesce(d.name, ''), j.queue, j.priority,
       j.attempt, j.max_attempts, j.args, j.tags, j.created_at, j.scheduled_at, j.finalized_at
FROM river_job j
LEFT JOIN headgate.tenants t
    ON t.id = headgate.uuid_or_null(j.metadata->>'tenant')
LEFT JOIN headgate.databases d
    ON d.id = coalesce(headgate.uuid_or_null(j.metadata->>'database'), t.database_id)
`

const selectJobByUID = jobColumns + `WHERE j.id = (` + selectIDOfUID + `)`

const selectJobByID = jobColumns + `WHERE j.id = $1`

// Job returns one job by its UID or its id in the queue, with its attempts, or
// an error that matches ErrUnknownJob.
func (c *Client) Job(ctx context.Context, uidOrID string) (Job, error) {
	name, err := parseJobName(uidOrID)
	if err != nil {
		return Job{}, err
	}
	if err := c.ready(ctx); err != nil {
		return Job{}, err
	}
	sql := selectJobByUID
	if name.uid == "" {
		sql = selectJobByID
	}
	rows, err := c.pool.Query(ctx, sql, name.arg())
	if err != nil {
		return Job{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	job, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return Job{}, fmt.Errorf("%w: no job has the UID or number %s; finished jobs leave the queue after a day or more, and are then known by their UID only, as long as the history is kept", ErrUnknownJob, uidOrID)
	}
	if err != nil {
		return Job{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	job.Attempts, err = c.Attempts(ctx, job.UID)
	return job, err
}

func scanJob(row pgx.CollectableRow) (j Job, err error) {
	var metadata []byte
	var tags pgtype.FlatArray[*string]
	err = row.Scan(&metadata, &j.ID, &j.Kind, &j.State, &j.Tenant, &j.Database, &j.Queue, &j.Priority,
		&j.Attempt, &j.MaxAttempts, &j.Args, &tags, &j.EnqueuedAt, &j.ScheduledAt, &j.FinishedAt)
	meta := readMeta(metadata, j.ID, j.EnqueuedAt.Time)
	j.Tags, j.named = plainTags(tags), meta.named
	j.UID, j.Schedule, j.RerunOf, j.Cancel, j.Tombstone, j.Held = meta.UID, meta.Schedule, meta.RerunOf, meta.Cancel, meta.Tombstone, meta.Held
	return j, err
}

const listJobs = jobColumns + `
WHERE j.id <= $1
  AND ($2 IN ('', 'cancelling') OR j.state = CAST(nullif($2, 'cancelling') AS river_job_state))
  AND ($2 <> 'cancelling' OR j.finalized_at IS NULL AND j.metadata ? 'cancel_attempted_at')
  AND ($3 = '' OR j.kind = $3)
  AND ($4 = '' OR j.metadata->>'tenant' = $4)
ORDER BY j.id DESC
LIMIT $5`

// JobFilter selects jobs, newest first, a page at a time.
type JobFilter struct {
	State  string // of the queue; "" means all
	Kind   string
	Tenant string // slug, UUID or org_id
	Before int64  // continue below this number; 0 means from the newest
	Limit  int    // 0 means 50, at most 1000
}

// States are the states of a job, and the words that JobFilter.State takes.
// Cancelling is a job that somebody wants cancelled and that has not ended; a filter
// for the state that its row is in, running or available, finds it too.
var States = []string{"available", "scheduled", "running", Cancelling, "retryable", "completed", "cancelled", "discarded", "pending"}

// Jobs lists jobs without their attempts.
func (c *Client) Jobs(ctx context.Context, f JobFilter) ([]Job, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	last := f.Before - 1 // of the page
	if f.Before == 0 {
		last = math.MaxInt64
	}
	if f.Tenant != "" {
		tenant, err := c.catalog.Tenant(ctx, f.Tenant)
		if err != nil {
			return nil, err
		}
		f.Tenant = tenant.ID
	}
	rows, err := c.pool.Query(ctx, listJobs, last, f.State, f.Kind, f.Tenant, min(cmp.Or(f.Limit, 50), 1000))
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	return list, nil
}
