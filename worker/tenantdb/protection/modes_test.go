package protection_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// A declaration of another mode takes the place of the first one with all that it made, in
// each order, and withdrawn it leaves the table as it was.
func TestAnotherMode(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE TABLE pages (id bigint PRIMARY KEY, org_id bigint NOT NULL); CREATE INDEX ON pages (org_id); INSERT INTO pages VALUES (1, 1), (2, 2), (3, 2)`)
	ways := map[string]protection.Table{"policy": {Name: "pages"}, "view": {Name: "pages", By: protection.ByView}, "public": {Name: "pages", Public: true}}
	request := func(way string) protection.Request {
		req := h.request(ways[way])
		req.Reason = "a test"
		return req
	}
	before := h.text(guards, "pages")
	for _, first := range []string{"policy", "view", "public"} {
		for _, second := range []string{"policy", "view", "public"} {
			h.protect(request(first))
			h.protect(request(second))
			require.Empty(t, h.open(), "%s, then %s", first, second)
			want, from := 2, "pages"
			if second == "public" {
				want = 3
			}
			require.Equal(t, want, h.count(2, from), "%s, then %s", first, second)
			if second == "policy" {
				h.asOrg(2, func(tx pgx.Tx) {
					_, err := tx.Exec(context.Background(), `INSERT INTO pages VALUES (4, 2)`)
					require.NoError(t, err, "%s, then %s", first, second)
				})
			}
			h.protect(withdrawing(h, "pages"))
			require.Equal(t, before, h.text(guards, "pages"), "%s, then %s", first, second)
			require.Equal(t, -1, h.count(2, "pages"), "%s, then %s", first, second)
		}
	}
}

// A table that lets nobody but its owner see a row lets nobody else see one afterwards.
func TestATableThatDeniesByDefault(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE TABLE vault (org_id bigint NOT NULL); CREATE INDEX ON vault (org_id); INSERT INTO vault VALUES (1), (2); ALTER TABLE vault ENABLE ROW LEVEL SECURITY`)
	reader := h.role("LOGIN PASSWORD 'x'")
	h.mine(`GRANT SELECT ON vault TO ` + reader)
	seen := func() (n int) {
		require.NoError(t, h.connect(reader, "x").QueryRow(context.Background(), `SELECT count(*) FROM vault`).Scan(&n))
		return n
	}
	before := h.text(guards, "vault")
	h.protect(h.request(protection.Table{Name: "vault"}))
	require.Zero(t, seen())
	require.Equal(t, 1, h.count(2, "vault"))
	require.Empty(t, h.open())
	h.protect(withdrawing(h, "vault"))
	require.Zero(t, seen())
	require.Equal(t, before, h.text(guards, "vault"))
}

// Policies that the application has made since keep what they meet: nobody loses a row.
func TestWithdrawBesideTheApplicationsPolicies(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	reader, other := h.role("LOGIN PASSWORD 'x'"), h.role("NOLOGIN")
	h.mine(`GRANT SELECT ON orders TO ` + reader)
	seen := func() (n int) {
		require.NoError(t, h.connect(reader, "x").QueryRow(context.Background(), `SELECT count(*) FROM orders`).Scan(&n))
		return n
	}
	all := seen()
	require.NotZero(t, all)
	h.protect(h.request(protection.Table{Name: "orders"}))
	h.mine(`CREATE POLICY theirs ON orders TO ` + other + ` USING (true)`)
	plan := h.protect(withdrawing(h, "orders"))
	require.Len(t, plan.Notes, 1)
	require.Contains(t, plan.Notes[0], "stay on public.orders")
	require.Equal(t, all, seen())
	require.Equal(t, -1, h.count(2, "orders"))
}

