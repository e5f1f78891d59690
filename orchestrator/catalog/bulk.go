package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Bulk writes what an import has found to differ, by statements whose number does not grow
// with the number of tenants.
type Bulk struct{ c *Catalog }

// NewBulk returns the bulk writes of a catalog. New databases and logins need its key ring.
func NewBulk(c *Catalog) *Bulk { return &Bulk{c} }

// Changes are the writes of one import. All are made, or none.
type Changes struct {
	Databases []DatabaseParams
	Logins    []LoginChange
	Added     []NewTenant
	Changed   []BulkChange

	// Sync says that a sync stops the tenants that are stopped, which a later sync may undo.
	// Otherwise who makes the changes stops them, for the reason that the context gives.
	Sync bool
}

// stopper says of tenants that are stopped by whom and why.
type stopper struct{ by, reason, stopped string }

func (c Changes) stopper(ctx context.Context) stopper {
	actor := access.From(ctx)
	s := stopper{by: actor.Name, reason: actor.Reason}
	if c.Sync {
		s.reason, s.stopped = "sync", "sync"
	}
	return s
}

// LoginChange is the new address of one login of a database that exists.
type LoginChange struct {
	DatabaseID string
	Login      jobs.Login
	Address    address.Address
}

// NewTenant is a tenant to add.
type NewTenant struct {
	TenantParams
	Status   Status                     // "" means Active
	Features map[string]json.RawMessage // its own values
	Source   string                     // the sync that it comes from, "" for none
	Domains  []BulkDomain
}

// BulkChange is the whole new row of a tenant, except its org_id, org_key and placement.
type BulkChange struct {
	ID      string
	Version int // of the row that was read: another one is ErrChanged

	Slug, Name, Plan, Timezone string
	Labels                     map[string]string
	Features                   map[string]json.RawMessage
	Status                     Status
	Source                     string

	Renames        bool // the slug is another one than before
	RemovedDomains []BulkDomain
	AddedDomains   []BulkDomain
}

// BulkDomain is a name that leads to a tenant: one of its domains, or of its e-mail addresses.
type BulkDomain struct {
	Name string // canonical: see CheckDomain
	Kind string // DomainSubdomain, DomainCustom or DomainEmail
}

// DomainEmail is the kind of a domain of e-mail addresses.
const DomainEmail = "email"

// bulkSize bounds the rows of one statement.
const bulkSize = 10_000

// Apply makes the changes in a transaction of its own. Errors match ErrExists for a name,
// number or domain that somebody else has taken meanwhile, ErrChanged, or are those of
// AddDatabase, AddTenant and Logins.Set.
func (b *Bulk) Apply(ctx context.Context, changes Changes) error {
	defer b.c.memory.drop()
	return b.applyOn(ctx, b.c.pool, changes)
}

// ApplyTx is Apply in the caller's transaction.
func (b *Bulk) ApplyTx(ctx context.Context, tx pgx.Tx, changes Changes) error {
	return b.applyOn(ctx, tx, changes)
}

func (b *Bulk) applyOn(ctx context.Context, db beginner, changes Changes) error {
	added, err := prepareNew(changes.Added) // before there is a lock that others wait for
	if err != nil {
		return err
	}
	_, err = within(ctx, db, func(tx pgx.Tx) (none struct{}, err error) { return none, b.apply(ctx, tx, changes, added) })
	return err
}

// newRows are new tenants, and what they were made of.
type newRows struct {
	tenants []Tenant
	params  []TenantParams
	added   []NewTenant
}

func prepareNew(added []NewTenant) (rows newRows, err error) {
	rows.added, rows.params = added, make([]TenantParams, len(added))
	for i, t := range added {
		rows.params[i] = t.TenantParams
	}
	rows.tenants, err = newTenants(rows.params)
	return rows, err
}

// orgIDsLockSQL takes the turn of those who add tenants, which imports take too: two of
// them that meet at the same rows would else wait for each other.
const orgIDsLockSQL = `SELECT highest FROM headgate.org_ids FOR UPDATE`

func (b *Bulk) apply(ctx context.Context, tx pgx.Tx, changes Changes, added newRows) error {
	if _, err := tx.Exec(ctx, orgIDsLockSQL); err != nil {
		return err
	}
	if err := b.c.insertDatabases(ctx, tx, changes.Databases); err != nil {
		return fmt.Errorf("add databases: %w", b.c.ring.retiredKey(err))
	}
	for _, l := range changes.Logins {
		if _, err := b.c.setLogin(ctx, tx, l.DatabaseID, l.Login, l.Address); err != nil {
			return err
		}
	}
	var lost, gained bulkDomains
	for _, c := range changes.Changed {
		lost.add(c.ID, c.RemovedDomains)
		gained.add(c.ID, c.AddedDomains)
	}
	for i, t := range added.tenants {
		gained.add(t.ID, added.added[i].Domains)
	}
	if err := lost.delete(ctx, tx); err != nil {
		return err
	}
	if err := changeTenants(ctx, tx, changes.Changed, changes.stopper(ctx)); err != nil {
		return err
	}
	if err := added.insert(ctx, tx, changes.stopper(ctx)); err != nil {
		return err
	}
	return gained.insert(ctx, tx)
}

