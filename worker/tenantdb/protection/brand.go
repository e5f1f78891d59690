package protection

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// brandPolicy plans that jobs of a brand meet its rows only. Restrictive policies hold
// together: a brand of another organisation has the same number and other rows. A job of
// all brands meets them all. A policy that stands already is left as it is.
func (p *planner) brandPolicy(r *relation, as string, t Table, d *declaration) error {
	d.Brand = cmp.Or(t.Brand, p.declared[r.Name].Brand)
	if d.Brand == "" {
		return nil
	}
	if d.Brand == d.Column || slices.Contains(looks, d.Brand) {
		return refuse("column %s of %s holds an organisation, and by it jobs of a brand would see no rows: name the column that holds the tenant's own number of the brand, 0 to 9999, with --brand-column", d.Brand, r.Name)
	}
	switch kind := p.typeOf(r, d.Brand); kind {
	case "smallint", "integer", "bigint":
	case "":
		return refuse("%s has no column %s: name the column that holds the brand with --brand-column", r.Name, d.Brand)
	default:
		return refuse("column %s of %s is of type %s: a brand's column is one of smallint, integer and bigint", d.Brand, r.Name, kind)
	}
	present := slices.IndexFunc(r.policies, func(q policy) bool { return q.Name == policyBrand })
	if present >= 0 && p.isBrandOf(r.policies[present], d.Brand) {
		return nil
	}
	if present >= 0 {
		p.do(as, "DROP POLICY %s ON %s", policyBrand, r.Name)
	}
	condition := fmt.Sprintf("(SELECT headgate.current_brand()) IS NULL OR %s.%s = (SELECT headgate.current_brand())", r.Short, d.Brand)
	p.do(as, "CREATE POLICY %s ON %s AS RESTRICTIVE FOR ALL TO %s USING (%s) WITH CHECK (%s)", policyBrand, r.Name, jobGroup, condition, condition)
	return nil
}

// isBrandOf says whether our policy stands already as it is to be.
func (p *planner) isBrandOf(q policy, column string) bool {
	if q.Permissive || q.Command != "*" || !slices.Contains(q.For, p.login.group) {
		return false
	}
	for _, expr := range []string{q.expression(false), q.expression(true)} {
		if col, ok := boundBrand(spaces(expr)); !ok || col.name != column || col.cast != "" || !strings.Contains(expr, " OR ") {
			return false
		}
	}
	return true
}

var brandCallForm = regexp.MustCompile(`^headgate\.current_brand\(\)$`)

// isBrand says whether an expression is the present brand, asked once for a query or once a
// row.
func isBrand(expr string) bool {
	expr = bare(expr)
	if inner := selectForm.FindStringSubmatch(expr); inner != nil {
		expr = bare(inner[1])
	}
	return brandCallForm.MatchString(expr)
}

// boundBrand reads "the job is of all brands, or column = the present brand". The second half
// alone binds the column too.
func boundBrand(expr string) (column, bool) {
	parts := split(bare(expr), " OR ")
	parts = slices.DeleteFunc(parts, func(part string) bool {
		all, ok := strings.CutSuffix(bare(part), " IS NULL")
		return ok && isBrand(all)
	})
	if len(parts) != 1 {
		return column{}, false
	}
	return boundBy(parts[0], isBrand)
}

// mixesBrands says why a job of one brand meets rows of other brands in a table that is
// declared to keep them apart. "" means that it does not. Only restrictive policies count,
// because any permissive one lets a row through.
func (s *state) mixesBrands(r *relation) string {
	declared := s.declared[r.Name].Brand
	if declared == "" {
		return ""
	}
	if !r.Guarded {
		return "row-level security is off: a job of one brand meets rows of its tenant's other brands"
	}
	binds := func(expr string) bool {
		return slices.ContainsFunc(conjuncts(spaces(expr)), func(c string) bool {
			col, ok := boundBrand(c)
			return ok && (col.table == "" || col.table == r.Short) && r.exact(col) &&
				(col.name == declared || !r.hasColumn(declared)) // renamed since: the policy has followed
		})
	}
	for as := range r.as {
		for _, c := range r.as[as].commands() {
			if !slices.ContainsFunc(r.applying(as, c.command, false), func(p policy) bool { return binds(p.expression(c.check)) }) {
				return fmt.Sprintf("no restrictive policy binds column %s to headgate.current_brand() when a job would %s rows: a job of one brand meets rows of its tenant's other brands", declared, c.says)
			}
		}
	}
	return ""
}

// keepBrands is the command that makes a table keep brands apart again.
func (s *state) keepBrands(r *relation) string {
	return fmt.Sprintf("`headgate database protect %s --table %s --brand-column %s`", s.database, jobs.ShellWord(r.Name), jobs.ShellWord(s.declared[r.Name].Brand))
}

// judgeBrands finds what is open of a table that is declared to keep brands apart.
func (s *state) judgeBrands(r *relation) []Finding {
	why := s.mixesBrands(r)
	if why == "" || s.assumed[r.Name] || !r.has().any() {
		return nil
	}
	return []Finding{{Level: Open, Code: "mixed_brands", Object: r.Name, Next: s.keepBrands(r),
		Says: fmt.Sprintf("%s may use %s %s, and %s", r.who(), r.kindName(), r.Name, why)}}
}

// haveBrands says whether a table is declared to keep brands apart.
func (d declarations) haveBrands() bool {
	for _, one := range d {
		if one.Brand != "" {
			return true
		}
	}
	return false
}
