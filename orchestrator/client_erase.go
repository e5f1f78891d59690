package orchestrator

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/queue"
)

// Erase asks for the erasure of a removed tenant (its UUID or org_id): a job deletes its rows
// in its database and what the central database keeps of its jobs. opts may be nil.
//
// A request for a tenant that is being erased, or was, returns that erasure and enqueues
// nothing, except with opts.Again. Where the job has ended without an end of the erasure, because somebody has
// cancelled the job or its attempts are used up, a new job takes its place. Errors match
// jobs.ErrUnknownTenant, jobs.ErrNotRemoved, or are a *jobs.InputError.
func (c *Client) Erase(ctx context.Context, tenant string, opts *jobs.EraseOpts) (e jobs.Erasure, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) error {
		e, err = c.EraseTx(ctx, tx, tenant, opts)
		return err
	})
	if err != nil {
		return jobs.Erasure{}, err
	}
	return e, nil
}

// EraseTx is Erase inside the caller's transaction on the central database.
func (c *Client) EraseTx(ctx context.Context, tx pgx.Tx, tenant string, opts *jobs.EraseOpts) (jobs.Erasure, error) {
	if opts == nil {
		opts = &jobs.EraseOpts{}
	}
	return c.queue.Erase(ctx, tx, tenant, *opts)
}

// ErasedSince lists the erasures in a database (its UUID) that have ended since a time, the
// first 1,000. A database that was restored to that time may have the rows again, which
// jobs.EraseOpts.Again erases.
func (c *Client) ErasedSince(ctx context.Context, database string, since time.Time) ([]jobs.Erasure, error) {
	return c.queue.ErasedSince(ctx, database, since)
}

// Erasure returns what has become of the erasure of a tenant, by its UUID. A zero Erasure says
// that nobody has asked for one.
func (c *Client) Erasure(ctx context.Context, tenant string) (jobs.Erasure, error) {
	return c.queue.Erasure(ctx, tenant)
}

// Erasures is the central database as the jobs see it that erase tenants: what
// worker/erasure.Config asks for. It is safe for concurrent use.
type Erasures struct{ queue *queue.Queue }

// Erasures returns it.
func (c *Client) Erasures() Erasures { return Erasures{c.queue} }

// Erasing says what a job must know of the tenant that it is to erase.
func (e Erasures) Erasing(ctx context.Context, tenant string) (wire.Erasing, error) {
	return e.queue.Erasing(ctx, tenant)
}

// Clear takes what the central database keeps of an erased tenant's jobs out of it: messages,
// outputs, traces and log lines, arguments, idempotency keys. remove deletes the files of its
// reports, and says how many stay; nil leaves them. Where any stays, the history keeps the keys
// of all files, and nothing else. Clear works in short transactions and may be called again.
func (e Erasures) Clear(ctx context.Context, tenant string, remove func(ctx context.Context, keys []string) (stay int, err error)) (done wire.Cleared, err error) {
	stay := 0
	if remove != nil {
		if stay, err = e.queue.ReportFiles(ctx, tenant, remove); err != nil {
			return done, err
		}
	}
	if done.Jobs, err = e.queue.EraseJobs(ctx, tenant); err != nil {
		return done, err
	}
	if done.Keys, err = e.queue.EraseKeys(ctx, tenant); err != nil {
		return done, err
	}
	done.Outcomes, err = e.queue.EraseHistory(ctx, tenant, stay > 0)
	return done, err
}

// End notes that the job has erased the tenant, and how many rows it has deleted in the
// tenant's database.
func (e Erasures) End(ctx context.Context, tenant, job string, rows int64) error {
	return e.queue.EndErasure(ctx, tenant, job, rows)
}
