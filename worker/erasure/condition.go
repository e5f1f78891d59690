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
	return t.unreferredBut("c.ctid = t.ctid")
}

// unreferredBut is true of rows that no foreign key leads to, but for rows of their own part
// of which own is true.
func (t *table) unreferredBut(own string) string {
	terms := make([]string, 0, len(t.references))
	for _, r := range t.references {
		itself := ""
		if r.From == t.OID {
			itself = " AND NOT (c.tableoid = t.tableoid AND " + own + ")"
		}
		terms = append(terms, fmt.Sprintf("NOT EXISTS (SELECT FROM %s c WHERE %s%s)", r.Table, r.On, itself))
	}
	if len(terms) == 0 {
		return "true"
	}
	return strings.Join(terms, " AND ")
}

// itself has the foreign keys of a table to itself.
func (t *table) itself() (all []reference) {
	for _, r := range t.references {
		if r.From == t.OID {
			all = append(all, r)
		}
	}
	return all
}

// removal deletes the rows at the places $1 of a part that no row refers to which stays. Where
// a table refers to itself, rows of a chain go in one statement, however long the chain is:
// what other rows refer to stays, and so does what these refer to.
func (t *table) removal(part string) string {
	const these = "t.ctid = ANY ($1::text[]::tid[])"
	own := t.itself()
	if len(own) == 0 {
		return fmt.Sprintf("DELETE FROM ONLY %s t WHERE %s AND %s", part, these, t.unreferred())
	}
	keys := make([]string, len(own))
	for i, r := range own {
		keys[i] = "(" + r.On + ")"
	}
	return fmt.Sprintf(`WITH RECURSIVE stay (place) AS (
	SELECT t.ctid FROM ONLY %[1]s t WHERE %[2]s AND NOT (%[3]s)
	UNION
	SELECT t.ctid FROM stay s JOIN ONLY %[1]s c ON c.ctid = s.place JOIN ONLY %[1]s t ON %[4]s WHERE %[2]s
) DELETE FROM ONLY %[1]s t WHERE %[2]s AND NOT EXISTS (SELECT FROM stay s WHERE s.place = t.ctid)`,
		part, these, t.unreferredBut("c.ctid = ANY ($1::text[]::tid[])"), strings.Join(keys, " OR "))
}
