package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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
	Server     string `json:"server"`     // the name of the server that holds the database
	Region     string `json:"region"`     // the server's, "" if it is in none
	Generation int64  `json:"generation"` // rises with every move

	Version      int       `json:"version"`       // rises with each change of the tenant's row
	StatusReason string    `json:"status_reason"` // why it has its status, "" if nobody said
	StatusBy     string    `json:"status_by"`     // who gave it that
	StatusSince  time.Time `json:"status_since"`
	Waiting      Waiting   `json:"waiting"` // what becomes of its waiting jobs while it takes no work

	// Kinds are those that it may have jobs of, by its own list or its plan's; nil is all.
	// Withheld are those that it may not have for now, each with the feature that it lacks.
	Kinds    []string          `json:"kinds"`
	Withheld map[string]string `json:"withheld"`
}

// TakesWork says whether requests for the tenant's work are accepted: while it is active or
// moving. The error matches jobs.ErrTenantSuspended and says the reason of the status.
func (t Tenant) TakesWork() error {
	if t.Status == Active || t.Status == Moving {
		return nil
	}
	reason := ""
	if t.StatusReason != "" {
		reason = " (" + t.StatusReason + ")"
	}
	return fmt.Errorf("%w: tenant %q is %s%s and takes no work; `headgate tenant show %s` tells since when and by whom", jobs.ErrTenantSuspended, t.Slug, t.Status, reason, t.Slug)
}

// MayHave says whether the tenant may have jobs of a kind now. The error matches
// jobs.ErrKindNotAllowed or jobs.ErrFeatureOff, and names the command that helps.
func (t Tenant) MayHave(kind string) error {
	if t.Kinds != nil && !slices.Contains(t.Kinds, kind) {
		plan := "which has no plan"
		if t.Plan != "" {
			plan = "whose plan is " + t.Plan
		}
		return fmt.Errorf("%w: tenant %q, %s, may not have jobs of kind %s: %s", jobs.ErrKindNotAllowed, t.Slug, plan, kind, GiveKind(t.Slug, t.Kinds, kind))
	}
	if feature, off := t.Withheld[kind]; off {
		return t.Lacks("kind "+kind, feature)
	}
	return nil
}

// Lacks is the error about a feature that something needs and that the tenant does not have.
func (t Tenant) Lacks(needs, feature string) error {
	return fmt.Errorf("%w: %s needs feature %s, which tenant %q does not have: %s", jobs.ErrFeatureOff, needs, feature, t.Slug, GiveFeature(t.Slug, feature))
}

// GiveFeature says how a tenant gets a feature.
func GiveFeature(slug, feature string) string {
	return fmt.Sprintf("`headgate tenant feature %s %s=true` gives the tenant the feature", slug, jobs.ShellWord(feature))
}

// mostGiven is how many kinds a sentence lists.
const mostGiven = 20

// GiveKind says how a tenant gets a kind beside those that it may have. The command names
// those too, because a list of its own replaces the list that it had or its plan's.
func GiveKind(slug string, has []string, kind string) string {
	if len(has) > mostGiven {
		return fmt.Sprintf("give the tenant the kind beside the %s that it has, as `headgate tenant show %s` lists them: `headgate tenant set %s`, with --kind once for each", jobs.Count(len(has), "kind"), slug, slug)
	}
	var flags strings.Builder
	for _, name := range append(slices.Clone(has), kind) {
		flags.WriteString(" --kind " + jobs.ShellWord(name))
	}
	return fmt.Sprintf("`headgate tenant set %s%s` gives the tenant the kind", slug, flags.String())
}

// Waiting says what becomes of the waiting jobs of a tenant that takes no work.
type Waiting string

const (
	HoldWaiting   Waiting = "hold"   // they wait until the tenant is active again
	CancelWaiting Waiting = "cancel" // they are cancelled; running ones end as they would
)

// Status says whether a tenant's work is done.
type Status string

const (
	Provisioning Status = "provisioning" // not ready yet: no work
	Active       Status = "active"       // works
	Suspended    Status = "suspended"    // no work until it is active again
	Moving       Status = "moving"       // its work waits for the new place
	Archived     Status = "archived"     // gone; the row stays so that its org_id does
	Removed      Status = "removed"      // gone for good: its names are free, its UUID and org_id are nobody else's ever
)

func (s Status) check() error {
	switch s {
	case Provisioning, Active, Suspended, Moving, Archived, Removed:
		return nil
	}
	return jobs.Inputf("status", string(s), "give provisioning, active, suspended, moving, archived or removed")
}

