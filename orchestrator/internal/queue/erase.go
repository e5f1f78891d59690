package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// unfinishedSQL counts the jobs of a tenant that have not ended, up to 1000, and names one, and
// one that another client holds back, which nothing but somebody's command ends. It goes by
// the indexes of waiting rows by queue and lane, of later rows by lane, and of states.
const unfinishedSQL = `
WITH q AS MATERIALIZED (SELECT * FROM headgate.waiting_queues() AS w (name)),
unfinished AS (
    SELECT j.id, j.metadata, j.created_at, j.state FROM q JOIN river_job j ON j.queue = q.name AND headgate.lane(j.metadata) = $1 AND j.state = 'available'
    UNION ALL
    SELECT j.id, j.metadata, j.created_at, j.state FROM river_job j WHERE headgate.lane(j.metadata) = $1 AND j.state IN ('scheduled', 'retryable')
    UNION ALL
    SELECT j.id, j.metadata, j.created_at, j.state FROM river_job j WHERE headgate.lane(j.metadata) = $1 AND j.state IN ('running', 'pending')
)
SELECT count(*), coalesce(min(headgate.job_uid(metadata, id, created_at)::text), ''),
       coalesce(min(headgate.job_uid(metadata, id, created_at)::text) FILTER (WHERE state = 'pending'), '') FROM (SELECT * FROM unfinished LIMIT 1000) u`

// lockErasureSQL has requests for one tenant follow each other.
const lockErasureSQL = `SELECT status FROM headgate.tenants WHERE id = $1 FOR NO KEY UPDATE`

const selectErasureSQL = `
SELECT t.id::text, t.org_id, t.name, coalesce(d.name, ''), e.job_uid::text, e.asked_at, e.asked_by, e.reason, e.done_at, e.rows, headgate.is_unfinished(e.job_uid)
FROM headgate.erasures e
JOIN headgate.tenants t ON t.id = e.tenant_id
LEFT JOIN headgate.databases d ON d.id = t.database_id
WHERE e.tenant_id = $1`

// Erasure returns the erasure of a tenant; the zero value says that nobody has asked for one.
func (q *Queue) Erasure(ctx context.Context, tenant string) (e jobs.Erasure, err error) {
	err = central.Read(ctx, q.pool, func(tx pgx.Tx) error {
		e, _, err = q.erasure(ctx, tx, tenant)
		return err
	})
	return e, err
}

// erasure also says whether the job has not ended.
func (q *Queue) erasure(ctx context.Context, tx pgx.Tx, tenant string) (e jobs.Erasure, open bool, err error) {
	err = tx.QueryRow(ctx, selectErasureSQL, tenant).Scan(&e.TenantID, &e.OrgID, &e.Name, &e.Database, &e.JobUID, &e.AskedAt, &e.AskedBy, &e.Reason, &e.DoneAt, &e.Rows, &open)
	if errors.Is(err, pgx.ErrNoRows) {
		return jobs.Erasure{}, false, nil
	}
	if err == nil && e.DoneAt == nil {
		var one string
		err = tx.QueryRow(ctx, unfinishedSQL, tenant).Scan(&e.Waiting, &one, &one)
	}
	if err != nil {
		return jobs.Erasure{}, false, fmt.Errorf("looking for the erasure of tenant %s: %w", tenant, err)
	}
	switch {
	case e.DoneAt != nil:
		e.JobState = "erased"
	case open:
		e.JobState = "erasing"
	default:
		e.JobState = "stopped"
	}
	return e, open, nil
}

// Erase asks for the erasure of a tenant (see orchestrator.Client).
func (q *Queue) Erase(ctx context.Context, tx pgx.Tx, name string, opts jobs.EraseOpts) (e jobs.Erasure, err error) {
	if err := jobs.CheckText("reason", opts.Reason, maxErasureReason); err != nil {
		return e, err
	}
	found, err := q.catalog.TenantsByNameTx(ctx, tx, []string{name})
	if err != nil {
		return e, err
	}
	tenant := found[name]
	var status catalog.Status
	if err := tx.QueryRow(ctx, lockErasureSQL, tenant.ID).Scan(&status); err != nil {
		return e, fmt.Errorf("locking the tenant: %w", err)
	}
	e = jobs.Erasure{TenantID: tenant.ID, OrgID: tenant.OrgID, Name: tenant.Name, Database: tenant.Database, Reason: opts.Reason, AskedBy: access.From(ctx).Name}
	switch {
	case tenant.Database == "":
		return e, jobs.Inputf("tenant", name, "its database was taken out of the catalog, so that no worker reaches its rows: they went with the database, or are there still")
	case opts.CountOnly:
		return q.enqueueErase(ctx, tx, e, wire.Erase{Tenant: tenant.ID, CountOnly: true})
	case status != catalog.Removed:
		return e, fmt.Errorf("%w: %s is %s, and only what was removed is erased: run `headgate tenant remove %[2]s --yes` first", jobs.ErrNotRemoved, tenant.Slug, status)
	}
	known, open, err := q.erasure(ctx, tx, tenant.ID)
	if err != nil || open || known.DoneAt != nil && !opts.Again {
		return known, err
	}
	return q.askErasure(ctx, tx, e)
}

const maxErasureReason = 500

// askErasureSQL takes the place of a request whose job has ended without an end of the
// erasure, because it was cancelled or discarded, and of an erasure that is done again.
const askErasureSQL = `
INSERT INTO headgate.erasures (tenant_id, job_uid, operation, asked_by, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id) DO UPDATE SET job_uid = excluded.job_uid, operation = excluded.operation, asked_by = excluded.asked_by, reason = excluded.reason, asked_at = excluded.asked_at, done_at = NULL, rows = 0
RETURNING asked_at`

