package importer

import (
	"cmp"
	"maps"
	"slices"
)

// NewPlan is a pricing plan that the catalog lacks and an input names. It begins with the
// import, without defaults.
type NewPlan struct {
	Name    string `json:"name"`    // "" where the input has logins, because the value may be one of these
	Line    int    `json:"line"`    // of the input, the first that names it
	Tenants int    `json:"tenants"` // that come to be on it
	Near    string `json:"near"`    // a plan of the catalog with almost the same name; "" for none
}

// shownPlans is how many new plans are told by name.
const shownPlans = 20

// notePlan counts a tenant that comes to be on the plan of its row.
func (p *planner) notePlan(r *row) {
	if p.plans[r.plan] {
		return
	}
	found := p.newPlans[r.plan]
	if found == nil {
		found = &NewPlan{Name: r.plan, Line: r.line}
		p.newPlans[r.plan] = found
	}
	found.Tenants++
}

// collectPlans lists the new plans by line.
func (p *planner) collectPlans() {
	p.plan.Plans, p.plan.NewPlans = len(p.newPlans), []NewPlan{}
	if len(p.newPlans) == 0 {
		return
	}
	first := slices.SortedFunc(maps.Values(p.newPlans), func(a, b *NewPlan) int { return cmp.Compare(a.Line, b.Line) })
	known := slices.Sorted(maps.Keys(p.plans))
	for _, found := range first[:min(len(first), shownPlans)] {
		if p.table.quiet {
			found.Name = ""
		} else {
			found.Near = nearest(found.Name, known)
		}
		p.plan.NewPlans = append(p.plan.NewPlans, *found)
	}
}
