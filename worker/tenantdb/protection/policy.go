package protection

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The policies that are ours, by name.
const (
	policyOrg    = "headgate_org"    // RESTRICTIVE: jobs meet their organisation's rows only
	policyOthers = "headgate_others" // PERMISSIVE: for everybody else nothing changes
	policyJob    = "headgate_job"    // PERMISSIVE: where no other lets jobs through
)

// keys are the present organisation as each type of column compares with it: the key is
// cast and never the column, so that the column's index serves.
var keys = map[string]string{
	"bigint":            "(SELECT headgate.current_org())",
	"integer":           "(SELECT headgate.current_org())::integer",
	"smallint":          "(SELECT headgate.current_org())::smallint",
	"numeric":           "(SELECT headgate.current_org())::numeric",
	"text":              "(SELECT headgate.current_org_key())",
	"character varying": "(SELECT headgate.current_org_key())",
	"character":         "(SELECT headgate.current_org_key())::bpchar",
	"uuid":              "(SELECT headgate.current_org_key())::uuid",
}

// parentAlias is what a policy's parent is called within it.
const parentAlias = "headgate_parent"

// ownCondition compares a relation's own column.
func (p *planner) ownCondition(r *relation, column, of string) (string, error) {
	kind := p.typeOf(r, column)
	key := keys[kind]
	switch {
	case kind == "":
		near := ""
		if other := p.orgColumn(r); other != "" {
			near = fmt.Sprintf(" (it has %s)", other)
		}
		return "", refuse("%s has no column %s%s: name the column that holds the organisation with --org-column, the foreign key to a guarded table with --through, or declare it with --public", r.Name, column, near)
	case key == "":
		return "", refuse("column %s of %s is of type %s: an organisation's column is one of bigint, integer, smallint, numeric, text, varchar, char and uuid", column, r.Name, kind)
	case slices.Contains(r.Loose, column):
		return "", refuse("column %s of %s has a collation under which different values may be equal, so that two tenants' keys may be one: give it a deterministic collation", column, r.Name)
	}
	return fmt.Sprintf("%s.%s = %s", of, column, key), nil
}

// throughCondition asks the parent. With rights of the reader its own policies apply; a view
// of ours runs with its owner's, so that the parent's condition stands within.
func (p *planner) throughCondition(ctx context.Context, r *relation, columns string, inline bool, depth int) (string, error) {
	parent, there, here, err := p.foreignKey(ctx, p.tx, r, columns)
	if err != nil {
		return "", err
	}
	declared := p.declared[parent.Name]
	switch {
	case parent.Name == r.Name:
		return "", refuse("%s leads from %s to itself: name the column that holds the organisation", columns, r.Name)
	case declared.Mode == modePublic:
		return "", refuse("%s leads from %s to %s, which is declared public: every row's parent would be seen by all", columns, r.Name, parent.Name)
	case depth == 0:
		return "", refuse("more than %d tables stand between %s and an organisation's column", maxParents, r.Name)
	}
	var terms []string
	for i := range there {
		terms = append(terms, fmt.Sprintf("%s.%s = %s.%s", parentAlias, there[i], r.Short, here[i]))
	}
	if !inline {
		if declared.Mode == modeView {
			return "", refuse("jobs reach %s through a view only, so that no policy of %s can ask it: take --by view for %s too", parent.Name, r.Name, r.Name)
		}
		if !p.assumed[parent.Name] && (!parent.as[p.login.group].Select || p.unguarded(parent) != "") {
			return "", refuse("%s leads from %s to %s, which jobs may not read under a guard of its own: protect that first, or name both", columns, r.Name, parent.Name)
		}
	} else {
		more, err := p.inlineCondition(ctx, parent, declared, depth)
		if err != nil {
			return "", err
		}
		terms = append(terms, more)
	}
	return fmt.Sprintf("EXISTS (SELECT FROM %s %s WHERE %s)", parent.Name, parentAlias, strings.Join(terms, " AND ")), nil
}

// inlineCondition is what guards a parent, to stand within another's.
func (p *planner) inlineCondition(ctx context.Context, parent *relation, declared declaration, depth int) (string, error) {
	if declared.Column != "" {
		return p.ownCondition(parent, declared.Column, parentAlias)
	}
	if parent.hasColumn(defaultColumn) {
		return p.ownCondition(parent, defaultColumn, parentAlias)
	}
	if declared.Through == "" {
		return "", refuse("what guards %s is not declared: protect it first", parent.Name)
	}
	return "", refuse("%s is itself reached through a parent, which a view cannot ask: protect it by policy, or give it a column of its own", parent.Name)
}