// insert numbers the new tenants and writes them.
func (r newRows) insert(ctx context.Context, tx pgx.Tx, who stopper) error {
	if len(r.tenants) == 0 {
		return nil
	}
	if err := reserveOrgIDs(ctx, tx, r.tenants); err != nil {
		return err
	}
	databases, err := databasesOf(ctx, tx, r.params)
	if err != nil {
		return err
	}
	for i := range r.tenants {
		r.tenants[i].DatabaseID = databases[r.params[i].Database].id.String()
	}
	for from := 0; from < len(r.tenants); from += bulkSize {
		to := min(from+bulkSize, len(r.tenants))
		if err := insertMany(ctx, tx, r.tenants[from:to], r.added[from:to], databases, who); err != nil {
			return err
		}
	}
	return nil
}

const manyTenantsInsertSQL = `
INSERT INTO headgate.tenants (id, org_id, org_key, slug, name, plan, timezone, labels, features, status, status_reason, status_by, stopped_by, source, database_id, database_kind)
SELECT t.id, t.org_id, nullif(t.org_key, ''), t.slug, t.name, t.plan, t.timezone, t.labels::jsonb, t.features::jsonb,
       t.status, CASE t.status WHEN 'active' THEN '' ELSE $14 END, CASE t.status WHEN 'active' THEN '' ELSE coalesce(nullif($13::text, ''), session_user) END,
       CASE WHEN t.status IN ('suspended', 'archived') THEN $15 ELSE '' END, t.source, d.id, d.kind
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[])
     AS t (id, org_id, slug, name, plan, timezone, labels, database_id, org_key, features, status, source)
JOIN headgate.databases d ON d.id = t.database_id`

func insertMany(ctx context.Context, tx pgx.Tx, tenants []Tenant, added []NewTenant, databases map[string]databaseRow, who stopper) error {
	var orgIDs []int64
	var texts [11][]string
	for i, t := range tenants {
		orgIDs = append(orgIDs, t.OrgID)
		status := added[i].Status
		if status == "" {
			status = Active
		}
		for column, value := range []string{
			t.ID, t.Slug, t.Name, t.Plan, t.Timezone, jsonOf(t.Labels), t.DatabaseID, t.OrgKey, jsonOf(added[i].Features), string(status), added[i].Source,
		} {
			texts[column] = append(texts[column], value)
		}
	}
	_, err := tx.Exec(ctx, manyTenantsInsertSQL, texts[0], orgIDs, texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], texts[8], texts[9], texts[10], who.by, who.reason, who.stopped)
	return placeConflict(tenantConflict(err, databases))
}

// jsonOf is a map as a JSON object. Maps of texts and of checked JSON always have one.
func jsonOf[V any](of map[string]V) string {
	if len(of) == 0 {
		return "{}"
	}
	text, err := json.Marshal(of)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	return string(text)
}

// A slug that another row of the statement still has would break the unique constraint,
// which is checked row by row. Such rows step aside first.
const slugsAsideSQL = `
UPDATE headgate.tenants
SET slug = 'renamed-' || replace(id::text, '-', '')
WHERE id = ANY ($1) AND status <> 'removed'`

const manyTenantsUpdateSQL = `
UPDATE headgate.tenants t
SET slug = c.slug, name = c.name, plan = c.plan, timezone = c.timezone, labels = c.labels::jsonb, features = c.features::jsonb, source = c.source,
    status = c.status,
    status_reason = CASE WHEN t.status = c.status THEN t.status_reason WHEN c.status = 'active' THEN '' ELSE $12 END,
    status_by = CASE WHEN t.status = c.status THEN t.status_by ELSE coalesce(nullif($11::text, ''), session_user) END,
    stopped_by = CASE WHEN t.status = c.status THEN t.stopped_by WHEN c.status IN ('suspended', 'archived') THEN $13 ELSE '' END
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
     AS c (id, version, slug, name, plan, timezone, labels, features, status, source)
WHERE t.id = c.id AND t.version = c.version`

