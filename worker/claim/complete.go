package claim

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// end is what becomes of one running row: nil leaves a column as it is.
type end struct {
	id          int64
	token       string // of the claim that the row must still be running under
	state       string
	attempt     *int
	err         *string // JSON, appended to the row's errors
	finalizedAt *time.Time
	scheduledAt *time.Time
	metadata    *string // JSON, merged into the row's metadata
	now         *time.Time
	followUps   []FollowUp
	settling    bool // a cancelled job that is not settled yet goes back all the same
}

// bare is the end without anything that only tells about it.
func (e end) bare(why error) end {
	e.metadata = nil
	if e.err != nil {
		text, _ := json.Marshal(map[string]any{"at": time.Now(), "error": "the error's own text could not be stored: " + why.Error()}) // never fails
		e.err = ptr(string(text))
	}
	return e
}

// endAttempts ends a group of attempts, writes their outcomes and inserts the
// jobs that they asked for, in tx, and returns the states of the rows that were the callers' own. An outcome is
// written only with its row: an attempt that lost its lease leaves none, for
// the history would then tell of it twice. One that would be tried again, and
// was cancelled meanwhile, is the job's last.
func endAttempts(ctx context.Context, tx pgx.Tx, ends []end, outcomes []jobs.Outcome) (map[int64]string, error) {
	ended, fresh, err := updateEnded(ctx, tx, ends)
	if err != nil {
		return nil, err
	}
	if err := insertFollowUps(ctx, tx, ends, fresh); err != nil {
		return nil, err
	}
	owned := outcomes[:0:0]
	for _, o := range outcomes {
		state, ok := ended[o.JobID]
		if !ok {
			continue
		}
		if state == "cancelled" && (o.State == jobs.Failed || o.State == jobs.Snoozed) {
			o.State = jobs.Cancelled
		}
		owned = append(owned, o)
	}
	if len(owned) == 0 {
		return ended, nil
	}
	return ended, insertOutcomes(ctx, tx, owned)
}

// endSQL is the fenced completion. It finds each row by primary key and changes
// it only while it is running under the token in hand; a zombie's token is not
// the row's last any more. The second part answers for rows that this token has
// ended before, by JobCompleteTx or by this same group, whose reply was lost; of
// the end it takes the metadata alone. An attempt that has ended without a death
// clears its suspicion.
//
// When a job is to run again was computed by this process's clock; the distance
// from its present time ($11) is what counts, from the database's.
//
// A job that somebody asked to cancel while it ran ends as cancelled instead of
// being tried again, as in River's own statement.
const endSQL = `
WITH e AS (
    SELECT *, state IN ('available', 'retryable', 'scheduled') AND NOT settling AS again
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::jsonb[], $6::timestamptz[], $7::timestamptz[], $8::jsonb[], $10::boolean[])
         AS e (id, token, state, attempt, err, finalized_at, scheduled_at, metadata, settling)
), ended AS (
    UPDATE river_job j
    SET state = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN 'cancelled' ELSE e.state::river_job_state END,
        attempt = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN j.attempt ELSE coalesce(e.attempt, j.attempt) END,
        errors = CASE WHEN e.err IS NULL THEN j.errors ELSE array_append(j.errors, e.err) END,
        finalized_at = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN coalesce($9::timestamptz, now())
                            ELSE coalesce(e.finalized_at, j.finalized_at) END,
        scheduled_at = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN j.scheduled_at
                            ELSE coalesce(now() + (e.scheduled_at - $11::timestamptz), j.scheduled_at) END,
        metadata = CASE WHEN e.metadata IS NULL THEN j.metadata ELSE j.metadata || e.metadata END
    FROM e
    WHERE j.id = e.id AND j.state = 'running' AND j.attempted_by[array_upper(j.attempted_by, 1)] = e.token
    RETURNING j.id, j.state::text
), before AS (
    UPDATE river_job j
    SET metadata = j.metadata || coalesce(e.metadata, '{}')
    FROM e
    WHERE j.id = e.id AND j.state <> 'running' AND j.attempted_by[array_upper(j.attempted_by, 1)] = e.token
    RETURNING j.id, j.state::text
), survived AS (
    DELETE FROM headgate.suspects s USING ended WHERE s.job_id = ended.id AND s.quarantined_at IS NULL
)
SELECT id, state, true AS fresh FROM ended
UNION ALL
SELECT id, state, false FROM before`

// updateEnded returns the states of the callers' own rows, and which of them
// this very statement has ended.
func updateEnded(ctx context.Context, tx pgx.Tx, ends []end) (ended map[int64]string, fresh map[int64]bool, err error) {
	var now *time.Time
	if len(ends) > 0 {
		now = ends[0].now
	}
	rows, err := tx.Query(ctx, endSQL,
		column(ends, func(e end) int64 { return e.id }),
		column(ends, func(e end) string { return e.token }),
		column(ends, func(e end) string { return e.state }),
		column(ends, func(e end) *int { return e.attempt }),
		column(ends, func(e end) *string { return e.err }),
		column(ends, func(e end) *time.Time { return e.finalizedAt }),
		column(ends, func(e end) *time.Time { return e.scheduledAt }),
		column(ends, func(e end) *string { return e.metadata }),
		now, column(ends, func(e end) bool { return e.settling }), time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("ending %d attempts: %w", len(ends), err)
	}
	ended, fresh = make(map[int64]string, len(ends)), make(map[int64]bool, len(ends))
	var id int64
	var state string
	var justNow bool
	_, err = pgx.ForEachRow(rows, []any{&id, &state, &justNow}, func() error {
		ended[id], fresh[id] = state, justNow
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("ending %d attempts: %w", len(ends), err)
	}
	return ended, fresh, nil
}
