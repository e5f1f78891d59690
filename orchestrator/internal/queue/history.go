package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/selector"
)

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

const selectJob = jobColumns + `WHERE j.id = (` + selectIDOfUID + `)`

// Job returns one job, with its attempts (see orchestrator.Client).
func (q *Queue) Job(ctx context.Context, uid string) (jobs.Record, error) {
	uid, err := parseUID(uid)
	if err != nil {
		return jobs.Record{}, err
	}
	if err := q.Ready(ctx); err != nil {
		return jobs.Record{}, err
	}
	rows, err := q.pool.Query(ctx, selectJob, uid)
	if err != nil {
		return jobs.Record{}, fmt.Errorf("reading job %s: %w", uid, err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, scanJob)
	if errors.Is(err, pgx.ErrNoRows) {
		return q.Gone(ctx, uid)
	}
	if err != nil {
		return jobs.Record{}, fmt.Errorf("reading job %s: %w", uid, err)
	}
	found.Attempts, found.Earlier, err = q.last(ctx, found.UID)
	return found.Record, err
}

const selectNamesOfIDs = `
SELECT coalesce((SELECT slug FROM headgate.tenants WHERE id = headgate.uuid_or_null($1)), ''), coalesce((SELECT name FROM headgate.databases WHERE id = headgate.uuid_or_null($2)), '')`

// Gone is what the history knows of a job whose row has left the queue. The error matches
// jobs.ErrUnknownJob.
func (q *Queue) Gone(ctx context.Context, uid string) (jobs.Record, error) {
	attempts, earlier, err := q.last(ctx, uid)
	if err != nil {
		return jobs.Record{}, err
	}
	if len(attempts) == 0 {
		return jobs.Record{}, fmt.Errorf("%w: neither the queue nor the history has a job with the UID %s", jobs.ErrUnknownJob, uid)
	}
	last := attempts[len(attempts)-1]
	ended := jobs.Time{Time: last.EndedAt}
	job := jobs.Record{UID: uid, Kind: last.Kind, State: last.State, Attempt: last.Attempt, Schedule: last.Schedule,
		FinishedAt: &ended, Tags: []string{}, Args: json.RawMessage("null"), Gone: true, Attempts: attempts, Earlier: earlier}
	if err := q.pool.QueryRow(ctx, selectNamesOfIDs, last.TenantID, last.DatabaseID).Scan(&job.Tenant, &job.Database); err != nil {
		return jobs.Record{}, fmt.Errorf("reading whose job %s was: %w", uid, err)
	}
	return job, nil
}

// record is a job and the number of its row.
type record struct {
	jobs.Record
	id int64
}

func scanJob(row pgx.CollectableRow) (j record, err error) {
	var metadata []byte
	var state string
	var tags pgtype.FlatArray[*string]
	err = row.Scan(&metadata, &j.id, &j.Kind, &state, &j.Tenant, &j.Database, &j.Queue, &j.Priority,
		&j.Attempt, &j.MaxAttempts, &j.Args, &tags, &j.EnqueuedAt, &j.ScheduledAt, &j.FinishedAt)
	meta := readMeta(metadata, j.id, j.EnqueuedAt.Time)
	j.State, j.Tags = StateOf(state), plainTags(tags)
	j.UID, j.Brand, j.Schedule, j.RerunOf, j.Cancel, j.Tombstone, j.Held = meta.UID, meta.Brand, meta.Schedule, meta.RerunOf, meta.Cancel, meta.Tombstone, meta.Held
	return j, err
}

const chosenJobs = `
  AND ($2 IN ('', 'cancelling') OR j.state = CAST(nullif($2, 'cancelling') AS river_job_state))
  AND ($2 <> 'cancelling' OR j.finalized_at IS NULL AND j.metadata ? 'cancel_attempted_at')
  AND ($3 = '' OR j.kind = $3)
  AND ($4 = '' OR j.metadata->>'tenant' = $4)
  AND ($6::text[] IS NULL OR j.metadata->>'tenant' IN (SELECT x.id FROM unnest($6::text[]) x (id)))
`

const listJobs = jobColumns + `WHERE j.id <= $1` + chosenJobs + `ORDER BY j.id DESC LIMIT $5`

const listOldestJobs = jobColumns + `WHERE j.id >= $1` + chosenJobs + `ORDER BY j.id LIMIT $5`

// jobPlace is where a page of jobs begins, in its order.
func jobPlace(f jobs.JobFilter) (first int64, err error) {
	if f.After == "" && f.Oldest {
		return math.MinInt64, nil
	}
	if f.After == "" {
		return math.MaxInt64, nil
	}
	text, oldest := strings.CutPrefix(f.After, oldestPage)
	if first, err = strconv.ParseInt(text, 36, 64); err != nil || oldest != f.Oldest {
		return 0, f.Unknown()
	}
	return first, nil
}

// oldestPage begins the After of a list whose oldest job is first.
const oldestPage = "o:"

// selected are the UUIDs of the tenants that an expression selects; nil for all tenants.
func (q *Queue) selected(ctx context.Context, expression string) ([]string, error) {
	if expression == "" {
		return nil, nil
	}
	s, err := selector.Parse(expression)
	if err != nil {
		return nil, jobs.AsInputError("select", err)
	}
	if s.IsAll() {
		return nil, nil
	}
	return q.catalog.ListedIDs(ctx, s)
}

// Jobs lists jobs, without their attempts, and returns the After of the next page (""
// if nothing follows).
func (q *Queue) Jobs(ctx context.Context, f jobs.JobFilter) (list []jobs.Record, next string, err error) {
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
	first, err := jobPlace(f)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	if f.Tenant != "" {
		tenant, err := q.catalog.Tenant(ctx, f.Tenant)
		if err != nil {
			return nil, "", err
		}
		f.Tenant = tenant.ID
	}
	selected, err := q.selected(ctx, f.Select)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	sql, after := listJobs, func(j record) string { return strconv.FormatInt(j.id-1, 36) }
	if f.Oldest {
		sql, after = listOldestJobs, func(j record) string { return oldestPage + strconv.FormatInt(j.id+1, 36) }
	}
	rows, err := q.pool.Query(ctx, sql, first, rowState(f.State), f.Kind, f.Tenant, limit+1, selected)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanJob)
	if err != nil {
		return nil, "", fmt.Errorf("listing jobs: %w", err)
	}
	found, next = jobs.CutPage(found, limit, after)
	list = make([]jobs.Record, len(found))
	for i := range found {
		list[i] = found[i].Record
	}
	return list, next, nil
}