// Through a view INSERT … ON CONFLICT DO UPDATE meets rows that the view does not show. So jobs
// may insert, or update; a view that lets them do both is open.
func TestNoUpsertThroughAView(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE TABLE bills (id bigint PRIMARY KEY, org_id bigint NOT NULL, secret text); CREATE INDEX ON bills (org_id); INSERT INTO bills VALUES (1, 1, 'mine'), (2, 2, 'whisper')`)
	by := func(grant ...string) protection.Request {
		return h.request(protection.Table{Name: "bills", By: protection.ByView, Grant: grant})
	}
	h.refused(by("select", "insert", "update"), "through a view jobs may insert or update, and not both")
	plan := h.protect(by())
	require.Contains(t, plan.Notes[0], "jobs may not UPDATE public.bills")
	upsert := func() (secret string, err error) {
		h.asOrg(1, func(tx pgx.Tx) {
			err = tx.QueryRow(context.Background(), `INSERT INTO bills VALUES (2, 1, 'x') ON CONFLICT (id) DO UPDATE SET org_id = 1 RETURNING secret`).Scan(&secret)
		})
		return secret, err
	}
	_, err := upsert()
	require.ErrorContains(t, err, "42501")
	require.Empty(t, h.open())
	h.mine(`GRANT UPDATE ON headgate_app.bills TO headgate_job`)
	secret, err := upsert()
	require.NoError(t, err, "the control")
	require.Equal(t, "whisper", secret)
	found := h.inspect().Open()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Says, "ON CONFLICT")
	require.Contains(t, found[0].Next, "--table public.bills --by view")
	h.protect(by()) // the advice is carried out
	require.Empty(t, h.open())
	h.protect(by("select", "update", "delete"))
	require.Empty(t, h.open())
}

// What is declared public shows the tables that inherit from it.
func TestAPublicParentShowsItsChildren(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE TABLE docs (body text); CREATE TABLE org_docs (org_id bigint) INHERITS (docs); CREATE INDEX ON org_docs (org_id); INSERT INTO org_docs VALUES ('whisper', 2)`)
	h.protect(h.request(protection.Table{Name: "org_docs"}))
	public := h.request(protection.Table{Name: "docs", Public: true})
	public.Reason = "a test"
	h.refused(public, "whoever reads public.docs reads public.org_docs too")
	h.mine(`ALTER TABLE org_docs NO INHERIT docs`)
	h.protect(public)
	require.Empty(t, h.open())
	h.mine(`ALTER TABLE org_docs INHERIT docs`)
	require.Equal(t, 1, h.count(1, "docs"), "the harm")
	require.Equal(t, "public_children public.docs", h.open())
	h.protect(withdrawing(h, "docs")) // as it advises
	require.Empty(t, h.open())
}

// Two relations of one name cannot both be shown, and nothing that somebody else has made in
// our schema is replaced.
func TestANameThatIsTaken(t *testing.T) {
	t.Parallel()
	if h := newHouse(t, `CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (org_id bigint NOT NULL); CREATE TABLE b.t (org_id bigint NOT NULL); CREATE INDEX ON a.t (org_id); CREATE INDEX ON b.t (org_id);
CREATE VIEW a.v AS SELECT * FROM a.t; CREATE VIEW b.v AS SELECT * FROM b.t`); h.version() >= 150000 {
		view := func(names ...string) protection.Request {
			req := h.request()
			req.Views = names
			return req
		}
		h.protect(h.request(protection.Table{Name: "a.t"}, protection.Table{Name: "b.t"}))
		h.refused(view("a.v", "b.v"), "would show two relations")
		h.protect(view("a.v"))
		h.refused(view("b.v"), "headgate_app.v shows a.v already")
		h.protect(view("a.v"))
		h.refused(h.request(protection.Table{Name: "b.t", By: protection.ByView}, protection.Table{Name: "a.t", By: protection.ByView}), "would show two relations")
		h.mine(`CREATE VIEW headgate_app.t AS SELECT 1 AS one`)
		h.refused(h.request(protection.Table{Name: "a.t", By: protection.ByView}), "there is a headgate_app.t already that Headgate has not made")
	}
}

// Where several tables of another role are open, each command that is printed mends its own.
func TestOneOfManyThatAreOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE TABLE one (org_id bigint NOT NULL); CREATE TABLE two (org_id bigint NOT NULL); CREATE TABLE three (org_id bigint NOT NULL)`)
	app := h.role("NOLOGIN")
	h.root(`ALTER TABLE one OWNER TO `+app, `ALTER TABLE two OWNER TO `+app, `ALTER TABLE three OWNER TO `+app, `GRANT `+app+` TO `+h.db.Owner.User)
	h.protect(h.request(protection.Table{Name: "three"}))
	h.root(`GRANT SELECT ON one, two TO headgate_job`, `ALTER TABLE three DISABLE ROW LEVEL SECURITY`)
	plan := h.protect(h.request(protection.Table{Name: "one"}))
	require.Empty(t, plan.Foreign())
	require.Equal(t, "unguarded public.three", h.open(), "two is taken from jobs, because nobody has declared it; three is declared, and stays")
	h.protect(h.request(protection.Table{Name: "three"}))
	require.Empty(t, h.open())
}

// A function of an event trigger runs when a job makes a temporary table.
func TestAnEventTriggersFunction(t *testing.T) {
	t.Parallel()
	h := newHouse(t, `CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN END'; REVOKE EXECUTE ON FUNCTION watch() FROM PUBLIC`)
	require.Empty(t, h.open())
	before := h.fingerprint()
	h.root(`CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watch()`)
	require.NotEqual(t, before, h.fingerprint())
	found := h.inspect().Open()
	require.Len(t, found, 1)
	require.Contains(t, found[0].Says, "event trigger watching")
	require.Contains(t, found[0].Next, "--trusted-function")
	trust := h.request()
	trust.Functions, trust.Reason = []string{"watch()"}, "a test"
	h.protect(trust)
	require.Empty(t, h.open())
}

// version is the server's, as server_version_num.
func (h *house) version() (number int) {
	h.t.Helper()
	require.NoError(h.t, h.db.Pool.QueryRow(context.Background(), `SELECT current_setting('server_version_num')::int`).Scan(&number))
	return number
}
