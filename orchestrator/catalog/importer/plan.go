package importer

import (
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Plan is what an import does or would do.
type Plan struct {
	Rows      int `json:"rows"`      // of the input
	Added     int `json:"added"`     // tenants that are new
	Changed   int `json:"changed"`   // tenants that get other values
	Suspended int `json:"suspended"` // tenants of the source that the input lacks
	Unchanged int `json:"unchanged"`

	// Kept are tenants whose status differs from the input's and stays, because somebody
	// else has set it, or a move is under way. They count as changed or unchanged too.
	Kept int `json:"kept"`

	// Removed are rows of tenants that somebody has removed. A sync leaves them out, and never
	// adds such a tenant again.
	Removed int `json:"removed"`

	Databases int `json:"databases"` // that are new
	Logins    int `json:"logins"`    // of databases that get other addresses
	Plans     int `json:"plans"`     // pricing plans that begin with this import, without defaults

	NewPlans []NewPlan `json:"new_plans"` // these, the first 20 in the order of the input

	Items []Item `json:"items"` // added, changed and suspended tenants, in this order

	managed int // active tenants of the source
	stopped int // of these, those that the input's column status stops
	changes catalog.Changes
	said    []catalog.GivenLogins
}

// Tenants is how many tenants are written.
func (p *Plan) Tenants() int { return p.Added + p.Changed + p.Suspended }

// Empty reports that there is nothing to write.
func (p *Plan) Empty() bool { return p.Tenants() == 0 && p.Databases == 0 && p.Logins == 0 }

// Summary is a plan in one sentence, as of what was done, or is to be done (dryRun).
func (p *Plan) Summary(dryRun bool) string {
	done := []string{"added", "changed", "suspended", "added", "replaced"}
	if dryRun {
		done = []string{"to add", "to change", "to suspend", "to add", "to replace"}
	}
	text := fmt.Sprintf("tenants: %d %s, %d %s, %d %s, %d unchanged", p.Added, done[0], p.Changed, done[1], p.Suspended, done[2], p.Unchanged)
	if p.Databases+p.Logins > 0 {
		text += fmt.Sprintf("; databases: %d %s; logins: %d %s", p.Databases, done[3], p.Logins, done[4])
	}
	if p.Plans > 0 {
		text += fmt.Sprintf("; plans: %d new", p.Plans)
	}
	if p.Kept > 0 {
		text += fmt.Sprintf("; kept, because somebody else has set it: the status of %d", p.Kept)
	}
	if p.Removed > 0 {
		text += fmt.Sprintf("; removed tenants in the source, left out: %d", p.Removed)
	}
	switch {
	case dryRun:
		text += " (nothing was changed: a dry run)"
	case p.Empty():
		text += " (nothing to do)"
	}
	return text
}

// The actions of items.
const (
	Add     = "add"
	Change  = "change"
	Suspend = "suspend"
)

// Item is one tenant of a plan.
type Item struct {
	Action string        `json:"action"`
	Tenant string        `json:"tenant"`         // its slug, before the import
	Line   int           `json:"line,omitempty"` // of the input
	Fields []FieldChange `json:"fields,omitempty"`
}

// FieldChange is a field of a tenant that exists.
type FieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

// planner compares an input with the catalog.
type planner struct {
	*state
	table *Table
	opts  Options
	plan  Plan
	wrong RowsError

	added, changed, suspended []Item
	newSlugs                  map[string]int // the lines of new tenants
	newKeys                   map[orgKey]int
	newOrgs                   map[int64]int
	newPlans                  map[string]*NewPlan
	pending                   []pending
}

// orgKey is a key where it must be unique.
type orgKey struct{ database, key string }

// pending is a row whose tenant is known and whose values are to be compared.
type pending struct {
	row    *row
	tenant *tenant // nil for a new one
	slug   string
}

func makePlan(s *state, table *Table, opts Options) (*Plan, error) {
	p := &planner{
		state: s, table: table, opts: opts,
		newSlugs: map[string]int{}, newKeys: map[orgKey]int{}, newOrgs: map[int64]int{}, newPlans: map[string]*NewPlan{},
	}
	p.plan.Rows = len(table.rows)
	for i := range table.rows {
		p.match(&table.rows[i])
	}
	p.claimSlugs()
	p.claimDomains()
	for _, pend := range p.pending {
		p.compare(pend)
	}
	if err := p.wrong.err(); err != nil {
		return nil, err
	}
	p.missing()
	p.plan.Databases = len(p.plan.changes.Databases)
	p.plan.Items = append(append(p.added, p.changed...), p.suspended...)
	p.plan.Added, p.plan.Changed, p.plan.Suspended = len(p.added), len(p.changed), len(p.suspended)
	p.collectPlans()
	p.collectLogins()
	return &p.plan, nil
}

func (p *planner) has(column string) bool { return p.table.has[column] }

// say notes what is wrong with a row. format must hold no value of the input where the
// input has secrets.
func (p *planner) say(r *row, format string, args ...any) {
	p.wrong.add(r.line, fmt.Sprintf(format, args...))
}

func (p *planner) refuse(r *row, err error) { p.wrong.add(r.line, sentence(err, p.table.quiet)) }

// match finds the tenant that a row is.
func (p *planner) match(r *row) {
	t, ok := p.tenantOf(r)
	if !ok {
		return
	}
	if t == nil {
		p.begin(r)
		return
	}
	switch {
	case t.status == removed && p.opts.Source != "":
		p.plan.Removed++
		return
	case t.status == removed:
		p.say(r, "the tenant with org_id %d was removed: take the row out of the table; if the row is another customer, give an org_id and an org_key that nobody had, or none, because the removed tenant's rows would be shown to that customer", t.orgID)
		return
	case t.line != 0:
		p.say(r, "this is the tenant of line %d too (org_id %d)", t.line, t.orgID)
		return
	case r.orgKey != "" && r.orgKey != t.orgKey:
		p.say(r, "org_key: the tenant with org_id %d has another one, which cannot be changed, because the rows of its tables carry it", t.orgID)
		return
	case p.opts.Source != "" && t.source != "" && t.source != p.opts.Source:
		p.say(r, "the tenant with org_id %d belongs to the sync %q; leave it out of this input", t.orgID, t.source)
		return
	}
	t.line = r.line
	slug := t.slug
	if r.slug != "" {
		slug = r.slug
	}
	t.newSlug = slug
	p.pending = append(p.pending, pending{r, t, slug})
}

// tenantOf is the tenant that has the row's org_id, else its org_key, else its slug; nil for
// a new one. It is not ok where these contradict each other.
func (p *planner) tenantOf(r *row) (t *tenant, ok bool) {
	if t := p.byOrg[r.orgID]; t != nil {
		return t, true
	}
	byKey := p.byOrgKey(r)
	switch {
	case len(byKey) > 1:
		p.say(r, "org_key: %s have this one, in different databases; give the org_id", jobs.Count(len(byKey), "tenant"))
		return nil, false
	case len(byKey) == 1 && r.orgID != 0:
		p.say(r, "org_id: the tenant with this org_key has the org_id %d, which cannot be changed, because the rows of its tables carry it", byKey[0].orgID)
		return nil, false
	case len(byKey) == 1:
		return byKey[0], true
	}
	if t := p.bySlug[r.slug]; t != nil && r.orgID == 0 {
		return t, true
	}
	return nil, true
}

func (p *planner) byOrgKey(r *row) []*tenant {
	if r.orgKey == "" {
		return nil
	}
	found := p.byKey[r.orgKey]
	d := p.byName[r.database]
	if len(found) == 0 || d == nil {
		return found
	}
	var there []*tenant
	for _, t := range found {
		if t.databaseID == d.id {
			there = append(there, t)
		}
	}
	return there
}

// begin notes a row that is a new tenant.
func (p *planner) begin(r *row) {
	slug := r.slug
	if slug == "" {
		slug = slugOf(r)
	}
	if slug == "" {
		p.say(r, "slug: it is missing, and there is no domain to take it from")
		return
	}
	if first, twice := p.newOrgs[r.orgID]; twice && r.orgID != 0 {
		p.say(r, "org_id: line %d has the same", first)
		return
	}
	p.newOrgs[r.orgID] = r.line
	p.pending = append(p.pending, pending{r, nil, slug})
}

// claimSlugs lets each slug be one tenant's, after all changes: slugs may be exchanged.
func (p *planner) claimSlugs() {
	renamed := map[string]*tenant{}
	for _, pend := range p.pending {
		t := pend.tenant
		if t == nil || t.newSlug == t.slug {
			continue
		}
		if other := renamed[pend.slug]; other != nil {
			p.say(pend.row, "slug: line %d has the same", other.line)
		}
		if by, named := p.named[t.slug]; named {
			p.say(pend.row, "slug: the tenant with org_id %d keeps %q: %s", t.orgID, t.slug, by)
		}
		renamed[pend.slug] = t
	}
	for _, pend := range p.pending {
		holder := p.bySlug[pend.slug]
		switch {
		case holder != nil && holder != pend.tenant && holder.newSlug == pend.slug:
			p.say(pend.row, "slug: the tenant with org_id %d has it", holder.orgID)
		case pend.tenant != nil:
		case p.newSlugs[pend.slug] != 0:
			p.say(pend.row, "slug: line %d has the same", p.newSlugs[pend.slug])
		case renamed[pend.slug] != nil:
			p.say(pend.row, "slug: line %d has the same", renamed[pend.slug].line)
		default:
			p.newSlugs[pend.slug] = pend.row.line
		}
	}
}

// claimDomains lets each domain be one tenant's, after all changes.
func (p *planner) claimDomains() {
	for _, pend := range p.pending {
		if t := pend.tenant; t != nil {
			for _, d := range t.domains {
				if p.managesDomain(d) {
					delete(p.domains, spaceOf(d))
				}
			}
		}
	}
	for _, pend := range p.pending {
		for _, d := range pend.row.domains {
			other := p.domains[spaceOf(d)]
			switch {
			case other == nil:
				p.domains[spaceOf(d)] = &owner{tenant: pend.tenant, line: pend.row.line}
			case other.line != 0:
				p.say(pend.row, "%s: line %d has one of these domains too", columnOf(d), other.line)
			default:
				p.say(pend.row, "%s: one of these domains is that of the tenant with org_id %d", columnOf(d), other.tenant.orgID)
			}
		}
	}
}

func (p *planner) managesDomain(d catalog.BulkDomain) bool { return p.has(columnOf(d)) }

func columnOf(d catalog.BulkDomain) string {
	for column, kind := range kindsOf {
		if kind == d.Kind {
			return column
		}
	}
	return ""
}

// missing suspends the active tenants of the source that the input lacks.
func (p *planner) missing() {
	if p.opts.Source == "" {
		return
	}
	for _, t := range p.tenants {
		if t.source != p.opts.Source || t.status != catalog.Active {
			continue
		}
		p.plan.managed++
		if t.line != 0 {
			continue
		}
		labels, features := t.own()
		p.suspended = append(p.suspended, Item{Action: Suspend, Tenant: t.slug, Fields: []FieldChange{{"status", string(catalog.Active), string(catalog.Suspended)}}})
		p.plan.changes.Changed = append(p.plan.changes.Changed, catalog.BulkChange{
			ID: t.id.String(), Version: t.version, Slug: t.slug, Name: t.name, Plan: t.plan, Timezone: t.timezone,
			Labels: labels, Features: features, Status: catalog.Suspended, Source: t.source,
		})
	}
}
