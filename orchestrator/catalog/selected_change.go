package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/selector"
)

// SelectedOpts say more of a change of all tenants that a selector selects.
type SelectedOpts struct {
	// DryRun undoes the change when it is done: what is returned would have become of it.
	DryRun bool

	// Confirm is asked when the change is done and not committed yet, with the slugs of the
	// tenants that it touches, in one order at each call. Its error undoes the change, and is
	// returned. Others wait for the tenants meanwhile, so it must not wait for anybody. A dry
	// run does not ask. nil agrees to any tenants.
	Confirm func(slugs []string) error
}

// Done is what the transaction of a change is to return before it commits: nil, or what
// undoes it. nil options agree. A dry run has the constraints checked that wait for the commit.
func (o *SelectedOpts) Done(ctx context.Context, tx pgx.Tx, slugs []string) error {
	switch {
	case o == nil:
		return nil
	case o.DryRun:
		return central.Undo(ctx, tx)
	case o.Confirm != nil:
		return o.Confirm(slugs)
	}
	return nil
}

// Undone takes the error away by which Done has undone a dry run.
func (o *SelectedOpts) Undone(err error) error {
	return central.Undone(err)
}

// ChangeSelected changes the tenants that a selector selects now: all of them in one
// transaction or, in an error, none. Tenants that come to be selected later are not changed.
// Like everything that is stored, it selects no tenant that is archived; those are named.
//
// A selector that selects nobody changes nothing, and is no error. A tenant that somebody
// else changes meanwhile so that it is not selected any more is told: then the error matches
// ErrChanged. A tenant that another transaction keeps locked ends the change when the lock
// has been waited for (8 s without a transaction of the caller's), and the error names it and
// the session. Version is for one tenant that is named, and refused. Other errors are those
// of Change.
func (e TenantEditor) ChangeSelected(ctx context.Context, s selector.Selector, change TenantChange, opts *SelectedOpts) ([]Changed, error) {
	return e.changeSelected(ctx, e.c.pool, s, change, opts)
}

// ChangeSelectedTx is ChangeSelected in the caller's transaction.
func (e TenantEditor) ChangeSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, change TenantChange, opts *SelectedOpts) ([]Changed, error) {
	return e.changeSelected(ctx, tx, s, change, opts)
}

func (e TenantEditor) changeSelected(ctx context.Context, db beginner, s selector.Selector, change TenantChange, opts *SelectedOpts) ([]Changed, error) {
	if change.Version != 0 {
		return nil, fmt.Errorf("change tenants: %w", jobs.Inputf("version", fmt.Sprint(change.Version), "it is of one tenant: name the tenant, and leave the selector out"))
	}
	return e.writeSelected(ctx, db, "change", s, change.apply, opts)
}

// SetStatusSelected is SetStatus of the tenants that a selector selects now. What
// ChangeSelected says of the selector and of others' changes holds here too. A tenant that is
// moving is not left to an expression: the error matches jobs.ErrTenantMoving.
func (e TenantEditor) SetStatusSelected(ctx context.Context, s selector.Selector, change StatusChange, opts *SelectedOpts) ([]Changed, error) {
	return e.setStatusSelected(ctx, e.c.pool, s, change, opts)
}

// SetStatusSelectedTx is SetStatusSelected in the caller's transaction.
func (e TenantEditor) SetStatusSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, change StatusChange, opts *SelectedOpts) ([]Changed, error) {
	return e.setStatusSelected(ctx, tx, s, change, opts)
}

func (e TenantEditor) setStatusSelected(ctx context.Context, db beginner, s selector.Selector, change StatusChange, opts *SelectedOpts) ([]Changed, error) {
	change, err := change.checked()
	if err != nil {
		return nil, err
	}
	return e.writeSelected(ctx, db, "set the status of", s, func(ctx context.Context, tx pgx.Tx, before []Tenant) error {
		for _, t := range before {
			if t.Status == Moving {
				return fmt.Errorf("%w: %s; add `and status != moving` to leave such tenants out", jobs.ErrTenantMoving, shown(t.Slug))
			}
		}
		return change.apply(ctx, tx, before)
	}, opts)
}

// writeSelected is write for the tenants of a selector.
func (e TenantEditor) writeSelected(ctx context.Context, db beginner, what string, s selector.Selector, change func(context.Context, pgx.Tx, []Tenant) error, opts *SelectedOpts) ([]Changed, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s tenants: %w", what, jobs.AsInputError("select", err))
	}
	w := writing{lock: func(ctx context.Context, tx pgx.Tx) ([]Tenant, error) { return lockSelected(ctx, tx, s) }, change: change, opts: opts}
	changed, err := w.do(ctx, e, db)
	if err != nil {
		return nil, fmt.Errorf("%s the tenants that %s selects: %w", what, shown(s.String()), err)
	}
	return changed, nil
}