// condition is the WHERE of a table's guard, and how the table is declared.
func (p *planner) condition(ctx context.Context, r *relation, t Table, inline bool) (string, declaration, error) {
	if t.Through != "" {
		where, err := p.throughCondition(ctx, r, t.Through, inline, maxParents)
		return where, declaration{Object: r.Name, Mode: modeThrough, Through: strings.ReplaceAll(t.Through, " ", "")}, err
	}
	declared := p.declared[r.Name]
	column := t.Column
	if column == "" && declared.Mode == modeThrough {
		t.Through = declared.Through
		return p.condition(ctx, r, t, inline)
	}
	if column == "" {
		column = declared.Column
	}
	if column == "" {
		column = defaultColumn
	}
	where, err := p.ownCondition(r, column, r.Short)
	return where, declaration{Object: r.Name, Mode: modePolicy, Column: column}, err
}

// policies plans the guard of a table by row-level security.
func (p *planner) policies(ctx context.Context, r *relation, t Table) error {
	where, d, err := p.condition(ctx, r, t, false)
	if err != nil {
		return err
	}
	if !r.Guarded && len(r.policies) > 0 && slices.ContainsFunc(r.policies, func(q policy) bool { return !q.ours() }) {
		return refuse("table %s has policies, and row-level security is off: switching it on would make them count for the application; switch it on yourself, or drop them, or take --by view", r.Name)
	}
	as, want := p.as(r), p.wanted(r, t)
	if as != "" && !p.tables[r.Name].Refers {
		p.plan.Before = append(p.plan.Before, Statement{SQL: "GRANT USAGE ON SCHEMA headgate TO " + as})
	}
	if !r.Guarded {
		if err := p.harms(ctx, r); err != nil {
			return err
		}
		p.do(as, "ALTER TABLE %s ENABLE ROW LEVEL SECURITY", r.Name)
	}
	if len(r.policies) == 0 {
		p.do(as, "CREATE POLICY %s ON %s AS PERMISSIVE FOR ALL TO PUBLIC USING (true) WITH CHECK (true)", policyOthers, r.Name)
	}
	present := slices.IndexFunc(r.policies, func(q policy) bool { return q.Name == policyOrg })
	if present >= 0 && !p.isOrg(r, r.policies[present], d) {
		p.do(as, "DROP POLICY %s ON %s", policyOrg, r.Name)
		present = -1
	}
	if present < 0 {
		p.do(as, "CREATE POLICY %s ON %s AS RESTRICTIVE FOR ALL TO %s USING (%s) WITH CHECK (%s)", policyOrg, r.Name, jobGroup, where, where)
	}
	if len(r.policies) > 0 && p.blindFor(r, want) {
		p.do(as, "CREATE POLICY %s ON %s AS PERMISSIVE FOR ALL TO %s USING (true) WITH CHECK (true)", policyJob, r.Name, jobGroup)
	}
	for _, q := range r.policies {
		if !q.Permissive && !q.ours() && slices.Contains(q.For, p.login.group) {
			p.note("policy %s of %s holds for jobs too: they see what it lets through only", q.Name, r.Name)
		}
	}
	p.grant(r, r.Name, as, want)
	p.declare(d)
	return p.index(ctx, r, where)
}

func (q policy) ours() bool {
	return q.Name == policyOrg || q.Name == policyOthers || q.Name == policyJob
}

// isOrg says whether our policy stands already as it is to be.
func (p *planner) isOrg(r *relation, q policy, d declaration) bool {
	if q.Permissive || q.Command != "*" || !slices.Contains(q.For, p.login.group) {
		return false
	}
	for _, expr := range []string{q.expression(false), q.expression(true)} {
		col, own := boundColumn(bare(spaces(expr)))
		parent, through := parentOf(bare(spaces(expr)), r.Short)
		switch {
		case d.Mode == modePolicy && (!own || col.name != d.Column):
			return false
		case d.Mode == modeThrough && (!through || strings.Join(parent.here, ",") != d.Through):
			return false
		}
	}
	return true
}

// blindFor says whether a right that jobs are to have meets no permissive policy.
func (p *planner) blindFor(r *relation, want []string) bool {
	commands := map[string]string{"SELECT": "r", "INSERT": "a", "UPDATE": "w", "DELETE": "d"}
	return slices.ContainsFunc(want, func(w string) bool { return len(r.applying(p.login.group, commands[w], true)) == 0 })
}
