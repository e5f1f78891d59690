package erasure

import (
	"fmt"
	"strings"
)

// The tenant's numbers stand in settings of the session, because the query of a cursor takes
// no parameters.
const setTarget = `SELECT pg_catalog.set_config('headgate.erase_org', $1, false), pg_catalog.set_config('headgate.erase_key', $2, false)`

// keys are the tenant's number or key as each type of column compares with it, so that the
// column's index serves.
var keys = map[string]string{
	"int8":    "pg_catalog.current_setting('headgate.erase_org')::bigint",
	"int4":    "pg_catalog.current_setting('headgate.erase_org')::bigint",
	"int2":    "pg_catalog.current_setting('headgate.erase_org')::bigint",
	"numeric": "pg_catalog.current_setting('headgate.erase_org')::numeric",
	"text":    "pg_catalog.current_setting('headgate.erase_key')",
	"varchar": "pg_catalog.current_setting('headgate.erase_key')",
	"bpchar":  "pg_catalog.current_setting('headgate.erase_key')::bpchar",
	"uuid":    "pg_catalog.current_setting('headgate.erase_key')::uuid",
}

// condition is true of the tenant's rows of a table that a statement calls t. It is false if
// nobody knows how its column compares.
func (p *plan) condition(t *table) (string, bool) { return p.conditionAs(t, "t", 0) }

func (p *plan) conditionAs(t *table, alias string, depth int) (string, bool) {
	if t.Column != "" {
		key, ok := keys[t.Type]
		return fmt.Sprintf("%s.%s = %s", alias, t.Column, key), ok
	}
	parent := fmt.Sprintf("p%d", depth)
	further, ok := p.conditionAs(p.byOID[t.Parent], parent, depth+1)
	terms := make([]string, 0, len(t.Here)+1)
	for i := range t.Here {
		terms = append(terms, fmt.Sprintf("%s.%s = %s.%s", parent, t.There[i], alias, t.Here[i]))
	}
	return fmt.Sprintf("EXISTS (SELECT FROM %s %s WHERE %s)", p.byOID[t.Parent].Name, parent, strings.Join(append(terms, further), " AND ")), ok
}

// unreferred is true of rows that no foreign key leads to. A row that refers to itself goes.
func (t *table) unreferred() string {
	terms := make([]string, 0, len(t.references))
	for _, r := range t.references {
		itself := ""
		if r.From == t.OID {
			itself = " AND NOT (c.tableoid = t.tableoid AND c.ctid = t.ctid)"
		}
		terms = append(terms, fmt.Sprintf("NOT EXISTS (SELECT FROM %s c WHERE %s%s)", r.Table, r.On, itself))
	}
	if len(terms) == 0 {
		return "true"
	}
	return strings.Join(terms, " AND ")
}
