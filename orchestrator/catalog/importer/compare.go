package importer

import (
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// slugOf is the slug of a row that has none: the first label of its first domain.
func slugOf(r *row) string {
	for _, kind := range []string{catalog.DomainSubdomain, catalog.DomainCustom} {
		for _, d := range r.domains {
			if d.Kind == kind {
				first, _, _ := strings.Cut(d.Name, ".")
				return first
			}
		}
	}
	return ""
}

// compare makes the change of a row, or the new tenant.
func (p *planner) compare(pend pending) {
	r, t := pend.row, pend.tenant
	before := p.wrong.Total
	if t == nil {
		added := p.newTenant(r, pend.slug)
		if p.wrong.Total == before {
			p.plan.changes.Added = append(p.plan.changes.Added, added)
			p.added = append(p.added, Item{Action: Add, Tenant: pend.slug, Line: r.line})
		}
		return
	}
	d := differ{old: t}
	change := p.change(r, t, &d)
	if p.wrong.Total != before {
		return
	}
	if len(d.fields) == 0 {
		p.plan.Unchanged++
		return
	}
	p.plan.changes.Changed = append(p.plan.changes.Changed, change)
	p.changed = append(p.changed, Item{Action: Change, Tenant: t.slug, Line: r.line, Fields: d.fields})
}

// newTenant checks all fields of a row and finds its database.
func (p *planner) newTenant(r *row, slug string) catalog.NewTenant {
	params := catalog.TenantParams{
		Slug: slug, OrgID: r.orgID, OrgKey: r.orgKey, Name: r.name, Plan: r.plan, Timezone: r.timezone, Labels: r.labels,
	}
	p.checkFields(r, params)
	status, err := statusOf(r.status, true)
	if err != nil {
		p.refuse(r, err)
	}
	p.notePlan(r)
	params.Database = p.place(r, nil)
	key := orgKey{params.Database, cmp.Or(r.orgKey, strconv.FormatInt(r.orgID, 10))}
	if first := p.newKeys[key]; first != 0 && key.key != "0" {
		p.say(r, "org_key: line %d has the same in the same database", first)
	}
	p.newKeys[key] = r.line
	return catalog.NewTenant{
		TenantParams: params, Status: status, Features: p.valuesOf(r), Source: p.opts.Source, Domains: r.domains,
	}
}

func (p *planner) checkFields(r *row, params catalog.TenantParams) {
	for _, err := range catalog.CheckTenant(params) {
		p.refuse(r, err)
	}
	if err := catalog.CheckZone(cmp.Or(params.Timezone, "UTC")); err != nil {
		p.refuse(r, err)
	}
}

// valuesOf are the features of a row, as their types want them.
func (p *planner) valuesOf(r *row) map[string]json.RawMessage {
	if len(r.features) == 0 {
		return nil
	}
	values := make(map[string]json.RawMessage, len(r.features))
	for _, name := range slices.Sorted(maps.Keys(r.features)) {
		kind, exists := p.features[name]
		if !exists {
			p.say(r, "features: there is no feature %q%s; the catalog has %s", cut(name), didYouMean(name, slices.Sorted(maps.Keys(p.features))), p.featureNames())
			continue
		}
		value, err := r.features[name].as(featurePrefix+name, catalog.FeatureType(kind))
		if err != nil {
			p.refuse(r, err)
			continue
		}
		values[name] = value
	}
	return values
}

func (p *planner) featureNames() string {
	names := slices.Sorted(maps.Keys(p.features))
	switch {
	case len(names) == 0:
		return "none yet"
	case len(names) > 10:
		return strings.Join(names[:10], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

// cellOfType is the kind of cell that a feature's value has in JSON.
var cellOfType = map[catalog.FeatureType]byte{catalog.FeatureBoolean: isBool, catalog.FeatureNumber: isNumber, catalog.FeatureString: isString}

// as is the value of a feature of a type.
func (c cell) as(field string, of catalog.FeatureType) (json.RawMessage, error) {
	if c.kind != isText && c.kind != cellOfType[of] {
		return nil, jobs.Inputf(field, "", "give a %s", of)
	}
	return of.Parse(field, c.text)
}

// statusOf reads the status of a row. A new tenant cannot be under way to somewhere.
func statusOf(text string, added bool) (catalog.Status, error) {
	status := catalog.Status(cmp.Or(text, string(catalog.Active)))
	switch status {
	case catalog.Active, catalog.Suspended, catalog.Archived:
		return status, nil
	case catalog.Provisioning, catalog.Moving:
		if !added {
			return status, nil
		}
	}
	return "", jobs.Inputf("status", text, "give active, suspended or archived")
}

// differ collects the fields that differ.
type differ struct {
	old    *tenant
	fields []FieldChange
}

// to notes a change of a field, and returns the new value.
func (d *differ) to(field, old, now string) string {
	if old != now {
		d.fields = append(d.fields, FieldChange{field, old, now})
	}
	return now
}

// change compares a row with its tenant: only the columns that the input has.
func (p *planner) change(r *row, t *tenant, d *differ) catalog.BulkChange {
	labels, features := t.own()
	c := catalog.BulkChange{
		ID: t.id.String(), Version: t.version, Slug: t.newSlug, Name: t.name, Plan: t.plan, Timezone: t.timezone, Status: t.status, Source: t.source,
		Renames: t.newSlug != t.slug,
	}
	d.to("slug", t.slug, t.newSlug)
	if p.has("name") {
		c.Name = d.to("name", t.name, cmp.Or(r.name, t.newSlug))
	}
	if p.has("plan") {
		if c.Plan = d.to("plan", t.plan, r.plan); c.Plan != t.plan {
			p.notePlan(r)
		}
	}
	if p.has("timezone") {
		c.Timezone = d.to("timezone", t.timezone, cmp.Or(r.timezone, "UTC"))
	}
	c.Labels = p.newLabels(r, labels, d)
	c.Features = p.newFeatures(r, features, d)
	c.Status = p.newStatus(r, t, d)
	if p.opts.Source != "" {
		c.Source = d.to("source", t.source, p.opts.Source)
	}
	c.AddedDomains, c.RemovedDomains = p.newDomains(r, t, d)
	if len(d.fields) > 0 {
		slug := "" // it was checked when it was given
		if c.Renames {
			slug = t.newSlug
		}
		p.checkFields(r, catalog.TenantParams{Slug: slug, Name: c.Name, Plan: c.Plan, Timezone: c.Timezone, Labels: c.Labels})
	}
	p.place(r, t)
	return c
}

// own are the labels and features of a row of the catalog, which hold objects.
func (t *tenant) own() (labels map[string]string, features map[string]json.RawMessage) {
	labels, features = map[string]string{}, map[string]json.RawMessage{}
	if t.labels != "{}" {
		var any map[string]json.RawMessage
		_ = json.Unmarshal([]byte(t.labels), &any) // the table holds an object
		for key, value := range any {
			var text string
			if json.Unmarshal(value, &text) != nil { // written by psql
				text = string(value)
			}
			labels[key] = text
		}
	}
	if t.features != "{}" {
		_ = json.Unmarshal([]byte(t.features), &features) // the table holds an object
	}
	return labels, features
}

func (p *planner) newLabels(r *row, old map[string]string, d *differ) map[string]string {
	now := maps.Clone(old)
	if p.has("labels") {
		now = map[string]string{}
		maps.Copy(now, r.labels)
	} else {
		for name := range p.table.has {
			key, ok := strings.CutPrefix(name, labelPrefix)
			value, given := r.labels[key]
			switch {
			case ok && given:
				now[key] = value
			case ok:
				delete(now, key)
			}
		}
	}
	for _, key := range keysOf(old, now) {
		was, had := old[key]
		is, has := now[key]
		if had != has || was != is {
			d.fields = append(d.fields, FieldChange{labelPrefix + key, was, is})
		}
	}
	return now
}

func (p *planner) newFeatures(r *row, old map[string]json.RawMessage, d *differ) map[string]json.RawMessage {
	now, given := maps.Clone(old), p.valuesOf(r)
	if p.has("features") {
		now = map[string]json.RawMessage{}
	} else {
		for name := range p.table.has {
			if key, ok := strings.CutPrefix(name, featurePrefix); ok {
				delete(now, key)
			}
		}
	}
	maps.Copy(now, given)
	for _, key := range keysOf(old, now) {
		if !sameValue(old[key], now[key]) {
			d.fields = append(d.fields, FieldChange{featurePrefix + key, string(old[key]), string(now[key])})
		}
	}
	return now
}

func keysOf[V any](a, b map[string]V) []string {
	if len(a)+len(b) == 0 {
		return nil
	}
	keys := append(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b))...)
	slices.Sort(keys)
	return slices.Compact(keys)
}

// sameValue compares two scalars of JSON by their values: 1.0 is 1.
func sameValue(a, b json.RawMessage) bool {
	if string(a) == string(b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	if _, number := x.(float64); !number {
		return x == y
	}
	m, ok := new(big.Rat).SetString(string(a))
	n, okToo := new(big.Rat).SetString(string(b))
	return ok && okToo && m.Cmp(n) == 0
}

// newStatus is the status that a tenant gets. What somebody else has set stays: only an
// active tenant, and one that a sync has stopped, follow the input.
func (p *planner) newStatus(r *row, t *tenant, d *differ) catalog.Status {
	said, err := statusOf(r.status, false)
	if err != nil {
		p.refuse(r, err)
		return t.status
	}
	stopped := t.bySync
	if !p.has("status") {
		if p.opts.Source == "" || !stopped || t.source != p.opts.Source {
			return t.status
		}
		said = catalog.Active // it is back
	}
	switch {
	case said == t.status:
	case t.status != catalog.Active && !stopped, said == catalog.Moving, said == catalog.Provisioning:
		p.plan.Kept++
	default:
		if p.opts.Source != "" && t.status == catalog.Active {
			p.stops(t)
		}
		return catalog.Status(d.to("status", string(t.status), string(said)))
	}
	return t.status
}

// stops counts an active tenant that the input's column status stops. One that the sync takes
// over is of the source from now on.
func (p *planner) stops(t *tenant) {
	p.plan.stopped++
	if t.source != p.opts.Source {
		p.plan.managed++
	}
}

func (p *planner) newDomains(r *row, t *tenant, d *differ) (added, removed []catalog.BulkDomain) {
	for _, column := range []string{"domains", "subdomains", "email_domains"} {
		if !p.has(column) {
			continue
		}
		old, now := namesOf(t.domains, kindsOf[column]), namesOf(r.domains, kindsOf[column])
		for _, name := range now {
			if !slices.Contains(old, name) {
				added = append(added, catalog.BulkDomain{Name: name, Kind: kindsOf[column]})
			}
		}
		for _, name := range old {
			if !slices.Contains(now, name) {
				removed = append(removed, catalog.BulkDomain{Name: name, Kind: kindsOf[column]})
			}
		}
		d.to(column, strings.Join(old, " "), strings.Join(now, " "))
	}
	return added, removed
}

func namesOf(domains []catalog.BulkDomain, kind string) (names []string) {
	for _, d := range domains {
		if d.Kind == kind {
			names = append(names, d.Name)
		}
	}
	slices.Sort(names)
	return names
}
