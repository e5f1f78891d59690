package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
)

// The history is kept by month, and each month has an index of UIDs. A UID tells no
// time, so every month is asked: as many probes as the history has months.
const attemptsOf = `
SELECT id::text, job_uid::text, coalesce(tenant_id::text, ''), coalesce(database_id::text, ''), kind, attempt, state, class,
       sqlstate, message, trace, recovered, started_at, ended_at, rows, output, schedule, worker, features
FROM headgate.outcomes WHERE job_uid = $1 `

const (
	selectAttempts = attemptsOf + `AND (ended_at, outcomes.id) > ($2, $3::uuid) ORDER BY ended_at, outcomes.id LIMIT $4`
	lastAttempts   = attemptsOf + `ORDER BY ended_at DESC, outcomes.id DESC LIMIT $2`
)

func scanAttempt(row pgx.CollectableRow) (o jobs.Outcome, err error) {
	err = row.Scan(&o.ID, &o.JobUID, &o.TenantID, &o.DatabaseID, &o.Kind, &o.Attempt, &o.State, &o.Class,
		&o.SQLState, &o.Message, &o.Trace, &o.Recovered, &o.StartedAt, &o.EndedAt, &o.Result.Rows, &o.Result.Output, &o.Schedule, &o.Worker, &o.Features)
	return o, err
}

// Attempts returns ended attempts of a job from the history (see orchestrator.Client).
func (q *Queue) Attempts(ctx context.Context, uid string, page jobs.Page) (list []jobs.Outcome, next string, err error) {
	uid, err = parseUID(uid)
	if err != nil {
		return nil, "", err
	}
	limit, err := page.Size(100, 1000)
	if err != nil {
		return nil, "", fmt.Errorf("listing attempts: %w", err)
	}
	var ended time.Time // before all
	var id uuid.UUID
	if page.After != "" {
		at, text, ok := fit.ReadPlace(page.After)
		uid, is := fit.UUID(text)
		if !ok || !is {
			return nil, "", fmt.Errorf("listing attempts: %w", page.Unknown())
		}
		ended, id = at, uid
	}
	rows, err := q.pool.Query(ctx, selectAttempts, uid, ended, id, limit+1)
	if err == nil {
		list, err = pgx.CollectRows(rows, scanAttempt)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the attempts of job %s: %w", uid, err)
	}
	list, next = jobs.CutPage(list, limit, func(o jobs.Outcome) string { return fit.Place(o.EndedAt, o.ID) })
	return list, next, nil
}

// mostAttempts is how many attempts stand in a jobs.Record.
const mostAttempts = 100

// last are the last attempts of a job, oldest first, and whether there are earlier ones.
func (q *Queue) last(ctx context.Context, uid string) (list []jobs.Outcome, earlier bool, err error) {
	rows, err := q.pool.Query(ctx, lastAttempts, uid, mostAttempts+1)
	if err == nil {
		list, err = pgx.CollectRows(rows, scanAttempt)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the attempts of job %s: %w", uid, err)
	}
	if earlier = len(list) > mostAttempts; earlier {
		list = list[:mostAttempts]
	}
	slices.Reverse(list)
	return list, earlier, nil
}

const selectLastOutcome = `
SELECT state, class, message, ended_at FROM headgate.outcomes
WHERE job_uid = $1 ORDER BY ended_at DESC, id DESC LIMIT 1`

// lastOutcome returns what is known of a job's last attempt; ok is false if
// there is none.
func lastOutcome(ctx context.Context, tx pgx.Tx, uid string) (last jobs.Outcome, ok bool, err error) {
	err = tx.QueryRow(ctx, selectLastOutcome, uid).Scan(&last.State, &last.Class, &last.Message, &last.EndedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return last, false, nil
	}
	if err != nil {
		return last, false, fmt.Errorf("reading the last attempt of job %s: %w", uid, err)
	}
	return last, true, nil
}
