package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// StatusChange says which status tenants get, and what with it.
type StatusChange struct {
	To Status

	// Reason is shown wherever work is refused: up to 500 characters. "" keeps the reason of a
	// tenant that has the status already, and is no reason for one that has another.
	Reason string

	// Waiting says what becomes of jobs that wait while the tenant takes no work. "" means
	// what it was for a tenant that has the status already, CancelWaiting for Archived, and
	// else HoldWaiting. An active tenant has HoldWaiting.
	Waiting Waiting
}

func (ch StatusChange) check() error {
	switch {
	case ch.To.check() != nil:
		return jobs.Inputf("status", string(ch.To), "give provisioning, active, suspended, moving or archived")
	case ch.To == Removed:
		return jobs.Inputf("status", string(ch.To), "a removal takes more along than a status: call Remove")
	case ch.Waiting != "" && ch.Waiting != HoldWaiting && ch.Waiting != CancelWaiting:
		return jobs.Inputf("waiting", string(ch.Waiting), "give hold or cancel")
	}
	return jobs.CheckText("reason", ch.Reason, maxReason)
}

// SetStatus changes the status of tenants, from any to any but Removed. Jobs that run go on
// to their end; which of the others wait, and what of them is cancelled, Waiting says. Places
// resolved before stay as they were: whoever moves a tenant must fence them off by the
// generation. Errors match jobs.ErrUnknownTenant or are a *jobs.InputError.
func (e TenantEditor) SetStatus(ctx context.Context, tenants []string, change StatusChange) ([]Changed, error) {
	return e.setStatus(ctx, e.c.pool, tenants, change)
}

// SetStatusTx is SetStatus in the caller's transaction.
func (e TenantEditor) SetStatusTx(ctx context.Context, tx pgx.Tx, tenants []string, change StatusChange) ([]Changed, error) {
	return e.setStatus(ctx, tx, tenants, change)
}

// A tenant that has the status already keeps since when, and without a new reason why and by
// whom; a row that stays as it is is not written. What becomes of its waiting jobs a trigger
// decides, unless the statement says so. A tenant that a sync has stopped is stopped by who says
// so now.
const (
	statusUpdateSQL = `
UPDATE headgate.tenants SET status = $2, stopped_by = '',
    status_reason = CASE WHEN status = $2 AND $3 = '' AND stopped_by = '' THEN status_reason ELSE $3 END,
    status_by = CASE WHEN status = $2 AND $3 IN ('', status_reason) AND stopped_by = '' THEN status_by ELSE $4 END
WHERE id = ANY ($1::text[]::uuid[]) AND (status <> $2 OR $3 NOT IN ('', status_reason) OR stopped_by <> '')`
	statusWaitingUpdateSQL = `
UPDATE headgate.tenants SET status = $2, stopped_by = '', waiting = $5,
    status_reason = CASE WHEN status = $2 AND $3 = '' AND stopped_by = '' THEN status_reason ELSE $3 END,
    status_by = CASE WHEN status = $2 AND $3 IN ('', status_reason) AND stopped_by = '' THEN status_by ELSE $4 END
WHERE id = ANY ($1::text[]::uuid[]) AND (status <> $2 OR $3 NOT IN ('', status_reason) OR stopped_by <> '' OR waiting <> $5)`
)

func (e TenantEditor) setStatus(ctx context.Context, db beginner, tenants []string, change StatusChange) ([]Changed, error) {
	change, err := change.checked()
	if err != nil {
		return nil, err
	}
	return e.write(ctx, db, "set the status of", tenants, change.apply)
}

func (ch StatusChange) checked() (StatusChange, error) {
	ch.Reason = strings.TrimSpace(ch.Reason)
	if err := ch.check(); err != nil {
		return ch, fmt.Errorf("set status: %w", err)
	}
	return ch, nil
}

