package protection_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// TestOrganisationsAreFoundByDeclarationsAndPolicies has a table of each sort, and columns of
// other tables that have the number of an organisation without holding one.
func TestOrganisationsAreFoundByDeclarationsAndPolicies(t *testing.T) {
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
		"public.items order_id ", "public.orders customer_id int8", "public.own org_id int8", "public.own_items order_id ",
		"public.parent org_id int8", "public.viewed org_id int8",
	}, all)
	require.Equal(t, []protection.Undeclared{{"public.no_key", "tenant_id"}, {"public.stray", "customer_id"}, {"public.sums", "org_id"}}, others)
}
