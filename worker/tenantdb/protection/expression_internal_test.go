package protection

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// asked is a table with a column org_id, and a guarded parent with a key.
func asked() (*state, *relation) {
	const as = 10
	row := func(oid uint32, name string, columns ...string) *relation {
		return &relation{
			relationRow: relationRow{OID: oid, Name: "public." + name, Short: name, Kind: "r", Guarded: true, Columns: columns, Uniques: []string{",id,"}},
			as:          map[uint32]rights{as: {Select: true}},
		}
	}
	orders, items, odd := row(1, "orders", "id", "org_id"), row(2, "items", "id", "order_id", "org_id", `"Org Id"`), row(3, "loose", "id", "org_id")
	for _, r := range []*relation{orders, items, odd} {
		for range r.Columns {
			r.Types = append(r.Types, "int8")
		}
	}
	items.Columns, items.Types = append(items.Columns, "account"), append(items.Types, "numeric")
	orders.policies = []policy{{Command: "*", Using: "(org_id = headgate.current_org())", For: []uint32{as}}}
	odd.Loose, odd.Guarded = []string{"org_id"}, false
	all := map[string]*relation{orders.Name: orders, items.Name: items, odd.Name: odd}
	return &state{login: login{oid: as}, relations: all, declared: declarations{}, assumed: map[string]bool{}}, items
}

// Forms that bind a row to the present organisation, as Postgres writes them.
var binding = []string{
	`(org_id = ( SELECT headgate.current_org() AS current_org))`,
	`(( SELECT headgate.current_org() AS current_org) = org_id)`,
	`(org_id = headgate.current_org())`,
	`(org_id = (( SELECT headgate.current_org() AS current_org))::integer)`,
	`((org_id)::text = ( SELECT headgate.current_org_key() AS current_org_key))`,
	`(org_id = ( SELECT (headgate.current_org_key())::uuid AS current_org_key))`,
	`("Org Id" = ( SELECT headgate.current_org() AS current_org))`,
	`((id > 3) AND (org_id = headgate.current_org()) AND (id IS NOT NULL))`,
	`(((id = 1) OR (id = 2)) AND ((org_id = headgate.current_org()) AND (id > 0)))`,
	"(EXISTS ( SELECT\n   FROM public.orders headgate_parent\n  WHERE (headgate_parent.id = items.order_id)))",
	"(EXISTS ( SELECT 1\n   FROM public.orders\n  WHERE ((orders.id = items.order_id) AND (orders.org_id > 3))))",
	`(order_id = ANY (ARRAY( SELECT headgate_parent.id FROM public.orders headgate_parent)))`,
	`(order_id = ANY (ARRAY( SELECT headgate_parent.id FROM public.orders headgate_parent WHERE (headgate_parent.id > 4))))`,
}

// Forms that bind nothing, or that nobody can tell of.
var loose = []string{
	``, `true`, `(org_id > 0)`, `(org_id <> headgate.current_org())`, `(org_id >= headgate.current_org())`,
	`((account)::bigint = headgate.current_org())`, // 1.4 is 1 then
	`(NOT (org_id = headgate.current_org()))`, `((org_id = headgate.current_org()) OR (id = 1))`, `((org_id = headgate.current_org()) IS NOT NULL)`,
	`((org_id = headgate.current_org()) OR ((id = 1) AND (org_id = headgate.current_org())))`,
	`(nothing = headgate.current_org())`, `(orders.org_id = headgate.current_org())`, `(org_id = public.current_org())`, `(org_id = current_org())`,
	`(org_id OPERATOR(public.=) headgate.current_org())`, `((org_id % 2) = headgate.current_org())`, `((org_id)::smallint = headgate.current_org())`,
	`(org_id = (headgate.current_org() + 1))`, `(org_id = (current_setting('headgate.org'::text))::bigint)`, `(headgate.current_org() = headgate.current_org())`,
	`CASE WHEN (id = 1) THEN (org_id = headgate.current_org()) ELSE true END`,
	`('x'::text = ' AND (org_id = headgate.current_org()) AND '::text)`,
	`(org_id = ANY (ARRAY[headgate.current_org(), (2)::bigint]))`,
	"(EXISTS ( SELECT 1\n   FROM public.orders\n  WHERE (orders.org_id = items.order_id)))", // no key of the parent
	"(EXISTS ( SELECT 1\n   FROM pg_class\n  WHERE (pg_class.id = items.order_id)))",
	"(EXISTS ( SELECT 1\n   FROM public.nowhere p\n  WHERE (p.id = items.order_id)))",
	"(EXISTS ( SELECT 1\n   FROM public.items\n  WHERE (items.id = items.order_id)))",
	"(NOT (EXISTS ( SELECT 1\n   FROM public.orders\n  WHERE (orders.id = items.order_id))))",
	"(EXISTS ( SELECT 1\n   FROM public.orders p\n  WHERE (p.id = items.order_id)\nUNION\n SELECT 1 FROM public.loose))",
	`(order_id = ANY (ARRAY( SELECT p.id FROM public.orders p WHERE (p.id > 4) UNION SELECT q.id FROM public.loose q WHERE (q.id > 1))))`,
	`(order_id = ANY (ARRAY( SELECT p.org_id FROM public.orders p)))`, `(order_id <> ANY (ARRAY( SELECT p.id FROM public.orders p)))`, `(order_id = ALL (ARRAY( SELECT p.id FROM public.orders p)))`,
	`(order_id = ANY (ARRAY( SELECT p.id FROM public.loose p)))`,
}

func TestExpressionsThatBind(t *testing.T) {
	t.Parallel()
	s, r := asked()
	for _, expr := range binding {
		require.True(t, s.binds(r, 10, expr, "", maxParents), expr)
	}
	for _, expr := range loose {
		require.False(t, s.binds(r, 10, expr, "", maxParents), expr)
	}
	require.False(t, s.binds(s.relations["public.loose"], 10, binding[0], "", maxParents), "values that differ may be equal")
	s.declared[r.Name] = declaration{Object: r.Name, Mode: modePolicy, Column: "id"}
	require.False(t, s.binds(r, 10, binding[0], "", maxParents), "another column is declared")
}

// Whatever an expression is, it is read without harm; and what is put beside it by OR, or
// behind NOT, never makes it bind.
func FuzzExpressions(f *testing.F) {
	for _, expr := range append(append([]string{}, binding...), loose...) {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		s, r := asked()
		_ = s.viewBinds(expr, "public.items", "items", "", maxParents)
		_ = viewForm.FindStringSubmatch(spaces(expr))
		bound := s.binds(r, 10, expr, "", maxParents)
		if depthZero(expr, func(int) bool { return true }) && !strings.ContainsAny(expr, `'"`) {
			require.False(t, s.binds(r, 10, "(("+expr+") OR (id = 1))", "", maxParents), expr)
			require.False(t, s.binds(r, 10, "(NOT ("+expr+"))", "", maxParents), expr)
			require.Equal(t, bound || s.binds(r, 10, "("+expr+")", "", maxParents), s.binds(r, 10, "(("+expr+") AND (id = 1))", "", maxParents), expr)
		}
	})
}
