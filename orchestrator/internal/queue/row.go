package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// row is a job's row in the queue, locked until the transaction that read it
// ends: no worker claims or ends it meanwhile.
type row struct {
	id                       int64
	uid                      string
	kind, queue              string
	state                    jobs.State
	priority                 int
	attempt, maxAttempts     int
	args                     []byte
	tags                     []string
	createdAt                time.Time
	attemptedAt, finalizedAt *time.Time
	meta                     rowMeta
	begun                    bool      // it has been claimed, some time
	token                    string    // of its last claim
	now                      time.Time // by the database's clock, when it was read
}

// rowMeta is the metadata of a row, River's part included.
type rowMeta struct {
	wire.Meta
	CancelAttemptedAt *time.Time
	named             bool // the UID stands in the row, so that it is found by it
}

// cancelledAt is when somebody asked that the job be cancelled, through us or
// through another River client.
func (m rowMeta) cancelledAt() *time.Time {
	if m.Cancel != nil {
		return &m.Cancel.At
	}
	return m.CancelAttemptedAt
}

const rowColumns = `
SELECT id, kind, state::text, queue, priority, attempt, max_attempts, args, tags, created_at, attempted_at, finalized_at, metadata,
       attempted_at IS NOT NULL OR coalesce(cardinality(attempted_by), 0) > 0, coalesce(headgate.claim_token(attempted_by), ''), clock_timestamp()
FROM river_job
`

const lockRowByUID = rowColumns + `WHERE id = (` + selectIDOfUID + `) FOR UPDATE`

const lockRowByID = rowColumns + `WHERE id = $1 FOR UPDATE`

// lockRow finds a job by its UID or number, for a change. The error matches
// ErrUnknownJob, or is a *JobFinishedError if the row has left the queue and the
// history knows how the job ended.
func (q *Queue) lockRow(ctx context.Context, tx pgx.Tx, uidOrID string) (row, error) {
	name, err := parseJobName(uidOrID)
	if err != nil {
		return row{}, err
	}
	if _, err := migrations.Queue(ctx, tx); err != nil { // the caller's session, which may be anybody's
		return row{}, err
	}
	sql := lockRowByUID
	if name.uid == "" {
		sql = lockRowByID
	}
	rows, err := tx.Query(ctx, sql, name.arg())
	if err != nil {
		return row{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, goneOrUnknown(ctx, tx, name)
	}
	if err != nil {
		return row{}, fmt.Errorf("reading job %s: %w", uidOrID, err)
	}
	return r, nil
}

func scanRow(from pgx.CollectableRow) (r row, err error) {
	var metadata []byte
	var state string
	var created jobs.Time
	var attempted, finalized *jobs.Time
	var tags pgtype.FlatArray[*string]
	err = from.Scan(&r.id, &r.kind, &state, &r.queue, &r.priority, &r.attempt, &r.maxAttempts, &r.args, &tags,
		&created, &attempted, &finalized, &metadata, &r.begun, &r.token, &r.now)
	if err != nil {
		return r, err
	}
	r.state, r.createdAt, r.tags = StateOf(state), created.Time, plainTags(tags)
	if attempted != nil {
		r.attemptedAt = &attempted.Time
	}
	if finalized != nil {
		r.finalizedAt = &finalized.Time
	}
	r.meta = readMeta(metadata, r.id, r.createdAt)
	r.uid = r.meta.UID
	return r, nil
}

// plainTags leaves out what is NULL.
func plainTags(list []*string) []string {
	tags := make([]string, 0, len(list))
	for _, tag := range list {
		if tag != nil {
			tags = append(tags, *tag)
		}
	}
	return tags
}

// readMeta reads the metadata of a row, River's part included. What does not fit is as
// if it were not there.
func readMeta(metadata []byte, id int64, createdAt time.Time) (m rowMeta) {
	m.Meta, _ = wire.ReadMeta(metadata, id, createdAt)
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(metadata, &keys) // what is no object has no keys
	m.named = wire.IsUID(textOf(keys["job_uid"]))
	if m.Cancel != nil && m.Cancel.At.IsZero() {
		m.Cancel = nil
	}
	if at, err := time.Parse(time.RFC3339Nano, textOf(keys["cancel_attempted_at"])); err == nil && !at.IsZero() {
		m.CancelAttemptedAt = &at
	}
	return m
}

// textOf is a JSON string's text, or "".
func textOf(raw json.RawMessage) (text string) {
	if json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// jobName is one of the two names of a job.
type jobName struct {
	id  int64
	uid string // "" if it is the number
}

func (n jobName) arg() any {
	if n.uid == "" {
		return n.id
	}
	return n.uid
}

func parseJobName(uidOrID string) (jobName, error) {
	if id, err := strconv.ParseInt(uidOrID, 10, 64); err == nil {
		return jobName{id: id}, nil
	}
	if uid, err := uuid.Parse(uidOrID); err == nil {
		return jobName{uid: uid.String()}, nil
	}
	return jobName{}, fmt.Errorf("%w: %q is neither a job's UID nor its number", ErrUnknownJob, fit.Cut(uidOrID))
}

// ErrJobFinished: the job has ended for good. The error is a *JobFinishedError.
var ErrJobFinished = jobs.Sentinel("job_finished", "job is finished")

// JobFinishedError says how a job ended.
type JobFinishedError struct {
	UID   string
	State jobs.State // Succeeded, Cancelled or Discarded
	At    time.Time  // jobs.Infinity if its row says so
	Gone  bool       // its row, and with it the arguments, has left the queue
}

// Error says how and when.
func (e *JobFinishedError) Error() string {
	text := fmt.Sprintf("job %s %s since %s", e.UID, Is(e.State), jobs.Time{Time: e.At}.UTC().Format(time.RFC3339))
	if e.Gone {
		text += ", and its row has left the queue"
	}
	return text
}

// Is makes the error match ErrJobFinished.
func (e *JobFinishedError) Is(target error) bool { return target == ErrJobFinished }

// Code is the code of ErrJobFinished.
func (e *JobFinishedError) Code() string { return jobs.CodeOf(ErrJobFinished) }

// name is what the job is found by.
func (r *row) name() string {
	if r.meta.named {
		return r.uid
	}
	return strconv.FormatInt(r.id, 10)
}

// finished returns nil while the job may still run.
func (r *row) finished() *JobFinishedError {
	if r.finalizedAt == nil {
		return nil
	}
	return &JobFinishedError{UID: r.uid, State: r.state, At: *r.finalizedAt}
}

// goneOrUnknown is the error for a job without a row.
func goneOrUnknown(ctx context.Context, tx pgx.Tx, name jobName) error {
	if name.uid == "" {
		return fmt.Errorf("%w: no job has the number %d; finished jobs leave the queue after a day or more, and are then known by their UID only", ErrUnknownJob, name.id)
	}
	last, ok, err := lastOutcome(ctx, tx, name.uid)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: no job has the UID %s", ErrUnknownJob, name.uid)
	}
	return &JobFinishedError{UID: name.uid, State: last.State, At: last.EndedAt, Gone: true}
}
