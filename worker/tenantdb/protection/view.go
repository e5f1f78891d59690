package protection

import (
	"fmt"
	"slices"
)

// judgeView judges a view that the login may use.
func (s *state) judgeView(r *relation) []Finding {
	if r.Invoker {
		return nil // what it reads is read with the login's own rights
	}
	why := "it runs with the rights of its owner " + r.Owner + ", which the policies do not hold"
	if declared, ours := s.declared.shown(r.Name); ours && declared.Mode == modeView {
		if why = s.faultOfShown(r, declared); why == "" {
			return nil
		}
	}
	next := s.remedy(r)
	if declared, ours := s.declared.shown(r.Name); ours {
		next = s.showAgain(declared)
	}
	return []Finding{{Level: Open, Code: "unguarded", Object: r.Name, Next: next,
		Says: fmt.Sprintf("%s may use view %s, and %s", r.who(), r.Name, why)}}
}

// faultOfShown says what is wrong with a view of ours, "" if nothing is.
func (s *state) faultOfShown(r *relation, d declaration) string {
	has := r.has()
	found := viewForm.FindStringSubmatch(spaces(r.Definition))
	switch {
	case r.Schema != AppSchema:
		return "it stands outside schema " + AppSchema
	case !r.Barrier:
		return "it is no security barrier (security_barrier)"
	case (has.Insert || has.Update) && !r.Check:
		return "it does not check what is written through it (WITH CASCADED CHECK OPTION)"
	case has.Insert && has.Update: // ON CONFLICT asks no view which row it meets
		return "jobs may insert into it and change its rows: INSERT … ON CONFLICT DO UPDATE reaches rows that it does not show"
	case r.Owned:
		return "the login is a member of its owner " + r.Owner
	case found == nil || found[2] != d.Object || !s.viewBinds(found[3], found[2], shortOf(found[2]), d.Column, maxParents):
		return "its definition does not bind the organisation of " + d.Object
	}
	return ""
}

// viewBinds says whether the WHERE of a view of ours holds for one organisation only. The view
// runs with its owner's rights, so that each parent must be bound within it.
func (s *state) viewBinds(where, object, here, orgColumn string, depth int) bool {
	return slices.ContainsFunc(conjuncts(where), func(c string) bool {
		if col, ok := boundColumn(c); ok {
			table := s.relations[object]
			return (col.table == "" || col.table == here) && (orgColumn == "" || col.name == orgColumn) && table != nil && table.exact(col)
		}
		p, ok := parentOf(c, here)
		if !ok || depth == 0 {
			return false
		}
		parent := s.relations[p.table]
		return parent != nil && p.coversUnique(parent, s.relations[object]) &&
			slices.ContainsFunc(p.further, func(f string) bool { return s.viewBinds(f, p.table, p.alias, "", depth-1) })
	})
}
