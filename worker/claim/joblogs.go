package claim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/headgate/headgate/jobs"
)

// What a handler has logged is written in the transaction of its attempt's end, and only if
// that end is recorded: an attempt that has lost its lease leaves no lines. A group without
// lines pays nothing. Lines that cannot be written are given up, and never hold up an end.

// boundLogsSQL gives the statement behind it more time than an end has, because a janitor
// may be dropping an old day. Once somebody has held the table for longer, later groups wait
// hardly at all for a while, so that no end is held up again and again.
const boundLogsSQL = `SELECT set_config('lock_timeout', $1, true)`

const (
	logsLockWait    = "2s"
	logsLockedWait  = "20ms"
	logsLockedAfter = 30 * time.Second
)

// insertLogsSQL writes the lines of a group. A group that is handed over again, because the
// reply to its commit was lost, finds its lines there.
const insertLogsSQL = `
INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::text[])
ON CONFLICT DO NOTHING`

// logRow is what one attempt has logged.
type logRow struct {
	id, uid pgtype.UUID
	attempt int
	at      time.Time
	lines   string
}

// logsWithin bounds how long an end waits while lines that do not fit are told from others.
const logsWithin = time.Second

// insertLogs writes the lines of those ends that were recorded. What cannot be written is
// told of and given up.
func (l *Lease) insertLogs(ctx context.Context, tx pgx.Tx, log *slog.Logger, ends []end, ended map[int64]string) error {
	rows := logRows(ends, ended)
	if len(rows) == 0 {
		return nil
	}
	now := time.Now()
	w := logWriter{tx: tx, until: now.Add(logsWithin), wait: logsLockWait}
	if now.UnixNano() < l.logsLocked.Load() {
		w.wait = logsLockedWait
	}
	if err := w.write(ctx, rows); err != nil {
		return fmt.Errorf("writing what %s have logged: %w", jobs.Count(len(rows), "attempt"), err)
	}
	if lockedOut(w.why) {
		l.logsLocked.Store(now.Add(logsLockedAfter).UnixNano())
	}
	if w.lost > 0 {
		log.ErrorContext(ctx, "what jobs have logged could not be written; their ends are, without the lines", "attempts", w.lost, "of", len(rows), "error", w.why)
	}
	return nil
}

func logRows(ends []end, ended map[int64]string) (rows []logRow) {
	for _, e := range ends {
		if _, recorded := ended[e.id]; !recorded || e.log == "" || e.outcome == nil {
			continue
		}
		id, wrongID := uuid.Parse(e.outcome.ID)
		uid, wrongUID := uuid.Parse(e.outcome.JobUID)
		if wrongID != nil || wrongUID != nil {
			continue // its outcome does not fit either
		}
		rows = append(rows, logRow{pgtype.UUID{Bytes: id, Valid: true}, pgtype.UUID{Bytes: uid, Valid: true}, e.outcome.Attempt, e.outcome.EndedAt, e.log})
	}
	return rows
}

// logWriter writes lines in the transaction of their ends.
type logWriter struct {
	tx    pgx.Tx
	until time.Time // nothing is tried again after it
	wait  string    // for a lock

	lost int   // attempts whose lines were given up
	why  error // the first reason
}

// write writes rows together. Where one of them does not fit, each half is tried by itself,
// and so on, so that one row takes none of the others' lines. Its error is of the transaction.
func (w *logWriter) write(ctx context.Context, rows []logRow) error {
	failed, err := w.try(ctx, rows)
	switch {
	case err != nil || failed == nil:
		return err
	case len(rows) > 1 && oddRow(failed) && !undefined(failed) && time.Now().Before(w.until):
		half := len(rows) / 2
		if err := w.write(ctx, rows[:half]); err != nil {
			return err
		}
		return w.write(ctx, rows[half:])
	}
	w.lost += len(rows)
	if w.why == nil {
		w.why = failed
	}
	return nil
}

// try writes rows, all or none: failed says why none.
func (w *logWriter) try(ctx context.Context, rows []logRow) (failed, err error) {
	inner, err := w.tx.Begin(ctx) // a savepoint: the ends stand without the lines
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(boundLogsSQL, w.wait)
	batch.Queue(insertLogsSQL, column(rows, func(r logRow) pgtype.UUID { return r.id }), column(rows, func(r logRow) pgtype.UUID { return r.uid }),
		column(rows, func(r logRow) int { return r.attempt }), column(rows, func(r logRow) time.Time { return r.at }), column(rows, func(r logRow) string { return r.lines }))
	if failed := inner.SendBatch(ctx, batch).Close(); failed != nil {
		return failed, inner.Rollback(ctx)
	}
	return nil, inner.Commit(ctx)
}

// undefined says that the table, or the right to it, is missing, whatever the rows are.
func undefined(err error) bool {
	pgErr := (*pgconn.PgError)(nil)
	return errors.As(err, &pgErr) && pgErr.Code[:2] == "42"
}