func (q *Queue) askErasure(ctx context.Context, tx pgx.Tx, e jobs.Erasure) (jobs.Erasure, error) {
	operation := access.From(ctx).Operation
	if operation == "" {
		operation = uuid.Must(uuid.NewV7()).String()
	}
	ctx = access.With(ctx, access.Actor{Operation: operation})
	if err := access.Say(ctx, tx, "", e.Reason); err != nil {
		return e, err
	}
	e, err := q.enqueueErase(ctx, tx, e, wire.Erase{Tenant: e.TenantID})
	if err != nil {
		return e, err
	}
	if err := tx.QueryRow(ctx, askErasureSQL, e.TenantID, e.JobUID, operation, e.AskedBy, e.Reason).Scan(&e.AskedAt); err != nil {
		return e, fmt.Errorf("noting the erasure: %w", err)
	}
	var one string
	if err := tx.QueryRow(ctx, unfinishedSQL, e.TenantID).Scan(&e.Waiting, &one, &one); err != nil {
		return e, fmt.Errorf("counting the tenant's jobs: %w", err)
	}
	return e, nil
}

func (q *Queue) enqueueErase(ctx context.Context, tx pgx.Tx, e jobs.Erasure, args wire.Erase) (jobs.Erasure, error) {
	result, err := q.EnqueueTx(ctx, tx, jobs.EnqueueParams{Database: e.Database, Args: args})
	if err != nil {
		return e, err
	}
	e.JobUID, e.JobState = result.UID, "erasing"
	if args.CountOnly {
		e.JobState = "counting"
	}
	return e, nil
}

const erasingSQL = `
SELECT t.org_id, coalesce(t.org_key, t.org_id::text), t.name, coalesce(t.database_id::text, ''), t.status = 'removed', coalesce(e.job_uid::text, ''), e.done_at IS NOT NULL
FROM headgate.tenants t LEFT JOIN headgate.erasures e ON e.tenant_id = t.id
WHERE t.id = $1`

const lateSessionSQL = `SELECT headgate.late_session($1)`

// Erasing says what a job must know of the tenant that it is to erase. An unknown tenant
// matches jobs.ErrUnknownTenant. Jobs are counted after the look for open transactions, so
// that no job is missed if there is none.
func (q *Queue) Erasing(ctx context.Context, tenant string) (e wire.Erasing, err error) {
	err = central.Write(ctx, q.pool, func(tx pgx.Tx) error { return tx.QueryRow(ctx, lateSessionSQL, tenant).Scan(&e.Late) })
	if err != nil {
		return e, fmt.Errorf("looking for transactions that may have enqueued jobs of tenant %s: %w", tenant, err)
	}
	err = central.Read(ctx, q.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, erasingSQL, tenant).Scan(&e.OrgID, &e.OrgKey, &e.Name, &e.Database, &e.Removed, &e.Job, &e.Done)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: no tenant has the UUID %s", jobs.ErrUnknownTenant, tenant)
		}
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, unfinishedSQL, tenant).Scan(&e.Jobs, &e.First, &e.Unconfirmed)
	})
	if err != nil {
		return e, fmt.Errorf("asking the central database for tenant %s: %w", tenant, err)
	}
	return e, nil
}

const endErasureSQL = `SELECT headgate.end_erasure($1, $2, $3)`

// EndErasure notes that a job has erased its tenant, if no job of the tenant has come back
// meanwhile.
func (q *Queue) EndErasure(ctx context.Context, tenant, job string, rows int64) error {
	var ended bool
	err := central.Write(ctx, q.pool, func(tx pgx.Tx) error {
		var back int
		var one, unconfirmed string
		if err := tx.QueryRow(ctx, unfinishedSQL, tenant).Scan(&back, &one, &unconfirmed); err != nil {
			return err
		}
		if back > 0 {
			return fmt.Errorf("%d of its jobs have not ended, %s among them: somebody has had them tried again; the job tries again", back, one)
		}
		return tx.QueryRow(ctx, endErasureSQL, tenant, job, rows).Scan(&ended)
	})
	if err != nil {
		return fmt.Errorf("noting the end of the erasure of tenant %s: %w", tenant, err)
	}
	if !ended {
		return fmt.Errorf("noting the end of the erasure of tenant %s: another request has taken the place of this one", tenant)
	}
	return nil
}

const erasedSinceSQL = `
SELECT t.id::text, t.org_id, t.name, d.name, e.job_uid::text, e.asked_at, e.asked_by, e.reason, e.done_at, e.rows
FROM headgate.databases d JOIN headgate.tenants t ON t.database_id = d.id JOIN headgate.erasures e ON e.tenant_id = t.id
WHERE d.id = $1 AND e.done_at >= $2
ORDER BY e.done_at, t.id LIMIT $3`

// mostErased bounds ErasedSince.
const mostErased = 1000

// ErasedSince lists erasures that have ended (see orchestrator.Client).
func (q *Queue) ErasedSince(ctx context.Context, database string, since time.Time) (list []jobs.Erasure, err error) {
	rows, err := q.pool.Query(ctx, erasedSinceSQL, database, since, mostErased)
	if err == nil {
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e jobs.Erasure, err error) {
			e.JobState = "erased"
			return e, row.Scan(&e.TenantID, &e.OrgID, &e.Name, &e.Database, &e.JobUID, &e.AskedAt, &e.AskedBy, &e.Reason, &e.DoneAt, &e.Rows)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("listing the erasures of database %s: %w", database, err)
	}
	return list, nil
}
