package claim

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// What a handler has logged is written in the transaction of its attempt's end, and only if
// that end is recorded: an attempt that has lost its lease leaves no lines. A group without
// lines pays nothing. Lines that cannot be written are given up, and never hold up an end.

// boundLogsSQL gives the statement behind it more time than an end has, because a janitor
// may be dropping an old day.
const boundLogsSQL = `SELECT set_config('lock_timeout', '2s', true)`

// insertLogsSQL writes the lines of a group. A group that is handed over again, because the
// reply to its commit was lost, finds its lines there.
const insertLogsSQL = `
INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[], $5::text[])
ON CONFLICT DO NOTHING`

// insertLogs writes the lines of those ends that were recorded.
func insertLogs(ctx context.Context, tx pgx.Tx, log *slog.Logger, ends []end, ended map[int64]string) error {
	var ids, uids []pgtype.UUID
	var attempts []int
	var at []time.Time
	var lines []string
	for _, e := range ends {
		if _, recorded := ended[e.id]; !recorded || e.log == "" || e.outcome == nil {
			continue
		}
		id, wrongID := uuid.Parse(e.outcome.ID)
		uid, wrongUID := uuid.Parse(e.outcome.JobUID)
		if wrongID != nil || wrongUID != nil {
			continue // its outcome does not fit either
		}
		ids, uids = append(ids, pgtype.UUID{Bytes: id, Valid: true}), append(uids, pgtype.UUID{Bytes: uid, Valid: true})
		attempts, at, lines = append(attempts, e.outcome.Attempt), append(at, e.outcome.EndedAt), append(lines, e.log)
	}
	if len(ids) == 0 {
		return nil
	}
	inner, err := tx.Begin(ctx) // a savepoint: the ends stand without the lines
	if err != nil {
		return fmt.Errorf("writing what %d attempts have logged: %w", len(ids), err)
	}
	batch := &pgx.Batch{}
	batch.Queue(boundLogsSQL)
	batch.Queue(insertLogsSQL, ids, uids, attempts, at, lines)
	if err := inner.SendBatch(ctx, batch).Close(); err != nil {
		log.ErrorContext(ctx, "what jobs have logged could not be written; their ends are, without the lines", "attempts", len(ids), "error", err)
		if err := inner.Rollback(ctx); err != nil {
			return fmt.Errorf("writing what %d attempts have logged: %w", len(ids), err)
		}
		return nil
	}
	if err := inner.Commit(ctx); err != nil {
		return fmt.Errorf("writing what %d attempts have logged: %w", len(ids), err)
	}
	return nil
}
