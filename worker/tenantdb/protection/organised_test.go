package protection_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// TestOrganisationsAreFoundByDeclarationsOnly has a table of each sort, and columns of
// other tables that have the number of an organisation without holding one.
func TestOrganisationsAreFoundByDeclarationsOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `
		CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL);
		CREATE TABLE items (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders);
		CREATE TABLE viewed (org_id bigint NOT NULL);
		CREATE TABLE own (org_id bigint);
		ALTER TABLE own ENABLE ROW LEVEL SECURITY;
		CREATE POLICY mine ON own USING (org_id = headgate.current_org());
		CREATE TABLE own_items (order_id bigint REFERENCES orders, other bigint);
		ALTER TABLE own_items ENABLE ROW LEVEL SECURITY;
		CREATE POLICY mine ON own_items USING (EXISTS (SELECT FROM orders o WHERE o.id = own_items.order_id));
		CREATE TABLE no_key (order_id bigint, tenant_id bigint);
		ALTER TABLE no_key ENABLE ROW LEVEL SECURITY;
		CREATE POLICY mine ON no_key USING (EXISTS (SELECT FROM orders o WHERE o.id = no_key.order_id));
		CREATE TABLE stray (customer_id bigint);
		CREATE TABLE plain (n int);
		CREATE TABLE parent (org_id bigint NOT NULL);
		CREATE TABLE heir () INHERITS (parent);
		CREATE MATERIALIZED VIEW sums AS SELECT customer_id AS org_id FROM orders;
		CREATE TABLE countries (org_id bigint)`)
	_, err := protection.Apply(context.Background(), h.owner, protection.Request{
		Database: "shared", Login: h.db.Job.User, Reason: "the same for all", Tables: []protection.Table{
			{Name: "orders", Column: "customer_id"}, {Name: "items", Through: "order_id"}, {Name: "viewed", By: protection.ByView},
			{Name: "parent"}, {Name: "countries", Public: true},
		},
	})
	require.NoError(t, err)
	tables, others, err := protection.Organisations(context.Background(), h.owner)
	require.NoError(t, err)
	var all []string
	for _, o := range tables {
		all = append(all, fmt.Sprintf("%s %s %s", o.Name, o.Column+strings.Join(o.Here, ","), o.Type))
	}
	require.Equal(t, []string{
		"public.items order_id ", "public.orders customer_id bigint", "public.parent org_id bigint", "public.viewed org_id bigint",
	}, all)
	require.Equal(t, []protection.Undeclared{
		{Name: "public.no_key", Why: "tenant_id"}, {Name: "public.own", Why: "org_id"}, {Name: "public.own_items", Why: "it has policies"},
		{Name: "public.stray", Why: "customer_id"}, {Name: "public.sums", Why: "org_id"},
	}, others)
	require.Equal(t, "`headgate database protect shop --table public.stray`", others[3].Command("shop"))
}

// TestADeclarationThatLeadsNowhereIsBroken: nobody can tell whose its rows are.
func TestADeclarationThatLeadsNowhereIsBroken(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `
		CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL);
		CREATE TABLE items (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders);
		CREATE TABLE loose (org_id bigint NOT NULL)`)
	_, err := protection.Apply(context.Background(), h.owner, protection.Request{
		Database: "shared", Login: h.db.Job.User, Tables: []protection.Table{{Name: "orders"}, {Name: "items", Through: "order_id"}, {Name: "loose"}},
	})
	require.NoError(t, err)
	_, err = h.db.Pool.Exec(context.Background(), `ALTER TABLE items DROP CONSTRAINT items_order_id_fkey; ALTER TABLE loose DROP COLUMN org_id CASCADE`)
	require.NoError(t, err)
	tables, others, err := protection.Organisations(context.Background(), h.owner)
	require.NoError(t, err)
	require.Len(t, tables, 1)
	require.Equal(t, []protection.Undeclared{
		{Name: "public.items", Why: "it is declared through order_id, which is no foreign key any more", Broken: true},
		{Name: "public.loose", Why: "it is declared by column org_id, which is gone", Broken: true},
	}, others)
}
