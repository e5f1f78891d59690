package claim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// Anybody writes rows of the queue, and a statement about many rows fails where one row
// cannot be what the statement makes of it. The reason may be a constraint or a trigger
// that somebody has added, or a unique key that two rows share in one state only.
//
// Then the rows are tried one by one, and the row to blame is set aside: it ends as
// bad_args, with the reason in its history, and the others go on. No row is to blame for an
// error that a plain row meets too.

// unwritable says of an error that it is the data's own: it will come again.
func unwritable(err error) bool {
	pgErr, misfit := (*pgconn.PgError)(nil), (*misfitError)(nil)
	return errors.As(err, &misfit) || errors.As(err, &pgErr) && (strings.HasPrefix(pgErr.Code, "22") || strings.HasPrefix(pgErr.Code, "23") || strings.HasPrefix(pgErr.Code, "54"))
}

// unfit says it of the end of an attempt, which a trigger may refuse too.
func unfit(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return unwritable(err) || errors.As(err, &pgErr) && pgErr.Code == "P0001" // a trigger's RAISE
}

// oddRow says of an error of a statement about rows that one of the rows may be the reason.
// That is any error of the server, but not one about the server itself, about locks or
// about others' transactions. Whether a row is the reason, a plain row tells (tryPlain).
func oddRow(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	if !errors.As(err, &pgErr) || pgErr.SeverityUnlocalized != "ERROR" {
		return unwritable(err)
	}
	return !slices.Contains([]string{"08", "25", "40", "53", "55", "57", "58", "XX"}, pgErr.Code[:2])
}

// plainRowSQL makes a row with nothing odd in it.
const plainRowSQL = `
INSERT INTO river_job (kind, args, max_attempts, state, queue, attempted_by, scheduled_at)
VALUES ('headgate.plain', '{}', 2, $1::text::river_job_state, $2, CASE $1 WHEN 'running' THEN ARRAY['plain:1'] END, now() - interval '1 second')
RETURNING id`

// tryPlain does with a plain row what has failed with others, and takes the plain row away
// again. If that fails too, the reason is no row's own.
func tryPlain(ctx context.Context, tx pgx.Tx, state, queue string, do func(tx pgx.Tx, id int64) error) error {
	inner, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = inner.Rollback(context.WithoutCancel(ctx)) }() // also where it could be done
	var id int64
	if err := inner.QueryRow(ctx, plainRowSQL, state, queue).Scan(&id); err != nil {
		return err
	}
	return do(inner, id)
}

// asideSQL ends a row without running it. Its unique key no longer counts, because in
// the state that it ends in another row may have the same.
const asideSQL = `
WITH ours AS MATERIALIZED (
    SELECT ` + ownSQL + `
), aside AS (
    UPDATE river_job SET state = 'cancelled', finalized_at = now(), unique_states = NULL FROM ours
    WHERE id = $1 AND state IN ('available', 'scheduled', 'retryable', 'running')
    RETURNING id, kind, attempt, created_at, metadata
), recorded AS (
    INSERT INTO headgate.outcomes (id, job_uid, job_id, tenant_id, kind, attempt, state, class, sqlstate, message, started_at, ended_at, schedule)
    SELECT gen_random_uuid(), headgate.job_uid(metadata, id, created_at), id, headgate.uuid_or_null(metadata->>'tenant'), kind, greatest(attempt, 0),
           'cancelled', 'bad_args', $2, $3, now(), now(), coalesce(left(metadata->>'schedule', 200), '')
    FROM aside
)
SELECT count(*) FROM aside`

// setAside ends a row that cannot be taken, moved or given back, and why.
func setAside(ctx context.Context, db querier, id int64, doing string, why error) error {
	code := ""
	if pgErr := (*pgconn.PgError)(nil); errors.As(why, &pgErr) {
		code = pgErr.Code
	}
	_, err := db.Exec(ctx, asideSQL, id, code, fmt.Sprintf("the job was not run, because its row cannot be %s: %s", doing, misfit(why)))
	if err != nil {
		return fmt.Errorf("setting job %d aside: %w", id, err)
	}
	return nil
}

