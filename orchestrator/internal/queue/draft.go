package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/telemetry"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Draft is one job, checked and ready for its row.
type Draft struct {
	Kind string
	Args []byte // JSON
	Meta wire.Meta
	wire.Choices
	runAt     time.Time // zero: now
	tags      []string
	key       string // idempotency key, or ""
	WakeLater Set    // notes the queue instead of waking it in the transaction, if not nil
	late      error  // why it is refused, unless its key was taken when it was not too late
}

// TenantSet is tenants by the names that they were asked for by.
type TenantSet map[string]catalog.Tenant

// recall asks the catalog's memory whom a job is for. What it does not know, or
// knows to take no work, is asked for again in the transaction, which may be
// wiser.
func (q *Queue) recall(ctx context.Context, p jobs.EnqueueParams) TenantSet {
	name := p.Tenant
	if name == "" && p.Database == "" {
		name, _ = jobs.TenantFrom(ctx)
	}
	if name == "" {
		return nil
	}
	tenant, err := q.catalog.ResolveName(ctx, name)
	if err != nil || jobs.CheckArgs(p.Args) == nil && tenant.MayHave(p.Args.Kind()) != nil {
		return nil
	}
	return TenantSet{name: tenant}
}

// draft checks every job. It needs no transaction, so that none of ours is open while
// arguments are encoded.
func draft(ctx context.Context, params []jobs.EnqueueParams) ([]Draft, error) {
	items := make([]Draft, len(params))
	for i, p := range params {
		var err error
		if items[i], err = NewDraft(ctx, p); err != nil {
			return nil, enqueueing(len(params), atIndex(err, i, len(params)))
		}
	}
	return items, nil
}

// placeAll asks the catalog once for the tenants of all items that are not known, and
// puts the catalog's ids into the items. Nothing is written.
func (q *Queue) placeAll(ctx context.Context, tx pgx.Tx, items []Draft, known TenantSet) error {
	tenants, err := q.TenantsOf(ctx, tx, items, known)
	if err != nil {
		return enqueueing(len(items), err)
	}
	databases := map[string]string{}
	for i := range items {
		if err := q.place(ctx, tx, &items[i], tenants, databases); err != nil {
			return enqueueing(len(items), atIndex(err, i, len(items)))
		}
	}
	if err := checkBrands(ctx, tx, items); err != nil {
		return enqueueing(len(items), err)
	}
	if err := refuseLate(ctx, tx, items); err != nil {
		return enqueueing(len(items), err)
	}
	return nil
}

func enqueueing(n int, err error) error {
	if n == 1 {
		return fmt.Errorf("enqueueing a job: %w", err)
	}
	return fmt.Errorf("enqueueing %s: %w", jobs.Count(n, "job"), err)
}

func atIndex(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("item %d: %w", i, err)
}

// TenantsOf looks all named tenants up in one query, unless all are known.
func (q *Queue) TenantsOf(ctx context.Context, tx pgx.Tx, items []Draft, known TenantSet) (TenantSet, error) {
	var names []string
	seen := map[string]bool{}
	missing := false
	for _, it := range items {
		if name := it.Meta.Tenant; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
			_, ok := known[name]
			missing = missing || !ok
		}
	}
	if !missing {
		return known, nil
	}
	return q.catalog.TenantsByNameTx(ctx, tx, names)
}

// place turns the names that the caller used into the catalog's ids.
func (q *Queue) place(ctx context.Context, tx pgx.Tx, it *Draft, tenants TenantSet, databases map[string]string) error {
	meta := &it.Meta
	if meta.Database != "" {
		id, ok := databases[meta.Database]
		if !ok {
			var err error
			if id, err = q.catalog.DatabaseIDTx(ctx, tx, meta.Database); err != nil {
				return err
			}
			databases[meta.Database] = id
		}
		meta.Database = id
		return nil
	}
	tenant := tenants[meta.Tenant]
	if err := tenant.TakesWork(); err != nil {
		return err
	}
	meta.Tenant = tenant.ID
	return tenant.MayHave(it.Kind)
}

// NewDraft checks one job. The tenant's or database's name stands in its meta
// until place puts the id there.
func NewDraft(ctx context.Context, p jobs.EnqueueParams) (Draft, error) {
	if p.Opts == nil {
		p.Opts = &jobs.EnqueueOpts{}
	}
	args, err := wire.EncodeArgs(p.Args)
	if err != nil {
		return Draft{}, jobs.AsInputError("args", err)
	}
	kindOpts := jobs.KindOptsOf(p.Args)
	it := Draft{
		Kind: p.Args.Kind(), Args: args, runAt: p.Opts.RunAt, tags: p.Opts.Tags, key: p.Opts.IdempotencyKey,
		Choices: wire.Choices{Queue: p.Opts.Queue, Priority: p.Opts.Priority, MaxAttempts: p.Opts.MaxAttempts}.Complete(kindOpts),
		Meta: wire.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), TimeoutMS: p.Opts.Timeout.Milliseconds(), Brand: p.Opts.Brand,
			TraceParent: telemetry.TraceParent(ctx),
		},
	}
	if err := it.Check(p.Opts, time.Now()); err != nil {
		return Draft{}, err
	}
	return it, it.name(ctx, p, kindOpts.Scope)
}

// name notes whom the job is for, as the kind's scope asks.
func (it *Draft) name(ctx context.Context, p jobs.EnqueueParams, scope jobs.Scope) (err error) {
	switch {
	case scope == jobs.ScopeDatabase && p.Tenant != "":
		return jobs.Inputf("tenant", p.Tenant, "kind %s works on a whole database: give a database (EnqueueDatabase), not a tenant", it.Kind)
	case scope == jobs.ScopeDatabase && it.Meta.Brand != nil:
		return jobs.Inputf("brand", strconv.Itoa(*it.Meta.Brand), "kind %s works on a whole database: give no brand", it.Kind)
	case scope == jobs.ScopeDatabase && p.Database == "":
		return jobs.Inputf("database", "", "kind %s works on a whole database: give its name (EnqueueDatabase)", it.Kind)
	case scope == jobs.ScopeTenant && p.Database != "":
		return jobs.Inputf("database", p.Database, "kind %s works for one tenant: give a tenant (Enqueue), not a database", it.Kind)
	case scope == jobs.ScopeDatabase:
		it.Meta.Database = p.Database
		return nil
	}
	if it.Meta.Tenant = p.Tenant; it.Meta.Tenant == "" {
		it.Meta.Tenant, err = jobs.TenantFrom(ctx)
	}
	return err
}