func (ch StatusChange) apply(ctx context.Context, tx pgx.Tx, before []Tenant) error {
	if err := access.Say(ctx, tx, "", ch.Reason); err != nil {
		return err
	}
	ids := make([]string, len(before))
	for i, t := range before {
		ids[i] = t.ID
	}
	sql, args := statusUpdateSQL, []any{ids, ch.To, ch.Reason, access.From(ctx).Name}
	if ch.Waiting != "" {
		sql, args = statusWaitingUpdateSQL, append(args, ch.Waiting)
	}
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// SetStatus changes one tenant's status without a word of why; see TenantEditor.SetStatus.
func (c *Catalog) SetStatus(ctx context.Context, tenant string, status Status) error {
	_, err := c.Editor().SetStatus(ctx, []string{tenant}, StatusChange{To: status})
	return err
}

// SetStatusTx is SetStatus in the caller's transaction.
func (c *Catalog) SetStatusTx(ctx context.Context, tx pgx.Tx, tenant string, status Status) error {
	_, err := c.Editor().SetStatusTx(ctx, tx, []string{tenant}, StatusChange{To: status})
	return err
}

// Removal is what a removal takes along, or would.
type Removal struct {
	Tenant    Tenant `json:"tenant"` // as it was
	Domains   int    `json:"domains"`
	Emails    int    `json:"email_domains"`
	Schedules int    `json:"schedules"` // its own; those of templates go within seconds
	Limits    int    `json:"limits"`
	Pauses    int    `json:"pauses"`
	Blackouts int    `json:"blackouts"` // and maintenance windows
	Overrides int    `json:"overrides"` // of templates
}

// RemoveOpts say more of a removal.
type RemoveOpts struct {
	Reason string
	DryRun bool // only say what would go
}

// Remove takes tenants out of use for good. Their slugs, domains, e-mail domains, own
// schedules, limits and pauses go; their waiting jobs are cancelled, and jobs that run end as
// they would. Their UUIDs, org_ids and names stay for history and are given to nobody again,
// because rows that bear them remain in their databases. Errors match jobs.ErrUnknownTenant,
// jobs.ErrTenantMoving, and ErrReferred while a grant of headgate.enqueue or a template names one of them.
func (e TenantEditor) Remove(ctx context.Context, tenants []string, opts *RemoveOpts) ([]Removal, error) {
	return e.remove(ctx, e.c.pool, tenants, opts)
}

// RemoveTx is Remove in the caller's transaction.
func (e TenantEditor) RemoveTx(ctx context.Context, tx pgx.Tx, tenants []string, opts *RemoveOpts) ([]Removal, error) {
	return e.remove(ctx, tx, tenants, opts)
}

const removeTenantsSQL = `
SELECT r.tenant_id::text, r.domains, r.emails, r.schedules, r.limits, r.pauses, r.blackouts, r.overrides FROM headgate.remove_tenants($1::text[]::uuid[], $2, $3) r`

func (e TenantEditor) remove(ctx context.Context, db beginner, tenants []string, opts *RemoveOpts) (removals []Removal, err error) {
	if opts == nil {
		opts = &RemoveOpts{}
	}
	if err := (StatusChange{To: Archived, Reason: opts.Reason}).check(); err != nil {
		return nil, fmt.Errorf("remove tenant %s: %w", someOf(tenants), err)
	}
	_, err = e.write(ctx, db, "remove", tenants, func(ctx context.Context, tx pgx.Tx, before []Tenant) error {
		if removals, err = removeTenants(ctx, tx, before, opts); err == nil && opts.DryRun {
			return central.Undo(ctx, tx)
		}
		return err
	})
	if err = central.Undone(err); err != nil {
		return nil, err
	}
	return removals, nil
}

func removeTenants(ctx context.Context, tx pgx.Tx, before []Tenant, opts *RemoveOpts) ([]Removal, error) {
	byID := map[string]Tenant{}
	ids := make([]string, len(before))
	for i, t := range before {
		if t.Status == Moving {
			return nil, fmt.Errorf("%w: %s; remove it when the move has ended", jobs.ErrTenantMoving, shown(t.Slug))
		}
		ids[i], byID[t.ID] = t.ID, t
	}
	if err := access.Say(ctx, tx, "", opts.Reason); err != nil {
		return nil, err
	}
	rows, _ := tx.Query(ctx, removeTenantsSQL, ids, opts.Reason, access.From(ctx).Name) // its error is CollectRows' too
	removals, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Removal, err error) {
		var id string
		err = row.Scan(&id, &r.Domains, &r.Emails, &r.Schedules, &r.Limits, &r.Pauses, &r.Blackouts, &r.Overrides)
		r.Tenant = byID[id]
		return r, err
	})
	return removals, tenantConflict(err, nil)
}

func changedIDs(changed []Changed) []uuid.UUID {
	ids := make([]uuid.UUID, len(changed))
	for i, ch := range changed {
		ids[i] = uuid.MustParse(ch.Before.ID)
	}
	return ids
}