// planned has Postgres plan a list for the filters that it is given: a plan for any filters
// walks all tenants, because an index serves only where its filter is there.
const planned = pgx.QueryExecModeCacheDescribe

const (
	defaultLimit = 200
	maxLimit     = 10_000
)

// TenantFilter says which tenants to list. The zero value lists the first 200.
type TenantFilter struct {
	Database string // name or UUID; "" means any
	Plan     string // "" means any
	Status   Status // "" means any but Removed

	// Select is an expression that the tenants must fit. Unlike what is stored it selects
	// archived tenants too; those that are removed are in no list.
	Select selector.Selector

	jobs.Page // Limit is 200, at most 10,000
}

const tenantsSQL = tenantColumns + `
WHERE ($1::uuid IS NULL OR t.database_id = $1)
  AND ($2 = '' OR t.plan = $2)
  AND ($3 = '' AND t.status <> 'removed' OR t.status = $3)
  AND t.slug > $4
ORDER BY t.slug
LIMIT $5`

// selectedTenantsSQL is tenantsSQL for a selector: $6 decides, and the lists only narrow down
// which rows are read.
const selectedTenantsSQL = tenantColumns + `
JOIN headgate.tenant_documents m ON m.id = t.id
WHERE ($1::uuid IS NULL OR t.database_id = $1)
  AND ($2 = '' OR t.plan = $2)
  AND ($3 = '' OR t.status = $3)
  AND t.slug > $4
  AND m.document @@ $6::jsonpath
  AND ($7::text[] IS NULL OR t.slug = ANY ($7))
  AND ($8::text[] IS NULL OR t.plan = ANY ($8))
  AND ($9::text[] IS NULL OR d.name = ANY ($9))
ORDER BY t.slug
LIMIT $5`

const filteredDatabaseSQL = `SELECT id FROM headgate.databases WHERE name = $1 OR id = $2`

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
	database, err := c.filteredDatabase(ctx, filter.Database)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	sql, args := tenantsSQL, []any{database, filter.Plan, string(filter.Status), filter.After, limit + 1}
	if selection := filter.Select.Selection(); !filter.Select.IsAll() {
		sql, args = selectedTenantsSQL, append(args, selection.Path, selection.Tenants, selection.Plans, selection.Databases)
	}
	rows, err := c.pool.Query(ctx, sql, append([]any{planned}, args...)...)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	tenants, err = pgx.CollectRows(rows, scanTenant)
	if err != nil {
		return nil, "", fmt.Errorf("list tenants: %w", err)
	}
	tenants, next = jobs.CutPage(tenants, limit, func(t Tenant) string { return t.Slug })
	return tenants, next, nil
}

// filteredDatabase returns the UUID of a database, nil for "", and one that no database has for
// a name that none has. Postgres plans by the UUID how it finds the database's tenants.
func (c *Catalog) filteredDatabase(ctx context.Context, database string) (*uuid.UUID, error) {
	if database == "" {
		return nil, nil //nolint:nilnil // no database is asked for
	}
	name, id := nameOrID(database)
	if err := c.pool.QueryRow(ctx, filteredDatabaseSQL, name, id).Scan(&id); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	return &id, nil
}

// listedIDsSQL is selectedTenantsSQL without pages. No path selects all.
const listedIDsSQL = `
SELECT m.id::text FROM headgate.tenant_documents m
WHERE m.status <> 'removed' AND ($1::jsonpath IS NULL OR m.document @@ $1::jsonpath)
  AND ($2::text[] IS NULL OR m.slug = ANY ($2))
  AND ($3::text[] IS NULL OR m.plan = ANY ($3))
  AND ($4::text[] IS NULL OR m.database = ANY ($4))`

// ListedIDs returns the UUIDs of the tenants that a list is about which is asked for a
// selector: as Tenants lists them, so archived tenants too. It is never nil.
func (c *Catalog) ListedIDs(ctx context.Context, s selector.Selector) ([]string, error) {
	if err := s.Check(); err != nil {
		return nil, jobs.AsInputError("select", err)
	}
	selection := s.Selection()
	var path *string
	if selection.Path != "" {
		path = &selection.Path
	}
	rows, _ := c.pool.Query(ctx, listedIDsSQL, path, selection.Tenants, selection.Plans, selection.Databases) // its error is CollectRows' too
	ids, err := pgx.AppendRows([]string{}, rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("selecting tenants: %w", err)
	}
	return ids, nil
}

// nameOrID sorts a reference to a database into its two forms. The form that it
// is not is one that no row has.
func nameOrID(text string) (name string, id uuid.UUID) {
	if id, ok := fit.UUID(text); ok {
		return "", id
	}
	return text, uuid.Nil
}