// selectedIDsSQL has one order, in which the rows are locked.
const selectedIDsSQL = `
WITH given AS MATERIALIZED (SELECT jsonb_populate_record(NULL::headgate.selection, $1) AS selection)
SELECT x.tenant_id::text FROM given CROSS JOIN LATERAL headgate.selected(given.selection) x ORDER BY x.tenant_id`

func selectedIDs(ctx context.Context, tx pgx.Tx, s selector.Selector) ([]string, error) {
	rows, _ := tx.Query(ctx, selectedIDsSQL, s.Selection()) // its error is CollectRows' too
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("selecting tenants: %w", err)
	}
	return ids, nil
}

// lockSelected returns the tenants that a selector selects, in the order of their UUIDs, as
// they are under their locks.
func lockSelected(ctx context.Context, tx pgx.Tx, s selector.Selector) ([]Tenant, error) {
	ids, err := selectedIDs(ctx, tx, s)
	if err != nil {
		return nil, err
	}
	tenants, err := lockRows(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	again, err := selectedIDs(ctx, tx, s) // the lock may have waited for somebody who has changed them
	if err != nil {
		return nil, err
	}
	still := map[string]bool{}
	for _, id := range again {
		still[id] = true
	}
	var lost []string
	for _, t := range tenants {
		if !still[t.ID] {
			lost = append(lost, t.Slug)
		}
	}
	if lost != nil {
		return nil, fmt.Errorf("%w: tenant %s is not selected any more, and nothing was changed: look again, and try again", ErrChanged, someOf(lost))
	}
	return tenants, nil
}

// writing is one change of several tenants.
type writing struct {
	lock   func(context.Context, pgx.Tx) ([]Tenant, error)
	change func(context.Context, pgx.Tx, []Tenant) error
	opts   *SelectedOpts
}

// do makes the change, and names who keeps a tenant locked that it waited for in vain.
func (w *writing) do(ctx context.Context, e TenantEditor, db beginner) ([]Changed, error) {
	changed, err := within(ctx, db, func(tx pgx.Tx) ([]Changed, error) { return w.doTx(ctx, tx) })
	if err = w.opts.Undone(err); err != nil {
		return nil, blame(ctx, db, err)
	}
	if db == beginner(e.c.pool) {
		e.c.memory.drop(changedIDs(changed)...)
	}
	return changed, nil
}

func (w *writing) doTx(ctx context.Context, tx pgx.Tx) ([]Changed, error) {
	before, err := w.lock(ctx, tx)
	if err != nil {
		return nil, err
	}
	if err := w.change(ctx, tx, before); err != nil {
		return nil, err
	}
	changed, err := changedSince(ctx, tx, before)
	if err != nil {
		return nil, err
	}
	slugs := make([]string, len(changed))
	for i, ch := range changed {
		slugs[i] = ch.Before.Slug
	}
	return changed, w.opts.Done(ctx, tx, slugs)
}

// lockError is of a lock that was not had on tenants of these ids.
type lockError struct {
	ids []string
	error
}

func (e *lockError) Unwrap() error { return e.error }

// tenantLockedSQL finds the first tenant whose lock cannot be had at once, by asking for all.
// Its xmax alone does not tell, because not every lock keeps a change waiting.
const tenantLockedSQL = `
WITH free AS MATERIALIZED (SELECT t.id FROM headgate.tenants t WHERE t.id = ANY ($1::text[]::uuid[]) FOR NO KEY UPDATE SKIP LOCKED)
SELECT t.slug, coalesce(headgate.locked_by(t.xmax), '') FROM headgate.tenants t
WHERE t.id = ANY ($1::text[]::uuid[]) AND t.id NOT IN (SELECT f.id FROM free f)
ORDER BY t.id LIMIT 1`

// blame adds to the error about a lock the tenant, and the session that keeps it. That session
// takes the place of those that central.NameHolders has named by the locks on tables: it would
// be named twice, and others keep nobody waiting.
func blame(ctx context.Context, db beginner, err error) error {
	var waited *lockError
	if !central.IsLockTimeout(err) || !errors.As(err, &waited) {
		return err
	}
	var slug, by string
	var named *central.LockedError
	_, _ = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) { // in an error there is nobody to name
		if err := tx.QueryRow(ctx, tenantLockedSQL, waited.ids).Scan(&slug, &by); err != nil {
			return none, err
		}
		return none, central.Undo(ctx, tx) // which gives the other locks back
	})
	switch {
	case slug == "":
		return err
	case by == "":
		return fmt.Errorf("tenant %s is locked by another transaction: %w", shown(slug), err)
	}
	if errors.As(err, &named) {
		err = named.Unwrap()
	}
	return fmt.Errorf("tenant %s is locked by %s, and nothing was changed; %s, then try again: %w", shown(slug), by, central.EndSession(by), err)
}
