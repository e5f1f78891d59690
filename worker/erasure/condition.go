package erasure

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// The tenant's number and key stand in settings of the transaction, because the query of a
// cursor takes no parameters.
const (
	org    = "pg_catalog.current_setting('headgate.erase_org')::bigint"
	orgKey = "pg_catalog.current_setting('headgate.erase_key')"
)

// condition is true of the tenant's rows of a table that a statement calls t.
func (p *plan) condition(t *table) string { return p.conditionAs(t, "t", 0) }

func (p *plan) conditionAs(t *table, alias string, depth int) string {
	if t.Column != "" {
		key, _ := protection.Key(t.Type, org, orgKey) // other types are not in the plan
		return fmt.Sprintf("%s.%s = %s", alias, t.Column, key)
	}
	parent := fmt.Sprintf("p%d", depth)
	further := p.conditionAs(p.byOID[t.Parent], parent, depth+1)
	terms := make([]string, 0, len(t.Here)+1)
	for i := range t.Here {
		terms = append(terms, fmt.Sprintf("%s.%s = %s.%s", parent, t.There[i], alias, t.Here[i]))
	}
	return fmt.Sprintf("EXISTS (SELECT FROM %s %s WHERE %s)", p.byOID[t.Parent].Name, parent, strings.Join(append(terms, further), " AND "))
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