// setAsideIn is setAside within a transaction, which goes on if that fails: the row then
// stays as it is, and the others are not kept waiting.
func setAsideIn(ctx context.Context, tx pgx.Tx, log *slog.Logger, id int64, doing string, why error) {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return setAside(ctx, tx, id, doing, why) })
	log.ErrorContext(ctx, "a row of the queue cannot be "+doing+"; it is set aside, and the others go on", "job_id", id, "error", errors.Join(why, err))
}

// misfit is an error of Postgres as a sentence that names what of the row is wrong.
func misfit(err error) string {
	pgErr := (*pgconn.PgError)(nil)
	if !errors.As(err, &pgErr) {
		return err.Error()
	}
	switch {
	case pgErr.ConstraintName == uniqueIndex:
		return "column unique_key is that of another row, and column unique_states does not let both be in this state"
	case pgErr.ColumnName != "":
		return fmt.Sprintf("column %s: %s", pgErr.ColumnName, pgErr.Message)
	}
	return pgErr.Message
}

// keyTaken says that another row has a row's unique key.
func keyTaken(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return errors.As(err, &pgErr) && pgErr.ConstraintName == uniqueIndex
}

// uniqueIndex is River's index of unique keys.
const uniqueIndex = "river_job_unique_idx"

// asideOdd finds those of the rows whose claim fails, in a transaction that is rolled
// back, and sets them aside. It returns how many there were.
func (c *claimer) asideOdd(ctx context.Context, ids []int64, params *riverdriver.JobGetAvailableParams) (aside int, err error) {
	odd := map[int64]error{}
	tx, err := c.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginSQL})
	if err != nil {
		return 0, fmt.Errorf("looking for the row that cannot be claimed: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // it was only to find out
	take := func(tx pgx.Tx, id int64) error {
		_, err := tx.Exec(ctx, takeSQL, []int64{id}, params.Now, params.ClientID, params.MaxAttemptedBy)
		return err
	}
	if tryPlain(ctx, tx, "available", c.queue, take) != nil {
		return 0, nil
	}
	for _, id := range ids {
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return take(tx, id) })
		switch {
		case oddRow(err):
			odd[id] = err
		case err != nil:
			return 0, fmt.Errorf("looking for the row that cannot be claimed: %w", err)
		}
	}
	if err := tx.Rollback(ctx); err != nil {
		return 0, fmt.Errorf("looking for the row that cannot be claimed: %w", err)
	}
	for id, why := range odd {
		if err := setAside(ctx, c.pool, id, "claimed", why); err != nil {
			c.leaveOut(id)
			why = errors.Join(why, err)
		}
		c.log.ErrorContext(ctx, "a row of the queue cannot be claimed; it is set aside, and the others go on", "job_id", id, "queue", c.queue, "error", why)
		aside++
	}
	return aside, nil
}

// leftOutMost bounds the rows that a process leaves out of its claims, because they can
// neither be claimed nor set aside. The first are tried again when there are more.
const leftOutMost = 1000

func (c *claimer) leaveOut(id int64) {
	if c.leftOut = append(c.leftOut, id); len(c.leftOut) > leftOutMost {
		c.leftOut = c.leftOut[1:]
	}
}

// without answers a claim that has failed: if a row was to blame that is set aside now,
// the next claim goes on without it, and this one has brought nothing.
func (c *claimer) without(ctx context.Context, params *riverdriver.JobGetAvailableParams, failed error) (*claimBatch, error) {
	if !oddRow(failed) || len(c.taking) == 0 {
		return nil, failed
	}
	aside, err := c.asideOdd(ctx, c.taking, params)
	if err != nil {
		return nil, errors.Join(failed, err)
	}
	if aside == 0 {
		return nil, failed
	}
	c.gate.waker.wake(c.queue)
	return &claimBatch{result: &riverdriver.JobGetAvailableResult{}}, nil
}

// unreadable is a row that was claimed and cannot be read.
type unreadable struct {
	row   *rivertype.JobRow // as far as it can be read
	token string
	why   error
}

