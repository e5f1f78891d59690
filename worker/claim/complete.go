package claim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// end is what becomes of one running row. nil leaves a column as it is.
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
	outcome     *jobs.Outcome // for the history; nil: none
	followUps   []FollowUp
	log         string // what its handler has logged (joblogs.go)
	settling    bool   // if it is cancelled it goes back, to be settled
}

// querier is a pool, where each statement commits by itself, or what stands for a
// transaction.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// endAttempts ends a group of attempts, writes their outcomes and inserts the jobs that
// they asked for. It returns the states of the rows that were the callers' own. It waits
// for a locked row as long as lockWait says, a setting of Postgres; "" leaves the
// transaction's own.
//
// Mostly that is one statement. Further statements are for jobs that have asked for others,
// which takes a transaction, and for rows that were ended before. The statement for these
// must come second, because its own snapshot must see what the first has waited for. If the
// second fails and the first has committed, the repeated group finds all its rows ended
// before.
func endAttempts(ctx context.Context, db querier, ends []end, lockWait string) (map[int64]string, error) {
	ended, err := updateEnded(ctx, db, endSQL, ends, lockWait)
	if err != nil {
		return nil, err
	}
	if err := insertFollowUps(ctx, db, ends, ended); err != nil || len(ended) == len(ends) {
		return ended, err
	}
	rest := slices.DeleteFunc(slices.Clone(ends), func(e end) bool { _, ok := ended[e.id]; return ok })
	before, err := updateEnded(ctx, db, endedBeforeSQL, rest, lockWait)
	maps.Copy(ended, before)
	return ended, err
}

// endColumns are the parameters of both statements, as updateEnded gives them. An array may
// be shorter than the others, and reads as NULL from there on: of a column that has one
// value for all rows, this value alone is sent.
const endColumns = `
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::jsonb[], $6::timestamptz[], $7::timestamptz[], $8::jsonb[], $9::boolean[],
                $10::uuid[], $11::uuid[], $12::uuid[], $13::uuid[], $14::int[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
                $20::boolean[], $21::timestamptz[], $22::timestamptz[], $23::bigint[], $24::text[], $25::text[], $26::text[], $27::text[])
         AS e (id, token, state, attempt, err, finalized_at, scheduled_at, metadata, settling,
               outcome, job_uid, tenant_id, database_id, tried, outcome_state, class, sqlstate, message, trace,
               recovered, started_at, ended_at, rows, output, schedule, worker, features)`

// A statement that ends rows whose last attempt was Headgate's joins ownSQL. In a transaction
// of somebody else's, notOwnSQL must follow.
const ownSQL = wire.OwnEnds

// notOwnSQL takes back what ownSQL has said. It is a statement behind the end's, because the
// triggers' conditions are read while that one changes rows.
const notOwnSQL = `SELECT set_config('headgate.writer', '', true)`

// boundSQL bounds the statement's waits for locks, if $28 says so. It is part of both
// statements, which are transactions of their own, because setting the bound before would
// take a round trip.
const boundSQL = `bound AS MATERIALIZED (
    SELECT set_config('lock_timeout', coalesce(nullif($28::text, ''), current_setting('lock_timeout')), true) AS wait, ` + ownSQL + ` AS own`

// recordedSQL writes the outcomes of ended rows.
const recordedSQL = `), recorded AS (
    INSERT INTO headgate.outcomes
        (id, job_uid, job_id, tenant_id, database_id, kind, attempt,
         state, class, sqlstate, message, trace, recovered,
         started_at, ended_at, rows, output, schedule, worker, features)
    SELECT outcome, job_uid, id, tenant_id, database_id, kind, coalesce(tried, ($14::int[])[1]),
         CASE WHEN new_state = 'cancelled' AND coalesce(outcome_state, ($15::text[])[1]) IN ('failed', 'snoozed') THEN 'cancelled'
              ELSE coalesce(outcome_state, ($15::text[])[1]) END,
         coalesce(class, ($16::text[])[1]), coalesce(sqlstate, ($17::text[])[1]), coalesce(message, ($18::text[])[1]),
         coalesce(trace, ($19::text[])[1]), coalesce(recovered, ($20::boolean[])[1]),
         started_at, ended_at, coalesce(rows, ($23::bigint[])[1]), coalesce(output, ($24::text[])[1]),
         coalesce(schedule, ($25::text[])[1]), coalesce(worker, ($26::text[])[1]),
         nullif(coalesce(features, ($27::text[])[1]), '')::jsonb
    FROM ended WHERE outcome IS NOT NULL`

