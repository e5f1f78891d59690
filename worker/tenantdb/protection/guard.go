package protection

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// maxParents is how many parents, one above the other, are followed.
const maxParents = 8

// judgeRelation returns what is wrong with one relation.
func (s *state) judgeRelation(r *relation) (all []Finding) {
	has := r.has()
	add := func(level Level, code, next, says string, args ...any) {
		all = append(all, Finding{Level: level, Code: code, Object: r.Name, Says: fmt.Sprintf(says, args...), Next: next})
	}
	if !has.any() { // a plan has asked for it
		return nil
	}
	if r.Kind == "S" {
		if has.Update && !s.declared.is(r.Name, modePublic) {
			add(Open, "sequence", s.revoke(r, "UPDATE"), "%s may set sequence %s back (UPDATE): all tenants draw from it; USAGE is enough to draw", r.who(), r.Name)
		}
		return all
	}
	if strings.HasPrefix(r.Name, "pg_catalog.") {
		add(Open, "catalog", s.revoke(r, "ALL"), "%s may read %s, which holds values of all tenants' rows", r.who(), r.Name)
		return all
	}
	if r.isHarmless() {
		return nil
	}
	if beyond := (rights{Truncate: has.Truncate, References: has.References, Trigger: has.Trigger}); beyond.any() && r.isTable() && !r.Owned {
		names := strings.Join(beyond.names(), ", ")
		add(Open, "beyond_policies", s.revoke(r, names), "%s has %s on %s %s, which no policy limits", r.who(), names, r.kindName(), r.Name)
	}
	if len(r.Rules) > 0 && has.writes() && !s.declared.is(r.Name, modePublic) {
		add(Open, "rule", s.revoke(r, "INSERT, UPDATE, DELETE"), "rule %s of %s rewrites what jobs write there, with the rights of its owner %s", strings.Join(r.Rules, ", "), r.Name, r.Owner)
	}
	if s.declared.is(r.Name, modePublic) {
		if has.writes() {
			add(Open, "public_written", s.revoke(r, "INSERT, UPDATE, DELETE"), "%s %s is declared public, and %s may write it: one tenant's job would change what all tenants read", r.kindName(), r.Name, r.who())
		}
		if heirs := s.privateHeirs(r); len(heirs) > 0 {
			add(Open, "public_children", fmt.Sprintf("`headgate database protect %s --withdraw %s`", s.database, jobs.ShellWord(r.Name)),
				"table %s is declared public, and whoever reads it reads %s too, which inherits from it", r.Name, strings.Join(heirs, ", "))
		}
		return all
	}
	switch r.Kind {
	case "v":
		return append(all, s.judgeView(r)...)
	case "m", "f":
		add(Open, "unguarded", s.remedy(r), "%s %s has no row-level security, and %s may use it: a job sees every tenant's rows", r.kindName(), r.Name, r.who())
		return all
	}
	if why := s.unguarded(r); why != "" && !s.assumed[r.Name] {
		add(Open, "unguarded", s.remedy(r), "%s may use %s %s, and %s", r.who(), r.kindName(), r.Name, why)
	} else if mixed := s.judgeBrands(r); len(mixed) > 0 {
		all = append(all, mixed...)
	} else if blind := r.blind(); blind != "" && !s.assumed[r.Name] {
		add(Note, "blind", s.remedy(r), "no permissive policy of %s lets the job login %s: jobs find no row, or are refused", r.Name, blind)
	}
	return all
}

// privateHeirs are the tables that inherit from a relation and are not declared public.
func (s *state) privateHeirs(r *relation) (all []string) {
	for _, heir := range r.Heirs {
		if !s.declared.is(heir, modePublic) {
			all = append(all, heir)
		}
	}
	return all
}

// unguarded says why a table's policies do not hold the login to one organisation, "" if
// they do. One column, or one way to a parent, must hold all commands: a row that is checked by
// another than it is read by could be given to another tenant.
func (s *state) unguarded(r *relation) string {
	if r.Owned {
		return "the login is a member of its owner " + r.Owner + ", which its policies do not hold"
	}
	if !r.Guarded {
		return "row-level security is off: a job sees every tenant's rows"
	}
	why := ""
	for _, by := range s.guards(r) {
		if why = s.unguardedBy(r, by); why == "" {
			return ""
		}
	}
	return cmp.Or(why, s.unguardedBy(r, ""))
}

// guards are the columns and ways to parents that a table's policies name.
func (s *state) guards(r *relation) (all []string) {
	for _, p := range r.policies {
		for _, expr := range []string{p.Using, p.Check} {
			for _, c := range conjuncts(spaces(expr)) {
				if by := guardOf(c, r.Short); by != "" && !slices.Contains(all, by) {
					all = append(all, by)
				}
			}
		}
	}
	return all
}

// guardOf names the column that an expression binds, or its way to a parent. "" is for neither.
func guardOf(expr, here string) string {
	if col, ok := boundColumn(expr); ok {
		return col.name
	}
	if p, ok := parentOf(expr, here); ok {
		return namesOf(p.here) + ">" + p.table
	}
	return ""
}

