package tenantsync

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/jobs"
)

// Args ask for one sync of the catalog with a table of tenants.
type Args struct {
	// Table is a table or view of the job's database, schema.name. Its columns are named as
	// those of an import (`headgate tenant import --help`), and it has no others. It belongs
	// to the owner's login, or to a role whose rights that login has.
	Table string `json:"table"`

	// Source is the name of the sync: tenants of this source that the table lacks are
	// suspended. Two tables must not have one source. "" means default.
	Source string `json:"source,omitempty"`

	// NewTenantsIn is the database, by its name, of new tenants whose rows do not say where
	// they live. "" means that the rows say so.
	NewTenantsIn string `json:"new_tenants_in,omitempty"`

	// AllowMissing is how many tenants the sync suspends, where these are more than 10 and
	// more than 5 % of the source's active ones, or more than half of them. It must be the
	// number. 0 means that such a sync is held.
	AllowMissing int `json:"allow_missing,omitempty"`
}

// DefaultSource is the source of a sync that names none, as of `headgate tenant sync`.
const DefaultSource = "default"

// Kind returns "headgate.sync".
func (Args) Kind() string { return "headgate.sync" }

// KindOpts makes it a job about a database, done by its owner in queue bulk. It has three
// attempts, because the next run of its schedule comes anyway. The transaction idles while the
// catalog is written, which took 160 s where 100,000 tenants were new and the machine was busy.
func (Args) KindOpts() jobs.KindOpts {
	return jobs.KindOpts{
		Queue: jobs.BulkQueue, Scope: jobs.ScopeDatabase, Login: jobs.LoginOwner, MaxAttempts: 3,
		Timeout: 15 * time.Minute, IdleTimeout: 5 * time.Minute,
	}
}

var (
	tablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]{0,62}$`)
	namePattern  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
)

// Check says which field no attempt could work with. Whether the table is there it does
// not know.
func (a Args) Check() error {
	if _, err := a.table(); err != nil {
		return err
	}
	for _, name := range []struct{ field, value string }{{"source", a.Source}, {"new_tenants_in", a.NewTenantsIn}} {
		if name.value != "" && !namePattern.MatchString(name.value) {
			return jobs.Inputf(name.field, name.value, "it must match %s", strings.Trim(namePattern.String(), "^$"))
		}
	}
	if a.AllowMissing < 0 {
		return jobs.Inputf("allow_missing", strconv.Itoa(a.AllowMissing), "give the number of tenants, or 0 for none")
	}
	return nil
}

// SourceName is Source, or what "" means.
func (a Args) SourceName() string { return cmp.Or(a.Source, DefaultSource) }

// table is the table as a statement names it.
func (a Args) table() (pgx.Identifier, error) {
	parts := strings.Split(a.Table, ".")
	if len(parts) != 2 || !tablePattern.MatchString(parts[0]) || !tablePattern.MatchString(parts[1]) {
		return nil, jobs.AsInputError("table", fmt.Errorf("table %.140q: want schema.name of a table or view, as in public.headgate_tenants, each of 1 to 63 letters, digits, _ and $, not beginning with a digit and without quotes", a.Table))
	}
	return parts, nil
}
