package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
	settled                  bool      // its ledger need not be asked what has become of it
	token                    string    // of its last claim
	now                      time.Time // by the database's clock, when it was read
}

// rowMeta is the metadata of a row, River's part included.
type rowMeta struct {
	wire.Meta
	CancelAttemptedAt *time.Time
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

const lockRowSQL = rowColumns + `WHERE id = (` + selectIDOfUID + `) FOR UPDATE`

// lockRow finds a job by its UID, for a change. The error matches jobs.ErrUnknownJob, or is
// a *jobs.JobFinishedError if the row has left the queue and the history knows how the job
// ended.
func (q *Queue) lockRow(ctx context.Context, tx pgx.Tx, uid string) (row, error) {
	uid, err := parseUID(uid)
	if err != nil {
		return row{}, err
	}
	if _, err := migrations.Queue(ctx, tx); err != nil { // the caller's session, which may be anybody's
		return row{}, err
	}
	rows, err := tx.Query(ctx, lockRowSQL, uid)
	if err != nil {
		return row{}, fmt.Errorf("reading job %s: %w", uid, err)
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRow)
	if errors.Is(err, pgx.ErrNoRows) {
		return row{}, goneOrUnknown(ctx, tx, uid)
	}
	if err != nil {
		return row{}, fmt.Errorf("reading job %s: %w", uid, err)
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

// parseUID reads a job's UID: the 36 characters of a UUID, as they are, in braces or
// behind urn:uuid:.
func parseUID(text string) (string, error) {
	plain := strings.TrimPrefix(text, "urn:uuid:")
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		plain = text[1 : len(text)-1]
	}
	uid, ok := fit.UUID(plain)
	if !ok {
		return "", jobs.Inputf("job", text, "give the job's UID, 8-4-4-4-12 hexadecimal digits, which enqueueing returns and `headgate job list` shows")
	}
	return uid.String(), nil
}

// finished returns nil while the job may still run.
func (r *row) finished() *jobs.JobFinishedError {
	if r.finalizedAt == nil {
		return nil
	}
	return &jobs.JobFinishedError{UID: r.uid, State: r.state, At: *r.finalizedAt}
}

// goneOrUnknown is the error for a job without a row.
func goneOrUnknown(ctx context.Context, tx pgx.Tx, uid string) error {
	last, ok, err := lastOutcome(ctx, tx, uid)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%w: no job has the UID %s", jobs.ErrUnknownJob, uid)
	}
	return &jobs.JobFinishedError{UID: uid, State: last.State, At: last.EndedAt, Gone: true}
}
