package catalog

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/internal/fit"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Tenant is a tenant with its status and its placement.
type Tenant struct {
	jobs.Tenant
	Status     Status `json:"status"`
	DatabaseID string `json:"database_id"`
	Database   string `json:"database"`   // the database's name
	Generation int64  `json:"generation"` // rises with every move
}

// Status says whether a tenant's work is done.
type Status string

const (
	Provisioning Status = "provisioning" // not ready yet: no work
	Active       Status = "active"       // works
	Suspended    Status = "suspended"    // no work until it is active again
	Moving       Status = "moving"       // its work waits for the new place
	Archived     Status = "archived"     // gone; the row stays so that its org_id does
)

func (s Status) check() error {
	switch s {
	case Provisioning, Active, Suspended, Moving, Archived:
		return nil
	}
	return jobs.Inputf("status", string(s), "give provisioning, active, suspended, moving or archived")
}

const (
	defaultLimit = 200
	maxLimit     = 10_000
)

// TenantFilter says which tenants to list. The zero value lists the first 200.
type TenantFilter struct {
	Database string // name or UUID; "" means any
	Plan     string // "" means any
	Status   Status // "" means any

	// Select is an expression that the tenants must fit. Unlike what is stored it selects
	// archived tenants too; those that are removed are in no list.
	Select selector.Selector

	jobs.Page // Limit is 200, at most 10,000
}

const tenantsSQL = tenantColumns + `
WHERE ($1 = '' OR d.name = $1)
  AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR d.id = $2)
  AND ($3 = '' OR t.plan = $3)
  AND ($4 = '' OR t.status = $4)
  AND t.slug > $5
ORDER BY t.slug
LIMIT $6`

// selectedTenantsSQL is tenantsSQL for a selector: $7 decides, and the lists only narrow down
// which rows are read.
const selectedTenantsSQL = tenantColumns + `
JOIN headgate.tenant_documents m ON m.id = t.id
WHERE ($1 = '' OR d.name = $1)
  AND ($2::uuid = '00000000-0000-0000-0000-000000000000' OR d.id = $2)
  AND ($3 = '' OR t.plan = $3)
  AND ($4 = '' OR t.status = $4)
  AND t.slug > $5
  AND m.document @@ $7::jsonpath
  AND ($8::text[] IS NULL OR t.slug = ANY ($8))
  AND ($9::text[] IS NULL OR t.plan = ANY ($9))
  AND ($10::text[] IS NULL OR d.name = ANY ($10))
ORDER BY t.slug
LIMIT $6`

// Tenants returns the tenants that filter asks for, by slug, and the After of the
// next page ("" if nothing follows).
func (c *Catalog) Tenants(ctx context.Context, filter TenantFilter) (tenants []Tenant, next string, err error) {
	limit, err := filter.Size(defaultLimit, maxLimit)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	if filter.Status != "" {
		if err := filter.Status.check(); err != nil {
			return nil, "", fmt.Errorf("list tenants: %w", err)
		}
	}
	if err := filter.Select.Check(); err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", jobs.AsInputError("select", err))
	}
	name, id := nameOrID(filter.Database)
	sql, args := tenantsSQL, []any{name, id, filter.Plan, string(filter.Status), filter.After, limit + 1}
	if selection := filter.Select.Selection(); !filter.Select.IsAll() {
		sql, args = selectedTenantsSQL, append(args, selection.Path, selection.Tenants, selection.Plans, selection.Databases)
	}
	rows, err := c.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	tenants, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Tenant])
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	tenants, next = jobs.CutPage(tenants, limit, func(t Tenant) string { return t.Slug })
	return tenants, next, nil
}

// SetStatus changes a tenant's status, from any to any. tenant is a slug, UUID
// or org_id. Other Catalogs see it as soon as they are notified (see [Listener]),
// else within FreshFor. Places resolved before stay as they were: whoever moves a
// tenant must fence them off by the generation.
func (c *Catalog) SetStatus(ctx context.Context, tenant string, status Status) error {
	id, err := c.setStatus(ctx, c.pool, tenant, status)
	c.memory.changed(err, id)
	return err
}

// SetStatusTx is SetStatus in the caller's transaction.
func (c *Catalog) SetStatusTx(ctx context.Context, tx pgx.Tx, tenant string, status Status) error {
	_, err := c.setStatus(ctx, tx, tenant, status)
	return err
}

const statusUpdateSQL = `
UPDATE headgate.tenants SET status = $2
WHERE id = $1`

func (c *Catalog) setStatus(ctx context.Context, db beginner, tenant string, status Status) (id string, err error) {
	if err := status.check(); err != nil {
		return "", fmt.Errorf("set status: %w", err)
	}
	id, err = within(ctx, db, func(tx pgx.Tx) (string, error) {
		found, err := tenantByName(ctx, tx, tenant)
		if err != nil {
			return "", err
		}
		_, err = tx.Exec(ctx, statusUpdateSQL, found.ID, status)
		return found.ID, err
	})
	if err != nil {
		return "", fmt.Errorf("set status: %w", err)
	}
	return id, nil
}

// nameOrID sorts a reference to a database into its two forms. The form that it
// is not is one that no row has.
func nameOrID(text string) (name string, id uuid.UUID) {
	if id, ok := fit.UUID(text); ok {
		return "", id
	}
	return text, uuid.Nil
}
