package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/selector"
)

// PauseSelected pauses the tenants that a selector selects now, as one operation: all of
// them or, in an error, none. It returns the pauses by UUID of tenant; opts and bulk may be
// nil. Tenants that come to be selected later are not paused, and paused ones stay paused
// whatever becomes of them. A selector that selects nobody pauses nobody, and is no error.
// Errors are a *jobs.InputError, or that of bulk.Confirm.
func (c *Control) PauseSelected(ctx context.Context, s selector.Selector, opts *PauseOpts, bulk *catalog.SelectedOpts) (paused []Pause, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		paused, err = c.pauseSelected(ctx, tx, s, opts, bulk)
		return err
	})
	return result(paused, bulk.Undone(err))
}

// PauseSelectedTx is PauseSelected in the caller's transaction. It counts with the commit.
func (c *Control) PauseSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, opts *PauseOpts, bulk *catalog.SelectedOpts) ([]Pause, error) {
	return inSavepoint(ctx, tx, bulk, func(tx pgx.Tx) ([]Pause, error) { return c.pauseSelected(ctx, tx, s, opts, bulk) })
}

const pauseManySQL = `
INSERT INTO headgate.pauses AS p (scope, target, paused_by, note, until)
SELECT 'tenant', t.id, $2, $3, $4 FROM unnest($1::text[]) WITH ORDINALITY AS t (id, nth) ORDER BY t.nth` + pauseAgain + `
RETURNING target, paused_by, note, since, until`

func (c *Control) pauseSelected(ctx context.Context, tx pgx.Tx, s selector.Selector, opts *PauseOpts, bulk *catalog.SelectedOpts) ([]Pause, error) {
	if opts == nil {
		opts = &PauseOpts{}
	}
	if err := opts.check(time.Now()); err != nil {
		return nil, fmt.Errorf("pause: %w", err)
	}
	var until *time.Time
	if !opts.Until.IsZero() {
		until = &opts.Until
	}
	return onSelected(ctx, tx, s, bulk, onTenants[Pause]{
		what: "pausing", by: opts.By, reason: opts.Note, nameOf: func(p Pause) string { return p.Name },
		do: func(tx pgx.Tx, of held) ([]Pause, error) {
			rows, _ := tx.Query(ctx, pauseManySQL, of.ids, opts.By, opts.Note, until) // its error is CollectRows' too
			return pgx.CollectRows(rows, of.scanPause)
		},
	})
}

// ResumeSelected ends the pauses of the tenants that a selector selects now, as one
// operation, and returns what they were. Selected tenants that are not paused are left as
// they are; that nobody is paused is no error. What PauseSelected says of others holds too.
func (c *Control) ResumeSelected(ctx context.Context, s selector.Selector, bulk *catalog.SelectedOpts) (were []Pause, err error) {
	err = central.Write(ctx, c.pool, func(tx pgx.Tx) (err error) {
		were, err = c.resumeSelected(ctx, tx, s, bulk)
		return err
	})
	return result(were, bulk.Undone(err))
}

// ResumeSelectedTx is ResumeSelected in the caller's transaction. It counts with the commit.
func (c *Control) ResumeSelectedTx(ctx context.Context, tx pgx.Tx, s selector.Selector, bulk *catalog.SelectedOpts) ([]Pause, error) {
	return inSavepoint(ctx, tx, bulk, func(tx pgx.Tx) ([]Pause, error) { return c.resumeSelected(ctx, tx, s, bulk) })
}

// resumeManySQL locks the pauses in one order before it deletes them, because another one
// may be about the same tenants.
const resumeManySQL = `
WITH ours AS MATERIALIZED (
    SELECT p.target FROM headgate.pauses p WHERE p.scope = 'tenant' AND p.target IN (SELECT t.id FROM unnest($1::text[]) t (id)) ORDER BY p.target FOR UPDATE
), ended AS (
    DELETE FROM headgate.pauses p USING ours WHERE p.scope = 'tenant' AND p.target = ours.target
    RETURNING p.target, p.paused_by, p.note, p.since, p.until
)
SELECT target, paused_by, note, since, until FROM ended WHERE coalesce(until > now(), true) ORDER BY target`

