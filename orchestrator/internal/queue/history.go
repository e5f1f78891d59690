package queue

import (
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
	State       jobs.State      `json:"state"`
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

	// Gone says that the row has left the queue: the job is known by its attempts, and
	// what they do not tell is not known.
	Gone bool `json:"gone,omitempty"`

	Attempts []jobs.Outcome `json:"attempts,omitempty"` // ended ones, oldest first; Job only

	named bool // its UID stands in its row
}

// Name is what the job is found by: its UID, or its number where the UID is one that
// was made from the row (wire.UIDOfRow).
func (j *Job) Name() string {
	if j.named {
		return j.UID
	}
	return strconv.FormatInt(j.ID, 10)
}

// ErrUnknownJob: there is no such job, or not any more.
var ErrUnknownJob = jobs.Sentinel("unknown_job", "unknown job")

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

// Job returns one job, with its attempts (see orchestrator.Client).
func (q *Queue) Job(ctx context.Context, uidOrID string) (Job, error) {
	name, err := parseJobName(uidOrID)
	if err != nil {
		return Job{}, err
	}
	if err := q.Ready(ctx); err != nil {
		return Job{}, err
	}
	sql := selectJobByUID
	if name.uid == "" {
		sql = selectJobByID
	}
	rows, err := q.pool.Query(ctx, sql, name.arg())
	if err != nil {
		return Job{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	job, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return q.goneJob(ctx, name)
	}
	if err != nil {
		return Job{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	job.Attempts, err = q.Attempts(ctx, job.UID)
	return job, err
}

const selectNamesOfIDs = `
SELECT coalesce((SELECT slug FROM headgate.tenants WHERE id = headgate.uuid_or_null($1)), ''), coalesce((SELECT name FROM headgate.databases WHERE id = headgate.uuid_or_null($2)), '')`

// Gone is what the history knows of a job whose row has left the queue.
func (q *Queue) Gone(ctx context.Context, uid string) (Job, error) {
	return q.goneJob(ctx, jobName{uid: uid})
}

// goneJob is what the history knows of a job without a row.
func (q *Queue) goneJob(ctx context.Context, name jobName) (Job, error) {
	if name.uid == "" {
		return Job{}, fmt.Errorf("%w: no job in the queue has the number %d; finished jobs leave the queue after a day or more, and are then found by their UID", ErrUnknownJob, name.id)
	}
	attempts, err := q.Attempts(ctx, name.uid)
	if err != nil {
		return Job{}, err
	}
	if len(attempts) == 0 {
		return Job{}, fmt.Errorf("%w: neither the queue nor the history has a job with the UID %s", ErrUnknownJob, name.uid)
	}
	last := attempts[len(attempts)-1]
	ended := jobs.Time{Time: last.EndedAt}
	job := Job{UID: name.uid, ID: last.JobID, Kind: last.Kind, State: last.State, Attempt: last.Attempt, Schedule: last.Schedule,
		FinishedAt: &ended, Tags: []string{}, Args: json.RawMessage("null"), Gone: true, Attempts: attempts, named: true}
	if err := q.pool.QueryRow(ctx, selectNamesOfIDs, last.TenantID, last.DatabaseID).Scan(&job.Tenant, &job.Database); err != nil {
		return Job{}, fmt.Errorf("reading whose job %s was: %w", name.uid, err)
	}
	return job, nil
}

func scanJob(row pgx.CollectableRow) (j Job, err error) {
	var metadata []byte
	var state string
	var tags pgtype.FlatArray[*string]
	err = row.Scan(&metadata, &j.ID, &j.Kind, &state, &j.Tenant, &j.Database, &j.Queue, &j.Priority,
		&j.Attempt, &j.MaxAttempts, &j.Args, &tags, &j.EnqueuedAt, &j.ScheduledAt, &j.FinishedAt)
	meta := readMeta(metadata, j.ID, j.EnqueuedAt.Time)
	j.State = StateOf(state)
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

// JobFilter selects jobs, newest first, a page at a time. A job that is Cancelling is found
// under the state that its row is in, Running or Waiting, too.
type JobFilter struct {
	State  jobs.State // "" means all; Snoozed those that are Scheduled
	Kind   string
	Tenant string // slug, UUID or org_id

	jobs.Page // Limit is 50, at most 1,000
}

// Jobs lists jobs, without their attempts, and returns the After of the next page (""
// if nothing follows).
func (q *Queue) Jobs(ctx context.Context, f JobFilter) (list []Job, next string, err error) {
	if err := q.Ready(ctx); err != nil {
		return nil, "", err
	}
	limit, err := f.Size(50, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	if f.State != "" {
		if _, err := jobs.ParseState(string(f.State)); err != nil {
			return nil, "", fmt.Errorf("listing jobs: %w", err)
		}
	}
	last := int64(math.MaxInt64) // of the page
	if f.After != "" {
		if last, err = strconv.ParseInt(f.After, 36, 64); err != nil {
			return nil, "", fmt.Errorf("listing jobs: %w", f.Unknown())
		}
	}
	if f.Tenant != "" {
		tenant, err := q.catalog.Tenant(ctx, f.Tenant)
		if err != nil {
			return nil, "", err
		}
		f.Tenant = tenant.ID
	}
	rows, err := q.pool.Query(ctx, listJobs, last, rowState(f.State), f.Kind, f.Tenant, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	if list, err = pgx.CollectRows(rows, scanJob); err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	list, next = jobs.CutPage(list, limit, func(j Job) string { return strconv.FormatInt(j.ID-1, 36) })
	return list, next, nil
}
