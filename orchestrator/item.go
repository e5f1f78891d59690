package orchestrator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// item is one job, checked and ready for its row.
type item struct {
	kind        string
	args        []byte // JSON
	meta        jobs.Meta
	runAt       time.Time // zero: now
	priority    int
	queue       string
	tags        []string
	maxAttempts int
	key         string   // idempotency key, or ""
	wakeLater   queueSet // notes the queue instead of waking it in the transaction, if not nil
	late        error    // why it is refused, unless its key was taken when it was not too late
}

// tenantSet is tenants by the names that they were asked for by.
type tenantSet map[string]catalog.Tenant

// recall asks the catalog's memory whom a job is for. What it does not know, or
// knows to take no work, is asked for again in the transaction, which may be
// wiser.
func (c *Client) recall(ctx context.Context, p EnqueueParams) tenantSet {
	name := p.Tenant
	if name == "" && p.Database == "" {
		name, _ = jobs.TenantFrom(ctx)
	}
	if name == "" {
		return nil
	}
	tenant, err := c.catalog.ResolveName(ctx, name)
	if err != nil {
		return nil
	}
	return tenantSet{name: tenant}
}

// prepare checks every item and asks the catalog once for all their tenants that
// are not known. Nothing is written.
func (c *Client) prepare(ctx context.Context, tx pgx.Tx, params []EnqueueParams, known tenantSet) ([]item, error) {
	items := make([]item, len(params))
	for i, p := range params {
		var err error
		if items[i], err = newItem(ctx, p); err != nil {
			return nil, atIndex(err, i, len(params))
		}
	}
	tenants, err := c.tenantsOf(ctx, tx, items, known)
	if err != nil {
		return nil, err
	}
	databases := map[string]string{}
	for i := range items {
		if err := c.place(ctx, tx, &items[i].meta, tenants, databases); err != nil {
			return nil, atIndex(err, i, len(params))
		}
	}
	return items, refuseLate(ctx, tx, items)
}

func atIndex(err error, i, n int) error {
	if n == 1 {
		return err
	}
	return fmt.Errorf("item %d: %w", i, err)
}

// tenantsOf looks all named tenants up in one query, unless all are known.
func (c *Client) tenantsOf(ctx context.Context, tx pgx.Tx, items []item, known tenantSet) (tenantSet, error) {
	var names []string
	seen := map[string]bool{}
	missing := false
	for _, it := range items {
		if name := it.meta.Tenant; name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
			_, ok := known[name]
			missing = missing || !ok
		}
	}
	if !missing {
		return known, nil
	}
	return c.catalog.TenantsByNameTx(ctx, tx, names)
}

// place turns the names that the caller used into the catalog's ids.
func (c *Client) place(ctx context.Context, tx pgx.Tx, meta *jobs.Meta, tenants tenantSet, databases map[string]string) error {
	if meta.Database != "" {
		id, ok := databases[meta.Database]
		if !ok {
			var err error
			if id, err = c.catalog.DatabaseIDTx(ctx, tx, meta.Database); err != nil {
				return err
			}
			databases[meta.Database] = id
		}
		meta.Database = id
		return nil
	}
	tenant := tenants[meta.Tenant]
	switch tenant.Status {
	case catalog.Active, catalog.Moving:
		meta.Tenant = tenant.ID
		return nil
	default:
		return fmt.Errorf("%w: tenant %q is %s and takes no work; `headgate tenant list` shows it", jobs.ErrTenantSuspended, tenant.Slug, tenant.Status)
	}
}

// newItem checks one job. The tenant's or database's name stands in its meta
// until place puts the id there.
func newItem(ctx context.Context, p EnqueueParams) (item, error) {
	if p.Args == nil {
		return item{}, errors.New("args are missing: give a value of the kind's struct")
	}
	if p.Opts == nil {
		p.Opts = &EnqueueOpts{}
	}
	args, err := jobs.EncodeArgs(p.Args)
	if err != nil {
		return item{}, err
	}
	kindOpts := jobs.KindOptsOf(p.Args)
	it := item{
		kind: p.Args.Kind(), args: args, runAt: p.Opts.RunAt, tags: p.Opts.Tags, key: p.Opts.IdempotencyKey,
		priority:    cmp.Or(p.Opts.Priority, kindOpts.Priority, 1),
		queue:       cmp.Or(p.Opts.Queue, kindOpts.Queue, "default"),
		maxAttempts: cmp.Or(p.Opts.MaxAttempts, kindOpts.MaxAttempts, 25),
		meta: jobs.Meta{
			UID: uuid.Must(uuid.NewV7()).String(), TimeoutMS: p.Opts.Timeout.Milliseconds(),
			TraceParent: cmp.Or(jobs.TraceParentFrom(ctx), newTraceParent()),
		},
	}
	if err := it.check(p.Opts, time.Now()); err != nil {
		return item{}, err
	}
	return it, it.name(ctx, p, kindOpts.Scope)
}

// name notes whom the job is for, as the kind's scope asks.
func (it *item) name(ctx context.Context, p EnqueueParams, scope jobs.Scope) (err error) {
	switch {
	case scope == jobs.ScopeDatabase && p.Tenant != "":
		return fmt.Errorf("kind %s works on a whole database: give a database (EnqueueDatabase), not tenant %q", it.kind, p.Tenant)
	case scope == jobs.ScopeDatabase && p.Database == "":
		return fmt.Errorf("kind %s works on a whole database: give its name (EnqueueDatabase)", it.kind)
	case scope == jobs.ScopeTenant && p.Database != "":
		return fmt.Errorf("kind %s works for one tenant: give a tenant (Enqueue), not database %q", it.kind, p.Database)
	case scope == jobs.ScopeDatabase:
		it.meta.Database = p.Database
		return nil
	}
	if it.meta.Tenant = p.Tenant; it.meta.Tenant == "" {
		it.meta.Tenant, err = jobs.TenantFrom(ctx)
	}
	return err
}

// newTraceParent begins a W3C trace, sampled.
func newTraceParent() string {
	var id [24]byte
	_, _ = rand.Read(id[:]) // never fails
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-01"
}