func (s *state) unguardedBy(r *relation, by string) string {
	for _, as := range s.login.as() {
		for _, c := range r.as[as].commands() {
			if !s.holds(r, as, c.command, c.check, by, maxParents) {
				return fmt.Sprintf("no policy binds a column to headgate.current_org() when a job would %s rows: other tenants' rows are open", c.says)
			}
		}
	}
	return ""
}

// access is one way in which a command meets rows.
type access struct {
	command string // as a policy names it: r, a, w, d
	check   bool   // it writes the rows
	says    string
}

// commands are the ways in which these rights meet rows.
func (r rights) commands() (all []access) {
	for _, one := range []struct {
		may bool
		access
	}{
		{r.Select, access{"r", false, "read"}},
		{r.Insert, access{"a", true, "insert"}},
		{r.Update, access{"w", false, "change"}},
		{r.Update, access{"w", true, "write into"}},
		{r.Delete, access{"d", false, "delete"}},
	} {
		if one.may {
			all = append(all, one.access)
		}
	}
	return all
}

// expression is what a policy lets a command through by.
func (p policy) expression(check bool) string {
	if check && p.Check != "" {
		return p.Check
	}
	return p.Using
}

// applying are the policies of one kind that a command of a role meets.
func (r *relation) applying(as uint32, command string, permissive bool) (all []policy) {
	for _, p := range r.policies {
		if p.Permissive == permissive && (p.Command == "*" || p.Command == command) && slices.Contains(p.For, as) {
			all = append(all, p)
		}
	}
	return all
}

// holds says whether a command of a role meets rows of one organisation only: because a
// restrictive policy says so, or every permissive one. by is the column or way that has to; ""
// is for any.
func (s *state) holds(r *relation, as uint32, command string, check bool, by string, depth int) bool {
	binds := func(p policy) bool { return s.binds(r, as, p.expression(check), by, depth) }
	if slices.ContainsFunc(r.applying(as, command, false), binds) {
		return true
	}
	return !slices.ContainsFunc(r.applying(as, command, true), func(p policy) bool { return !binds(p) })
}

// binds says whether an expression over a table's row is true for one organisation only.
func (s *state) binds(r *relation, as uint32, expr, by string, depth int) bool {
	declared := s.declared[r.Name]
	return slices.ContainsFunc(conjuncts(spaces(expr)), func(c string) bool {
		if by != "" && guardOf(c, r.Short) != by {
			return false
		}
		if col, ok := boundColumn(c); ok {
			return (col.table == "" || col.table == r.Short) && (r.exact(col) || r.exact(column{name: col.name}) && col.cast == "uuid") &&
				(declared.Mode != modePolicy || declared.Column == col.name || !r.hasColumn(declared.Column)) // renamed since: the policy has followed
		}
		p, ok := parentOf(c, r.Short)
		return ok && depth > 0 && s.parentHolds(p, r, as, depth-1)
	})
}

// parentHolds says whether a policy's EXISTS finds parents of one organisation only. The
// parent's own policies apply to it, because a policy runs with the reader's rights.
func (s *state) parentHolds(p parentForm, here *relation, as uint32, depth int) bool {
	parent := s.relations[p.table]
	if parent == nil {
		return false // a table of the system, or one that nobody can tell of
	}
	if !parent.as[as].Select {
		return true // the login may not read it: the query is refused
	}
	if s.declared.is(parent.Name, modePublic) || !parent.isTable() || parent.Owned || !p.coversUnique(parent, here) {
		return false
	}
	return s.assumed[parent.Name] || parent.Guarded && s.holds(parent, as, "r", false, "", depth)
}

// blind names what a right allows and no permissive policy lets through.
func (r *relation) blind() string {
	for as, has := range r.as {
		for _, c := range []struct {
			may           bool
			command, says string
		}{{has.Select, "r", "read"}, {has.Insert, "a", "insert"}, {has.Update, "w", "update"}, {has.Delete, "d", "delete"}} {
			if c.may && len(r.applying(as, c.command, true)) == 0 {
				return c.says
			}
		}
	}
	return ""
}

func (r *relation) isTable() bool { return r.Kind == "r" || r.Kind == "p" }

// harmlessRelations come with extensions, are readable for everybody, and hold no tenant's
// rows.
var harmlessRelations = map[string][]string{
	"postgis":            {"spatial_ref_sys", "geometry_columns", "geography_columns"},
	"postgis_raster":     {"raster_columns", "raster_overviews"},
	"pg_stat_statements": {"pg_stat_statements", "pg_stat_statements_info"}, // a role's own texts, without values
	"hypopg":             {"hypopg_list_indexes", "hypopg_hidden_indexes"},
}

func (r *relation) isHarmless() bool {
	return slices.Contains(harmlessRelations[r.Extension], r.Short) && !r.has().writes() && !r.has().Truncate
}
