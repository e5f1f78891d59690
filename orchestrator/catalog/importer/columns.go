package importer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/quote"
)

// The columns that an input may have, beside label.KEY and feature.NAME.
var known = []string{
	"slug", "org_id", "org_key", "name", "plan", "timezone", "database", "status", "labels", "features",
	"domains", "subdomains", "email_domains",
	"server", "db_kind", "db_host", "db_port", "db_name", "db_user", "db_password", "connection_string",
	"owner_user", "owner_password", "owner_connection_string",
}

// aliases are the names that columns have elsewhere.
var aliases = map[string]string{
	"org_name": "name", "pricing_plan_type": "plan", "org_domain": "subdomains", "domain": "domains", "subdomain": "subdomains", "email_domain": "email_domains",
	"db_username": "db_user", "db_database": "db_name", "db_connection_string": "connection_string", "dsn": "connection_string",
	"owner_username": "owner_user", "owner_dsn": "owner_connection_string",
}

// secrets are the columns whose values are shown nowhere.
var secrets = []string{"db_password", "connection_string", "owner_password", "owner_connection_string"}

// connections are the columns that say how a tenant's database is reached.
var connections = []string{
	"db_host", "db_port", "db_name", "db_user", "db_password", "connection_string", "owner_user", "owner_password", "owner_connection_string",
}

const (
	labelPrefix   = "label."
	featurePrefix = "feature."
)

// column is one column of an input.
type column struct {
	name    string // the canonical one; "" for one that is ignored
	key     string // of label.KEY and feature.NAME
	written string
}

func (c column) secret() bool { return slices.Contains(secrets, c.name) }

// columns are those of one input, by the name that the input gives them.
type columns struct {
	ignore []string
	given  []column
	has    map[string]bool
}

// add takes a further column, or says what is wrong with its name.
func (cs *columns) add(written string) (c column, err error) {
	c, err = cs.read(written)
	if err != nil {
		return c, err
	}
	if c.name != "" {
		if cs.has[c.name] {
			return c, fmt.Errorf("column %q is given twice%s", c.name, cs.alsoAs(c))
		}
		cs.has[c.name] = true
	}
	cs.given = append(cs.given, c)
	return c, cs.fits()
}

// ignored refuses a column to ignore that the input does not have: the one that was meant would
// be read.
func (cs *columns) ignored() error {
	var written []string
	for _, c := range cs.given {
		written = append(written, c.written)
	}
	for _, name := range cs.ignore {
		if !slices.Contains(written, name) {
			return jobs.Inputf("ignore-columns", name, "the input has no such column%s; give columns as the input names them", didYouMean(name, written))
		}
	}
	return nil
}

func (cs *columns) alsoAs(c column) string {
	for _, other := range cs.given {
		if other.name == c.name && other.written != c.written {
			return fmt.Sprintf(" (as %q and %q)", other.written, c.written)
		}
	}
	return ""
}

func (cs *columns) read(written string) (column, error) {
	c := column{written: written}
	if slices.Contains(cs.ignore, written) {
		return c, nil
	}
	for _, prefix := range []string{labelPrefix, featurePrefix} {
		if key, ok := strings.CutPrefix(written, prefix); ok && key != "" {
			c.name, c.key = written, key
			return c, nil
		}
	}
	name := strings.NewReplacer("-", "_", " ", "_").Replace(strings.ToLower(written))
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	if !slices.Contains(known, name) {
		return c, fmt.Errorf("column %q is unknown%s; `headgate tenant import --help` lists the columns, and --ignore-columns, or a view, leaves some out", cut(written), didYouMean(name, known))
	}
	c.name = name
	return c, nil
}

// fits refuses two forms of one thing.
func (cs *columns) fits() error {
	for _, pair := range [][2]string{{"labels", labelPrefix}, {"features", featurePrefix}} {
		for name := range cs.has {
			if cs.has[pair[0]] && strings.HasPrefix(name, pair[1]) {
				return fmt.Errorf("columns %q and %q say the same in two forms: give one of them", pair[0], name)
			}
		}
	}
	for whole, parts := range map[string][]string{"connection_string": {"db_host", "db_port", "db_name", "db_user", "db_password"}, "owner_connection_string": {"owner_user", "owner_password"}} {
		for _, part := range parts {
			if cs.has[whole] && cs.has[part] {
				return fmt.Errorf("columns %q and %q say the same in two forms: give one of them", whole, part)
			}
		}
	}
	return nil
}

// named reports that a header is one: a row of data may hold a password, and no cell of it
// may be repeated.
func named(header []string) bool {
	probe := columns{has: map[string]bool{}}
	return slices.ContainsFunc(header, func(cell string) bool {
		c, err := probe.read(cell)
		return err == nil && slices.Contains([]string{"slug", "org_id", "org_key", "domains", "subdomains"}, c.name)
	})
}

// didYouMean is the end of a sentence that names what was probably meant, "" for nothing.
func didYouMean(written string, names []string) string {
	near := nearest(written, names)
	if near == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", near)
}

// nearest is the name that was probably meant, "" for none. Capitals count as small letters.
func nearest(written string, names []string) string {
	if len(written) > 100 {
		return ""
	}
	best, least, lower := "", 3, strings.ToLower(written)
	for _, name := range names {
		if distance := levenshtein.ComputeDistance(lower, strings.ToLower(name)); distance < least && distance < len(name) {
			best, least = name, distance
		}
	}
	return best
}

// cut bounds a name that is shown.
func cut(name string) string { return quote.Bare(name, 64) }
