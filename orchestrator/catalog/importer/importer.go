package importer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
)

// Importer writes inputs into a catalog, and the catalog out. It is safe for concurrent use.
type Importer struct {
	pool *pgxpool.Pool
	bulk *catalog.Bulk
}

// New returns an importer for the catalog on the central database behind pool.
func New(pool *pgxpool.Pool, c *catalog.Catalog) *Importer {
	return &Importer{pool: pool, bulk: catalog.NewBulk(c)}
}

// Options say how an input is written.
type Options struct {
	// Source is the name of the sync that the input is all tenants of: tenants of the
	// source that the input lacks are suspended. "" imports: only the input's column status
	// suspends, as somebody does, and no tenant comes to belong to a source.
	Source string

	// Database is where new tenants live whose rows do not say it: a name or UUID.
	Database string

	// Owner is the owner login of new databases whose rows have none. nil means that rows
	// have it.
	Owner *Owner

	// AllowMissing is how many tenants a sync may stop, missing ones and those that the
	// input's column status stops, where that is more than 10 and
	// more than 5 % of the source's active tenants, or more than half of them. It must be
	// the number. 0 means none.
	AllowMissing int

	// DryRun plans and writes nothing.
	DryRun bool

	// Confirm is asked before anything is written. Its error is Import's. nil agrees.
	Confirm func(*Plan) error
}

// attempts is how often an import is planned anew, where others change the same tenants.
const attempts = 3

// Import compares an input with the catalog and writes the differences in one transaction.
// A *RowsError lists what is wrong with the input. A *HeldError holds a
// sync that would suspend too many. Nothing is written with any error.
//
// Where somebody else changes the same tenants at the same time, the import plans anew, up
// to three times; the error then matches catalog.ErrChanged or catalog.ErrExists.
func (im *Importer) Import(ctx context.Context, table *Table, opts Options) (*Plan, error) {
	return im.run(ctx, table, opts, read)
}

// run is Import with a function that reads the catalog.
func (im *Importer) run(ctx context.Context, table *Table, opts Options, read func(context.Context, pgx.Tx) (*state, error)) (plan *Plan, err error) {
	for attempt := 1; ; attempt++ {
		var s *state
		if err = central.Read(ctx, im.pool, func(tx pgx.Tx) (err error) { s, err = read(ctx, tx); return err }); err != nil {
			return nil, fmt.Errorf("import tenants: reading the catalog: %w", err)
		}
		if plan, err = im.plan(ctx, im.pool, s, table, opts); err != nil || opts.DryRun || plan.Empty() {
			return plan, err
		}
		plan.changes.Sync = opts.Source != ""
		err = im.bulk.Apply(ctx, plan.changes)
		if err == nil {
			return plan, nil
		}
		if !contested(err) || attempt == attempts {
			return nil, fmt.Errorf("import tenants: %w; nothing was written", err)
		}
	}
}

// ImportTx is Import in the caller's transaction. It plans once: an error of somebody else's
// change leaves the transaction as it was before.
func (im *Importer) ImportTx(ctx context.Context, tx pgx.Tx, table *Table, opts Options) (*Plan, error) {
	s, err := read(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("import tenants: reading the catalog: %w", err)
	}
	plan, err := im.plan(ctx, tx, s, table, opts)
	if err != nil || opts.DryRun || plan.Empty() {
		return plan, err
	}
	plan.changes.Sync = opts.Source != ""
	if err := im.bulk.ApplyTx(ctx, tx, plan.changes); err != nil {
		return nil, fmt.Errorf("import tenants: %w; nothing was written", err)
	}
	return plan, nil
}

// contested reports that an import which is planned anew may succeed.
func contested(err error) bool {
	return errors.Is(err, catalog.ErrChanged) || errors.Is(err, catalog.ErrExists) || central.HasCode(err, "40P01")
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func (im *Importer) plan(ctx context.Context, db querier, s *state, table *Table, opts Options) (*Plan, error) {
	if opts.Source != "" {
		if err := catalog.CheckName("source", opts.Source); err != nil {
			return nil, err
		}
	}
	if len(table.rows) == 0 { // New tables have rows
		return nil, ErrEmpty
	}
	plan, err := makePlan(s, table, opts)
	if err != nil {
		return nil, err
	}
	if len(plan.said)+len(plan.changes.Databases) > 0 {
		if plan.changes.Logins, err = im.bulk.ChangedLogins(ctx, db, plan.said); err != nil {
			return nil, fmt.Errorf("import tenants: comparing the logins: %w", err)
		}
	}
	plan.Logins = len(plan.changes.Logins)
	if err := plan.held(opts); err != nil {
		return nil, err
	}
	if opts.Confirm != nil && !opts.DryRun {
		err = opts.Confirm(plan)
	}
	return plan, err
}

// The limits of what a sync stops by itself, whichever is more; and never are more than half of
// the source's active tenants missing: an input that lacks so many may be another table.
const (
	mostMissing        = 10
	mostMissingPercent = 5
)

// held refuses to suspend so many that the source is doubtful.
func (p *Plan) held(opts Options) error {
	most := max(mostMissing, p.managed*mostMissingPercent/100)
	allowed, stops := min(most, p.managed/2), p.Suspended+p.stopped
	if p.Suspended <= allowed {
		allowed = most
	}
	if stops <= allowed || stops == opts.AllowMissing {
		return nil
	}
	return &HeldError{Source: opts.Source, Missing: p.Suspended, Stopped: p.stopped, Active: p.managed, Allowed: allowed, Given: opts.AllowMissing}
}
