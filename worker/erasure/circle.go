package erasure

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// leads finds out whose rows refer to the rows that are left.
func (e *eraser) leads(ctx context.Context) error {
	for i := range e.told.left {
		l := &e.told.left[i]
		for _, r := range l.references {
			if l.referred == 0 {
				break
			}
			own, foreign, err := e.lead(ctx, l.table, r)
			if refusal(err) != "" {
				own, foreign = false, true // nobody can tell
			} else if err != nil {
				return fmt.Errorf("looking for what refers to %s: %w", l.Name, err)
			}
			if l.foreign = l.foreign || foreign; own {
				l.own = append(l.own, r.From)
			}
		}
	}
	return nil
}

// lead says whether rows of the tenant refer to the tenant's rows of a table by a foreign key,
// and whether others do. A row that refers to itself keeps none back.
func (e *eraser) lead(ctx context.Context, t *table, r reference) (own, foreign bool, err error) {
	mine := "false"
	if from := e.plan.byOID[r.From]; from != nil {
		mine = "(" + e.plan.conditionAs(from, "c", 0) + ") IS TRUE"
	}
	for _, p := range t.parts {
		refer := fmt.Sprintf("EXISTS (SELECT FROM ONLY %s t JOIN %s c ON %s WHERE %s AND NOT (c.tableoid = t.tableoid AND c.ctid = t.ctid)", p.Name, r.Table, r.On, e.plan.condition(t))
		var one, other bool
		err := e.inLock(ctx, t, p, []reference{r}, fmt.Sprintf("SELECT %[1]s AND %[2]s), %[1]s AND NOT %[2]s)", refer, mine), &one, &other)
		if err != nil {
			return own, foreign, err
		}
		own, foreign = own || one, foreign || other
	}
	return own, foreign, nil
}

// reach has, for each table with rows that are left, the tables whose rows of the tenant keep
// rows there back, by any number of steps. A table on a circle reaches itself.
func (e *eraser) reach() (byOID map[uint32]*leftOf, reach map[uint32][]uint32) {
	byOID, reach = map[uint32]*leftOf{}, map[uint32][]uint32{}
	for i := range e.told.left {
		byOID[e.told.left[i].OID] = &e.told.left[i]
	}
	for oid, l := range byOID {
		for ahead := slices.Clone(l.own); len(ahead) > 0; ahead = ahead[1:] {
			if next := byOID[ahead[0]]; next != nil && !slices.Contains(reach[oid], ahead[0]) {
				reach[oid], ahead = append(reach[oid], ahead[0]), append(ahead, next.own...)
			}
		}
	}
	return byOID, reach
}

// circles has a sentence for each circle of tables. Where nothing but rows of the tenant keeps
// rows back, and nothing else those, some of them refer to each other, and are too many to go
// together: what a column may be set to the application knows.
func (e *eraser) circles() (all []string) {
	byOID, reach := e.reach()
	for i := range e.told.left {
		l := &e.told.left[i]
		ahead := reach[l.OID]
		if l.circle || !slices.Contains(ahead, l.OID) || slices.ContainsFunc(ahead, func(oid uint32) bool { return byOID[oid].hindered() }) {
			continue
		}
		var names, keys []string
		for j := range e.told.left {
			if one := &e.told.left[j]; slices.Contains(ahead, one.OID) && slices.Contains(reach[one.OID], l.OID) {
				one.circle = true
				names = append(names, one.Name)
				for _, r := range one.references {
					if slices.Contains(ahead, r.From) {
						keys = append(keys, r.Name+" of "+r.Table)
					}
				}
			}
		}
		slices.Sort(names)
		all = append(all, fmt.Sprintf("more than %d rows of %s refer to each other: have the application set the columns of one foreign key to NULL in the rows of org_id %d, or delete them (%s)",
			e.cfg.Circle, strings.Join(names, " and "), e.target.OrgID, strings.Join(keys, ", ")))
	}
	return all
}

// hindered says whether something else than rows of the tenant keeps rows.
func (l *leftOf) hindered() bool {
	return l.foreign || l.locked+l.kept+l.refused > 0 || l.why != ""
}