// endUnreadable makes the end of such a row, which River fails without running it: no
// attempt can ever read it. What is kept of the row stays, because River hands the
// group over again if it could not be committed.
func (p *pilot) endUnreadable(e *end) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok := p.unreadable[e.id]
	if !ok {
		return
	}
	now := time.Now()
	meta, _ := wire.ReadMeta(u.row.Metadata, u.row.ID, u.row.CreatedAt)
	e.token, e.state, e.attempt, e.scheduledAt, e.finalizedAt = u.token, string(rivertype.JobStateCancelled), nil, nil, &now
	e.outcome = &jobs.Outcome{
		ID: uuid.Must(uuid.NewV7()).String(), JobUID: meta.UID, TenantID: meta.Tenant, Kind: u.row.Kind, Attempt: u.row.Attempt,
		State: jobs.Cancelled, Class: jobs.ClassBadArgs, Message: "the job was not run: " + u.why.Error(), StartedAt: now.UTC(), EndedAt: now.UTC(),
	}
}

// easeSQL takes the unique key of a running row out of the count: it may be in the way
// of the row's end.
const easeSQL = `
UPDATE river_job SET unique_states = NULL
WHERE id = $1 AND state = 'running' AND headgate.claim_token(attempted_by) = $2`

// endEach ends attempts one by one, because something in the group is not fit for the
// database, and the whole process would wait for that end for ever. The end to blame is
// written as well as can be. An end that cannot be written at all is left out: its row goes
// back when the keeper finds it unclaimed.
func (p *pilot) endEach(ctx context.Context, ends []end) (all map[int64]string, over []end, err error) {
	all = make(map[int64]string, len(ends))
	for _, e := range ends {
		done := []end{e}
		write := func(e end) (ended map[int64]string, err error) {
			if ended, err = p.endGroup(ctx, []end{e}); lockedOut(err) {
				ended, done, err = p.endApart(ctx, []end{e})
			}
			return ended, err
		}
		ended, err := endFit(ctx, p.pool, p.log, e, write)
		if err != nil {
			return nil, nil, err // River hands over the group again; what is done is not done twice
		}
		maps.Copy(all, ended)
		over = append(over, done...)
	}
	return all, over, nil
}

// endFit writes an end as it is. If that does not fit, it tries in turn: without the row's
// unique key, if the key is in the way; without the end's own metadata and texts; without
// the jobs that the attempt asked for, which its outcome then tells; without all of these
// and the outcome. Else it writes nothing.
func endFit(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, e end, write func(end) (map[int64]string, error)) (ended map[int64]string, err error) {
	ended, why := write(e)
	if !unfit(why) {
		return ended, why
	}
	log.ErrorContext(ctx, "the end of an attempt does not fit its row; it is written as far as it does", "job_id", e.id, "state", e.state, "error", why)
	bare := e.bare(why)
	alone := e
	alone.followUps = nil
	if len(e.followUps) > 0 && e.outcome != nil {
		o := *e.outcome
		o.Message = "it is done, but the jobs that it asked for cannot be stored: " + misfit(why)
		alone.outcome = &o
	}
	unrecorded := bare
	unrecorded.outcome, unrecorded.followUps = nil, nil
	ways := []end{bare, alone, unrecorded}
	if keyTaken(why) {
		if _, err := pool.Exec(ctx, easeSQL, e.id, e.token); err != nil {
			return nil, err
		}
		ways = slices.Insert(ways, 0, e)
	}
	for _, way := range ways {
		if ended, err = write(way); !unfit(err) {
			return ended, err
		}
	}
	log.ErrorContext(ctx, "the end of an attempt cannot be stored; its job goes back later", "job_id", e.id, "state", e.state, "error", err)
	return nil, nil
}

// bare is the end without anything that only tells about it. Its outcome stays,
// without its texts: it is how a completed job's UID is found.
func (e end) bare(why error) end {
	e.metadata = nil
	if e.err != nil {
		text, _ := json.Marshal(map[string]any{"at": time.Now(), "error": "the error's own text could not be stored: " + why.Error()}) // never fails
		e.err = ptr(string(text))
	}
	if e.outcome != nil {
		o := *e.outcome
		o.Message, o.Trace, o.SQLState, o.Result.Output = "its details could not be stored: "+why.Error(), "", "", ""
		e.outcome = &o
	}
	return e
}
