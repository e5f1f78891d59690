package protection_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// guards is what a table's row-level security is made of, and what jobs may do with it.
const guards = `
SELECT c.relrowsecurity || ' ' || coalesce((SELECT string_agg(p.polname, ' ' ORDER BY p.polname) FROM pg_policy p WHERE p.polrelid = c.oid), '-')
       || ' ' || has_table_privilege('headgate_job', c.oid, 'SELECT') FROM pg_class c WHERE c.oid = $1::regclass`

func (h *house) text(sql string, args ...any) (text string) {
	h.t.Helper()
	require.NoError(h.t, h.db.Pool.QueryRow(context.Background(), sql, args...).Scan(&text), sql)
	return text
}

func withdrawing(h *house, names ...string) protection.Request {
	req := h.request()
	req.Withdraw = names
	return req
}

// What is withdrawn is as it was before it was declared, and jobs have lost it.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	app := h.role("NOLOGIN")
	h.mine(`CREATE TABLE theirs (org_id bigint NOT NULL)`, `ALTER TABLE theirs ENABLE ROW LEVEL SECURITY`, `CREATE POLICY own ON theirs TO `+app+` USING (true)`,
		`CREATE TABLE codes (code text)`, `CREATE TABLE gone (code text)`, `CREATE TABLE shown (org_id bigint NOT NULL)`,
		`CREATE FUNCTION total(bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT $1'`)
	relations := []string{"orders", "items", "theirs", "codes", "shown"}
	before := map[string]string{}
	for _, name := range relations {
		before[name] = h.text(guards, name)
	}
	req := h.request(protection.Table{Name: "orders"}, protection.Table{Name: "items", Through: "order_id"}, protection.Table{Name: "theirs"},
		protection.Table{Name: "codes", Public: true}, protection.Table{Name: "gone", Public: true}, protection.Table{Name: "shown", By: protection.ByView})
	req.Functions, req.Reason, req.Actor = []string{"total"}, "a test", "ann"
	h.protect(req)
	h.mine(`DROP TABLE gone`)
	require.Empty(t, h.open())

	declared, err := protection.Declarations(context.Background(), h.owner)
	require.NoError(t, err)
	require.Len(t, declared, 7)
	require.Equal(t, "ann", declared[0].Actor)
	require.Equal(t, "a test", declared[0].Reason)
	require.NotZero(t, declared[0].DeclaredAt)

	h.refused(withdrawing(h, "nothing"), "nothing is declared of nothing")
	h.refused(withdrawing(h, "codes", "public.codes"), "withdrawn twice")
	both := h.request(protection.Table{Name: "orders"})
	both.Withdraw = []string{"orders"}
	h.refused(both, "declared and withdrawn")
	h.refused(withdrawing(h, "total(bigint)"), "would still be open", "REVOKE EXECUTE")
	h.mine(`REVOKE EXECUTE ON FUNCTION total FROM PUBLIC`)

	h.refused(withdrawing(h, "orders"), "public.items is reached through public.orders")
	h.protect(withdrawing(h, "orders", "public.items"))
	require.Equal(t, before["orders"], h.text(guards, "orders"))
	h.protect(withdrawing(h, "theirs", "codes", "public.gone", "shown", "total(bigint)"))
	for _, name := range relations {
		require.Equal(t, before[name], h.text(guards, name), name)
	}
	require.Equal(t, "0 0", h.text(`SELECT (SELECT count(*) FROM headgate.protected) || ' ' || (SELECT count(*) FROM pg_class WHERE relnamespace = 'headgate_app'::regnamespace)`))
	require.Empty(t, h.open())
	h.protect(h.request(protection.Table{Name: "orders"}, protection.Table{Name: "shown", By: protection.ByView}))
	require.Empty(t, h.open(), "what was withdrawn may be declared again")
}

// A view of Headgate's that jobs do not find is noted, with what brings it back.
func TestViewsThatJobsDoNotFind(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	req := h.request(protection.Table{Name: "orders", By: protection.ByView})
	h.protect(req)
	require.Empty(t, h.inspect().Findings)
	job := h.db.Job.User
	for _, c := range []struct{ does, finds string }{
		{`DROP VIEW headgate_app.orders`, "view_gone headgate_app.orders"},
		{`REVOKE ALL ON headgate_app.orders FROM headgate_job`, "view_gone headgate_app.orders"},
		{`ALTER ROLE ` + job + ` IN DATABASE ` + h.db.Job.Database + ` RESET search_path`, "search_path headgate_app.orders"},
	} {
		h.root(c.does)
		report := h.inspect()
		require.Empty(t, report.Open(), c.does)
		require.Equal(t, c.finds, lines(report.Findings), c.does)
		require.Contains(t, report.Findings[0].Next, "`headgate database protect shared --table public.orders --by view`")
		h.protect(req) // the advice is carried out
		require.Empty(t, h.inspect().Findings, c.does)
	}
	// A path of the whole database's does as well.
	h.root(`ALTER ROLE `+job+` IN DATABASE `+h.db.Job.Database+` RESET search_path`, `ALTER DATABASE `+h.db.Job.Database+` SET search_path = headgate_app, public`)
	require.Empty(t, h.inspect().Findings)
}

// A name without a schema means what is gone, and nothing that is there and not declared.
func TestWithdrawByAShortName(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE SCHEMA a; CREATE TABLE a.codes (code text); CREATE TABLE codes (code text); CREATE TABLE a.gone (code text)`)
	req := h.request(protection.Table{Name: "a.codes", Public: true}, protection.Table{Name: "a.gone", Public: true})
	req.Reason = "a test"
	h.protect(req)
	h.refused(withdrawing(h, "codes"), "nothing is declared of codes")
	h.mine(`DROP TABLE a.gone`)
	h.protect(withdrawing(h, "gone"))
	require.Equal(t, "a.codes", h.text(`SELECT string_agg(object, ',') FROM headgate.protected`))
}