func (c *Control) resumeSelected(ctx context.Context, tx pgx.Tx, s selector.Selector, bulk *catalog.SelectedOpts) ([]Pause, error) {
	return onSelected(ctx, tx, s, bulk, onTenants[Pause]{
		what: "resuming", nameOf: func(p Pause) string { return p.Name },
		do: func(tx pgx.Tx, of held) ([]Pause, error) {
			rows, _ := tx.Query(ctx, resumeManySQL, of.ids) // its error is CollectRows' too
			return pgx.CollectRows(rows, of.scanPause)
		},
	})
}

// held are tenants that nobody removes before the transaction ends, by their ids.
type held struct {
	ids   []string // in order
	slugs map[string]string
}

func (h held) scanPause(row pgx.CollectableRow) (Pause, error) {
	p := Pause{Subject: OfTenant}
	var id string
	err := row.Scan(&id, &p.By, &p.Note, &p.Since, &p.Until)
	p.Name = h.slugs[id]
	return p, err
}

// holdSelectedSQL is what the selection was and who of it is still there under the lock. The
// lock keeps removals waiting, which are changes of a key, and no other change: a pause is
// not kept waiting by who has a tenant in hand.
const holdSelectedSQL = `
WITH given AS MATERIALIZED (SELECT jsonb_populate_record(NULL::headgate.selection, $1) AS selection),
chosen AS MATERIALIZED (SELECT x.tenant_id FROM given CROSS JOIN LATERAL headgate.selected(given.selection) x)
SELECT t.id::text, t.slug FROM headgate.tenants t
WHERE t.id IN (SELECT c.tenant_id FROM chosen c) AND t.status <> 'removed'
ORDER BY t.id FOR KEY SHARE OF t`

func holdSelected(ctx context.Context, tx pgx.Tx, s selector.Selector) (h held, err error) {
	h.slugs = map[string]string{}
	rows, _ := tx.Query(ctx, holdSelectedSQL, s.Selection()) // its error is ForEachRow's too
	var id, slug string
	_, err = pgx.ForEachRow(rows, []any{&id, &slug}, func() error {
		h.ids = append(h.ids, id)
		h.slugs[id] = slug
		return nil
	})
	return h, err
}

// onTenants is what is done with many tenants, and how it is told.
type onTenants[T any] struct {
	what       string // pausing
	by, reason string // for the audit, where the call says them
	nameOf     func(T) string
	do         func(tx pgx.Tx, of held) ([]T, error) // returns an entry for each tenant that it touches
}

func onSelected[T any](ctx context.Context, tx pgx.Tx, s selector.Selector, bulk *catalog.SelectedOpts, verb onTenants[T]) ([]T, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb.what, jobs.AsInputError("select", err))
	}
	list, err := verb.run(ctx, tx, s)
	if err != nil {
		return nil, fmt.Errorf("%s the tenants that %q selects: %w", verb.what, s.String(), err)
	}
	names := make([]string, len(list))
	for i, one := range list {
		names[i] = verb.nameOf(one)
	}
	return list, bulk.Done(ctx, tx, names)
}

func (verb onTenants[T]) run(ctx context.Context, tx pgx.Tx, s selector.Selector) ([]T, error) {
	if err := access.Say(ctx, tx, verb.by, verb.reason); err != nil {
		return nil, err
	}
	of, err := holdSelected(ctx, tx, s)
	if err != nil {
		return nil, fmt.Errorf("selecting tenants: %w", err)
	}
	return verb.do(tx, of)
}

// inSavepoint does a bulk in the caller's transaction, which goes on as it was if the bulk
// is undone.
func inSavepoint[T any](ctx context.Context, tx pgx.Tx, bulk *catalog.SelectedOpts, do func(tx pgx.Tx) ([]T, error)) (list []T, err error) {
	err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
		list, err = do(tx)
		return err
	})
	return result(list, bulk.Undone(err))
}

func result[T any](list []T, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	return list, nil
}
