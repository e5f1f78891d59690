package tenancy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// change is a tenant whose row differs, and what the row holds.
type change struct {
	tenant Organisation
	was    []string
}

// units puts changes in an order in which each takes a value that is free by then: a row
// that gives up a name or slug comes before the one that takes it. Rows that change places
// are one unit. A unit's rows are changed together or not at all.
//
// The values are compared without their case, because a unique index may do so. The units
// are the strongly connected components of "takes from", by Tarjan's algorithm, which finds
// those that others take from first.
func (p *plan) units(changes []change) [][]change {
	o := orderer{changes: changes, takes: p.takes(changes), index: make([]int, len(changes)), low: make([]int, len(changes))}
	for i := range changes {
		if o.index[i] == 0 {
			o.visit(i)
		}
	}
	return o.units
}

// takes has, for each change, those whose present value it is to have in a column of a
// unique index.
func (p *plan) takes(changes []change) [][]int {
	takes := make([][]int, len(changes))
	for i := 1; i < len(p.columns); i++ {
		c := p.columns[i]
		if !c.alone {
			continue
		}
		holder := make(map[string]int, len(changes))
		for n, one := range changes {
			holder[strings.ToLower(one.was[i])] = n
		}
		for n, one := range changes {
			value := strings.ToLower(c.kept(p.want(one.tenant)[i]))
			if other, held := holder[value]; held && other != n {
				takes[n] = append(takes[n], other)
			}
		}
	}
	return takes
}

// orderer is Tarjan's algorithm under way.
type orderer struct {
	changes    []change
	takes      [][]int
	index, low []int // index is 0 until a change is visited; low is 0 once it has a unit
	visited    int
	open       []int
	units      [][]change
}

func (o *orderer) visit(n int) {
	o.visited++
	o.index[n], o.low[n] = o.visited, o.visited
	o.open = append(o.open, n)
	for _, next := range o.takes[n] {
		if o.index[next] == 0 {
			o.visit(next)
		}
		if o.low[next] > 0 { // it has no unit yet
			o.low[n] = min(o.low[n], o.low[next])
		}
	}
	if o.low[n] != o.index[n] {
		return
	}
	var unit []change
	for {
		last := o.open[len(o.open)-1]
		o.open, o.low[last] = o.open[:len(o.open)-1], 0
		unit = append(unit, o.changes[last])
		if last == n {
			o.units = append(o.units, unit)
			return
		}
	}
}

// parked are the values of a row that makes its place free for another one. Those that it
// gives up in a unique column, and that are checked row by row, are replaced by ones that
// nobody has: a letter and hexadecimal digits, as many as the column holds.
func (p *plan) parked(one change) []string {
	values := p.want(one.tenant)
	for i, c := range p.columns {
		if i == 0 || !c.atOnce || c.kept(values[i]) == one.was[i] {
			continue
		}
		seed := sha256.Sum256(fmt.Appendf(nil, "%d %s %s", one.tenant.OrgID, c.name, one.was[i]))
		values[i] = "x" + hex.EncodeToString(seed[:12])
		if c.like == "uuid" {
			values[i] = uuid.UUID(seed[:16]).String()
		} else if c.length > 0 {
			values[i] = values[i][:min(c.length, len(values[i]))]
		}
	}
	return values
}

// kept is a value as the column gives it back.
func (c column) kept(value string) string {
	if c.padded {
		return strings.TrimRight(value, " ")
	}
	return value
}
