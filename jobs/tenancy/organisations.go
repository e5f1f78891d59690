package tenancy

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Limits of a job of [Organisations].
const (
	// MaxRows bounds the tenants of one database and the rows of its table.
	MaxRows = 100_000

	DefaultRemoveMost = 10
	MaxRemoveMost     = 1_000
)

// Organisations makes the rows of an application's table of organisations equal to the
// tenants that the catalog has placed in the database.
type Organisations struct {
	// Table is the table, schema.name.
	Table string `json:"table"`

	// ID is the column by which a row is found, and needs a unique index of its own. A
	// whole number holds the tenant's org_id; text or uuid holds its org_key. "" means
	// org_id.
	ID string `json:"id,omitempty"`

	// Name is a column of text that holds the tenant's name. "" means name.
	Name string `json:"name,omitempty"`

	// Slug is a column of text that holds the tenant's slug, Key one of text or uuid that
	// holds its org_key. "" means that the table has no such column.
	Slug string `json:"slug,omitempty"`
	Key  string `json:"key,omitempty"`

	// ReportOnly says what differs and writes nothing.
	ReportOnly bool `json:"report_only,omitempty"`

	// Remove deletes the rows that are no tenant's of this database, but none that a
	// foreign key refers to. Without it such rows are named and stay.
	Remove bool `json:"remove,omitempty"`

	// RemoveMost is the number of rows too many up to which Remove deletes them. If there
	// are more, none is deleted, because that is rather a mistake in the catalog. 0 means
	// 10; at most 1,000.
	RemoveMost int `json:"remove_most,omitempty"`
}

// Kind returns "headgate.organisations".
func (Organisations) Kind() string { return "headgate.organisations" }

// KindOpts makes it a job about a database, done by its owner in queue bulk.
func (Organisations) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{Queue: jobs.BulkQueue, Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner}
}

// Check says which field no attempt could work with. Whether the table is there it does
// not know.
func (o Organisations) Check() error {
	_, err := o.plan()
	return err
}

// Organisation is a tenant as its row in the application's table is to be.
type Organisation struct {
	OrgID      int64
	OrgKey     string
	Slug, Name string

	// Kept says that the tenant is archived or removed: its row stays as it is.
	Kept bool
}

// Source lists the tenants that the catalog has placed in a database at this moment, whatever
// their status: at most limit of them, by org_id, those above after. database is the UUID
// that the database's identity row holds. A short page is the last one.
type Source func(ctx context.Context, database string, after int64, limit int) ([]Organisation, error)

// plan is a checked Organisations.
type plan struct {
	table      pgx.Identifier
	oid        uint32   // what the table's name leads to, once it is locked
	columns    []column // of what the rows hold; the first is the id
	reportOnly bool
	remove     bool
	removeMost int
	unfilled   string // a column without which no row can be added
	path       string // the application's search_path
	wait       string // the session's lock_timeout
	deferred   string // the application's constraints that are checked at COMMIT
}

// column is a column of the table, and what it holds.
type column struct {
	field string // of the arguments
	name  string
	like  string // the type that a value is cast to; "": as a text is assigned
	of    func(Organisation) string

	padded bool // a char(n): blanks at the end are nothing
	length int  // the most characters that it holds; 0: as many as there are
	alone  bool // of a unique index or an exclusion constraint
	atOnce bool // one of them is checked row by row
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]{0,62}$`)

const namesAre = "1 to 63 letters, digits, _ and $, not beginning with a digit and without quotes"

// plan fills in the defaults and refuses what no attempt can do.
func (o Organisations) plan() (*plan, error) {
	parts := strings.Split(o.Table, ".")
	if len(parts) != 2 || !namePattern.MatchString(parts[0]) || !namePattern.MatchString(parts[1]) {
		return nil, jobs.AsInputError("table", fmt.Errorf("table %.140q: want schema.name, as in public.organisations, each of %s", o.Table, namesAre))
	}
	p := &plan{table: parts, reportOnly: o.ReportOnly, remove: o.Remove, removeMost: cmp.Or(o.RemoveMost, DefaultRemoveMost)}
	p.columns = []column{
		{field: "id", name: cmp.Or(o.ID, "org_id"), of: func(t Organisation) string { return strconv.FormatInt(t.OrgID, 10) }},
		{field: "name", name: cmp.Or(o.Name, "name"), of: func(t Organisation) string { return t.Name }},
	}
	if o.Slug != "" {
		p.columns = append(p.columns, column{field: "slug", name: o.Slug, of: func(t Organisation) string { return t.Slug }})
	}
	if o.Key != "" {
		p.columns = append(p.columns, column{field: "key", name: o.Key, of: orgKey})
	}
	seen := map[string]string{}
	for _, c := range p.columns {
		if !namePattern.MatchString(c.name) {
			return nil, jobs.AsInputError(c.field, fmt.Errorf("%s %.80q: want a column's name, %s", c.field, c.name, namesAre))
		}
		if other, twice := seen[c.name]; twice {
			return nil, jobs.AsInputError(c.field, fmt.Errorf("%s: column %s holds the %s already; give another column", c.field, c.name, other))
		}
		seen[c.name] = c.field
	}
	return p, p.checkRemoval(o)
}

func (p *plan) checkRemoval(o Organisations) error {
	switch {
	case o.RemoveMost < 0 || o.RemoveMost > MaxRemoveMost:
		return jobs.Inputf("remove_most", strconv.Itoa(o.RemoveMost), "want 1 to %d, or 0 for %d", MaxRemoveMost, DefaultRemoveMost)
	case o.RemoveMost > 0 && !o.Remove:
		return jobs.AsInputError("remove_most", fmt.Errorf("remove_most is given without remove: give remove true as well, or leave remove_most out"))
	case o.Remove && o.ReportOnly:
		return jobs.AsInputError("remove", fmt.Errorf("remove and report_only exclude each other: give one of them"))
	}
	return nil
}

func orgKey(t Organisation) string { return t.OrgKey }