// endSQL is the fenced completion. It finds each row by primary key and changes the row
// only while it is running under the end's token; a zombie's token is not the row's last
// any more. The state is compared as text, which no partial index serves. Beside an old
// snapshot the partial index of running rows is full of dead entries that stay.
//
// An outcome is written only with its row. An attempt that lost its lease leaves none,
// because the history would then tell of the attempt twice. An attempt that has ended
// without a death clears its suspicion.
//
// This process's clock has computed when a job is to run again. The distance from the
// process's present time ($30) is what counts, from the database's present time.
//
// Errors that are not a plain list begin anew: nothing can be appended to them.
//
// A job that somebody asked to cancel while it ran ends as cancelled instead of being tried
// again, as in River's own statement, if no attempt at the job can be open. Else the job
// goes back within seconds, and its tenant's ledger settles it.
const endSQL = `
WITH ` + boundSQL + `), e AS (
    SELECT *, coalesce(state, ($3::text[])[1]) AS next, coalesce(settling, ($9::boolean[])[1]) AS open,
           coalesce(state, ($3::text[])[1]) IN ('available', 'retryable', 'scheduled') AND NOT coalesce(settling, ($9::boolean[])[1]) AS again` + endColumns + `
), ended AS (
    UPDATE river_job j
    SET state = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN 'cancelled'
                     WHEN e.open AND e.next IN ('retryable', 'scheduled') AND j.metadata ? 'cancel_attempted_at' THEN 'available'
                     ELSE e.next::river_job_state END,
        attempt = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN j.attempt ELSE coalesce(e.attempt, j.attempt) END,
        errors = CASE WHEN e.err IS NULL THEN j.errors WHEN array_ndims(j.errors) = 1 THEN array_append(j.errors, e.err) ELSE ARRAY[e.err] END,
        finalized_at = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN coalesce($29::timestamptz, now())
                            ELSE coalesce(e.finalized_at, j.finalized_at) END,
        scheduled_at = CASE WHEN e.again AND j.metadata ? 'cancel_attempted_at' THEN j.scheduled_at
                            WHEN e.open AND j.metadata ? 'cancel_attempted_at' THEN now() + least(e.scheduled_at - $30::timestamptz, interval '5 s')
                            ELSE coalesce(now() + (e.scheduled_at - $30::timestamptz), j.scheduled_at) END,
        metadata = CASE WHEN e.metadata IS NULL THEN j.metadata ELSE j.metadata || e.metadata END
    FROM bound, e
    WHERE j.id = e.id AND j.state::text = 'running' AND headgate.claim_token(j.attempted_by) = e.token
    RETURNING j.state::text AS new_state, j.kind, e.*
` + recordedSQL + `
), cleared AS (
    DELETE FROM headgate.suspects s USING ended WHERE s.job_id = ended.id AND s.quarantined_at IS NULL
)
SELECT id, new_state FROM ended`

// endedBeforeSQL answers for rows that this token has ended before, by JobCompleteTx or by
// this same group, whose reply was lost. Of the end it takes the metadata, and the outcome
// if the history does not have it yet.
const endedBeforeSQL = `
WITH ` + boundSQL + `), ended AS (
    UPDATE river_job j
    SET metadata = j.metadata || coalesce(e.metadata, '{}')
    FROM bound, (SELECT *` + endColumns + `) e
    WHERE j.id = e.id AND j.state <> 'running' AND headgate.claim_token(j.attempted_by) = e.token
    RETURNING j.state::text AS new_state, j.kind, e.*
` + recordedSQL + `
    ON CONFLICT DO NOTHING
)
SELECT id, new_state FROM ended`

// updateEnded runs one of the two and returns the states of the rows that it has
// found.
func updateEnded(ctx context.Context, db querier, sql string, ends []end, lockWait string) (map[int64]string, error) {
	ended := make(map[int64]string, len(ends))
	if len(ends) == 0 {
		return ended, nil
	}
	args := []any{
		column(ends, func(e end) int64 { return e.id }),
		column(ends, func(e end) string { return e.token }),
		shared(ends, func(e end) string { return e.state }),
		optional(ends, func(e end) *int { return e.attempt }),
		optional(ends, func(e end) *string { return e.err }),
		optional(ends, func(e end) *time.Time { return e.finalizedAt }),
		optional(ends, func(e end) *time.Time { return e.scheduledAt }),
		optional(ends, func(e end) *string { return e.metadata }),
		shared(ends, func(e end) bool { return e.settling }),
	}
	outcomes, err := outcomeColumns(ends)
	if err != nil {
		return nil, err
	}
	args = append(append(args, outcomes...), lockWait)
	if sql == endSQL {
		args = append(args, ends[0].now, time.Now())
	}
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("ending %s: %w", jobs.Count(len(ends), "attempt"), err)
	}
	var id int64
	var state string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state}, func() error { ended[id] = state; return nil }); err != nil {
		return nil, fmt.Errorf("ending %s: %w", jobs.Count(len(ends), "attempt"), err)
	}
	return ended, nil
}
