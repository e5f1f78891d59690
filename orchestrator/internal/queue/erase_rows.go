package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// eraseBatch is how many rows one transaction clears.
const eraseBatch = 1000

const reportFilesSQL = `
SELECT o.id, o.ended_at, o.output FROM headgate.outcomes o
WHERE o.tenant_id = $1 AND o.ended_at <= coalesce($2::timestamptz, 'infinity') AND (o.ended_at, o.id) < (coalesce($2::timestamptz, 'infinity'), $3::uuid) AND o.kind = $4 AND o.output <> ''
ORDER BY o.ended_at DESC, o.id DESC LIMIT $5`

// reportKind is the one built-in kind that makes files. Its output is a file's key.
const reportKind = "headgate.report"

type reportFile struct {
	ID      uuid.UUID
	EndedAt time.Time
	Key     string
}

// ReportFiles hands the keys of a tenant's reports to remove, page by page, newest first. It
// returns how many files stay.
func (q *Queue) ReportFiles(ctx context.Context, tenant string, remove func(ctx context.Context, keys []string) (stay int, err error)) (stay int, err error) {
	var before *time.Time
	for id := uuid.Max; ; {
		rows, _ := q.pool.Query(ctx, reportFilesSQL, tenant, before, id, reportKind, eraseBatch) // its error is CollectRows' too
		page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[reportFile])
		if err != nil {
			return stay, fmt.Errorf("listing the reports of tenant %s: %w", tenant, err)
		}
		keys := make([]string, len(page))
		for i, f := range page {
			keys[i] = f.Key
		}
		if len(keys) > 0 {
			some, err := remove(ctx, keys)
			if stay += some; err != nil {
				return stay, err
			}
		}
		if len(page) < eraseBatch {
			return stay, nil
		}
		before, id = &page[len(page)-1].EndedAt, page[len(page)-1].ID
	}
}

const eraseHistorySQL = `SELECT * FROM headgate.erase_history($1, coalesce($2::timestamptz, 'infinity'), $3, $4, $5)`

// EraseHistory clears what the history keeps of a tenant's jobs, and returns how many
// outcomes it has looked at. keepFiles leaves the keys of report files.
func (q *Queue) EraseHistory(ctx context.Context, tenant string, keepFiles bool) (n int64, err error) {
	var before *time.Time
	var passed int64
	for id := uuid.Max; ; {
		var looked, locked int64
		var last *uuid.UUID
		err := central.Write(ctx, q.pool, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, eraseHistorySQL, tenant, before, id, eraseBatch, keepFiles).Scan(&looked, &locked, &before, &last)
		})
		if err != nil {
			return n, fmt.Errorf("clearing the history of tenant %s: %w", tenant, err)
		}
		n, passed = n+looked, passed+locked
		if looked < eraseBatch {
			break
		}
		id = *last
	}
	if passed > 0 {
		return n, fmt.Errorf("clearing the history of tenant %s: %s locked by other sessions of the central database", tenant, jobs.CountVerb(passed, "outcome", "is", "are"))
	}
	return n, nil
}

// eraseJobsSQL walks through the queue by number, and deletes the ended rows of a tenant:
// rows that have ended have no index by tenant, because that would cost each job.
const eraseJobsSQL = `
WITH page AS MATERIALIZED (SELECT id FROM river_job WHERE id > $2 ORDER BY id LIMIT $3),
mine AS MATERIALIZED (
    SELECT j.id FROM river_job j JOIN page p ON p.id = j.id WHERE headgate.lane(j.metadata) = $1 AND j.finalized_at IS NOT NULL
), free AS MATERIALIZED (
    SELECT j.id FROM river_job j JOIN mine m ON m.id = j.id WHERE j.finalized_at IS NOT NULL FOR UPDATE OF j SKIP LOCKED
), gone AS (
    DELETE FROM river_job j USING free f WHERE j.id = f.id AND j.finalized_at IS NOT NULL RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM mine) - (SELECT count(*) FROM free), (SELECT max(id) FROM page)`

// EraseJobs deletes the rows of a tenant's jobs that have ended from the queue.
func (q *Queue) EraseJobs(ctx context.Context, tenant string) (n int64, err error) {
	const page = 10 * eraseBatch
	var passed int64
	for last := int64(BeforeAll); ; {
		var gone, locked int64
		var next *int64
		err := central.Write(ctx, q.pool, func(tx pgx.Tx) error {
			return tx.QueryRow(ctx, eraseJobsSQL, tenant, last, page).Scan(&gone, &locked, &next)
		})
		if err != nil {
			return n, fmt.Errorf("deleting the ended jobs of tenant %s: %w", tenant, err)
		}
		n, passed = n+gone, passed+locked
		if next == nil {
			break
		}
		last = *next
	}
	if passed > 0 {
		return n, fmt.Errorf("deleting the ended jobs of tenant %s: %s locked by other sessions of the central database", tenant, jobs.CountVerb(passed, "row", "is", "are"))
	}
	return n, nil
}

const eraseKeysSQL = `
DELETE FROM headgate.idempotency_keys WHERE (scope, key) IN (SELECT scope, key FROM headgate.idempotency_keys WHERE scope = $1 LIMIT $2)`

// EraseKeys deletes a tenant's idempotency keys.
func (q *Queue) EraseKeys(ctx context.Context, tenant string) (n int64, err error) {
	for {
		var gone int64
		err := central.Write(ctx, q.pool, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, eraseKeysSQL, tenant, eraseBatch)
			gone = tag.RowsAffected()
			return err
		})
		if err != nil {
			return n, fmt.Errorf("deleting the idempotency keys of tenant %s: %w", tenant, err)
		}
		if n += gone; gone < eraseBatch {
			return n, nil
		}
	}
}