// changeTenants writes new rows over those of the versions that were read.
func changeTenants(ctx context.Context, tx pgx.Tx, changes []BulkChange, who stopper) error {
	var renamed []string
	aside := map[string]bool{}
	for _, c := range changes {
		if c.Renames {
			renamed = append(renamed, c.ID)
			aside[c.ID] = true
		}
	}
	if len(renamed) > 1 {
		if _, err := tx.Exec(ctx, slugsAsideSQL, renamed); err != nil {
			return tenantConflict(err, nil)
		}
	} else {
		clear(aside)
	}
	for chunk := range slices.Chunk(changes, bulkSize) {
		var versions []int32
		var texts [9][]string
		for _, c := range chunk {
			version := c.Version
			if aside[c.ID] {
				version++ // by the statement before
			}
			versions = append(versions, int32(version))
			for column, value := range []string{c.ID, c.Slug, c.Name, c.Plan, c.Timezone, jsonOf(c.Labels), jsonOf(c.Features), string(c.Status), c.Source} {
				texts[column] = append(texts[column], value)
			}
		}
		tag, err := tx.Exec(ctx, manyTenantsUpdateSQL, texts[0], versions, texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], texts[8], who.by, who.reason, who.stopped)
		if err != nil {
			return tenantConflict(err, nil)
		}
		if tag.RowsAffected() != int64(len(chunk)) {
			return ErrChanged
		}
	}
	return nil
}

// bulkDomains are domains of tenants, of all kinds.
type bulkDomains struct{ tenants, names, kinds []string }

func (r *bulkDomains) add(tenant string, domains []BulkDomain) {
	for _, d := range domains {
		r.tenants, r.names, r.kinds = append(r.tenants, tenant), append(r.names, d.Name), append(r.kinds, d.Kind)
	}
}

const domainsDeleteSQL = `
DELETE FROM headgate.tenant_domains d
USING unnest($1::uuid[], $2::text[], $3::text[]) AS r (tenant_id, domain, kind)
WHERE d.domain = r.domain AND d.tenant_id = r.tenant_id AND d.kind = r.kind`

const emailsDeleteSQL = `
DELETE FROM headgate.tenant_emails d
USING unnest($1::uuid[], $2::text[], $3::text[]) AS r (tenant_id, domain, kind)
WHERE d.domain = r.domain AND d.tenant_id = r.tenant_id AND r.kind = 'email'`

func (r *bulkDomains) delete(ctx context.Context, tx pgx.Tx) error {
	return r.do(ctx, tx, domainsDeleteSQL, emailsDeleteSQL)
}

const domainsInsertSQL = `
INSERT INTO headgate.tenant_domains (domain, tenant_id, kind)
SELECT r.domain, r.tenant_id, r.kind FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (tenant_id, domain, kind) WHERE r.kind <> 'email'`

const emailsInsertSQL = `
INSERT INTO headgate.tenant_emails (domain, tenant_id)
SELECT r.domain, r.tenant_id FROM unnest($1::uuid[], $2::text[], $3::text[]) AS r (tenant_id, domain, kind) WHERE r.kind = 'email'`

func (r *bulkDomains) insert(ctx context.Context, tx pgx.Tx) error {
	err := r.do(ctx, tx, domainsInsertSQL, emailsInsertSQL)
	if constraint, domain := violation(err); constraint == "tenant_domains_pkey" || constraint == "tenant_emails_pkey" {
		return existsf(err, "domain %q is taken already", domain)
	}
	return err
}

func (r *bulkDomains) do(ctx context.Context, tx pgx.Tx, statements ...string) error {
	for from := 0; from < len(r.names); from += bulkSize {
		to := min(from+bulkSize, len(r.names))
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql, r.tenants[from:to], r.names[from:to], r.kinds[from:to]); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckTenant returns what is wrong with the fields of a tenant, except its time zone and
// database. A slug "" is not looked at.
func CheckTenant(p TenantParams) (wrong []error) {
	if err := checkOrgID(p.OrgID); err != nil {
		wrong = append(wrong, err)
	}
	if p.Slug != "" {
		if err := checkSlug(p.Slug); err != nil {
			wrong = append(wrong, err)
		}
	}
	for _, err := range []error{
		checkOrgKey(p.OrgKey), jobs.CheckText("name", p.Name, maxText), CheckPlan("plan", p.Plan), checkLabels(p.Labels),
	} {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// CheckZone says what is wrong with the name of a time zone, nil for nothing.
func CheckZone(zone string) error { return checkZone(zone) }

// CheckName says what is wrong with the name of a database or server, nil for nothing.
func CheckName(field, name string) error { return checkName(field, name) }

// CanonicalKey is an org_key in the one form that two equal keys have.
func CanonicalKey(key string) string { return canonicalKey(key) }
