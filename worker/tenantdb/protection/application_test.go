package protection_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// acts are what an application and its people do with the table orders. Each returns what
// came of it.
var acts = map[string]func(ctx context.Context, conn *pgx.Conn) (string, error){
	"select": one(`SELECT count(*)::text FROM orders`),
	"insert": one(`INSERT INTO orders (org_id, note) VALUES (2, 'new') RETURNING note`),
	"upsert": one(`INSERT INTO orders (id, org_id, note) OVERRIDING SYSTEM VALUE VALUES (1, 2, 'again') ON CONFLICT (id) DO UPDATE SET note = excluded.note RETURNING note`),
	"update": one(`WITH x AS (UPDATE orders SET note = note RETURNING 1) SELECT count(*)::text FROM x`),
	"delete": one(`WITH x AS (DELETE FROM orders WHERE org_id = 1 RETURNING 1) SELECT count(*)::text FROM x`),
	"copy_from": func(ctx context.Context, conn *pgx.Conn) (string, error) {
		tag, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("7\tcopied\n"), `COPY orders (org_id, note) FROM STDIN`)
		return tag.String(), err
	},
	// What pg_dump does with each table, as any role.
	"dump": func(ctx context.Context, conn *pgx.Conn) (string, error) {
		if _, err := conn.Exec(ctx, `SET LOCAL row_security = off`); err != nil {
			return "", err
		}
		var lines strings.Builder
		tag, err := conn.PgConn().CopyTo(ctx, &lines, `COPY (SELECT * FROM orders WHERE note NOT IN ('new', 'again', 'copied')) TO STDOUT`)
		return tag.String(), err
	},
	// Which part of a join's rows a filter is estimated to leave.
	"plans": func(ctx context.Context, conn *pgx.Conn) (string, error) {
		const join = `EXPLAIN SELECT * FROM orders o JOIN items i ON i.order_id = o.id`
		all, err := estimate(ctx, conn, join)
		if err != nil {
			return "", err
		}
		some, err := estimate(ctx, conn, join+` WHERE o.note LIKE '%note%'`)
		return fmt.Sprintf("%.1f", some/all), err
	},
}

var rowsOfPlan = regexp.MustCompile(`rows=(\d+)`)

// estimate is how many rows a query is expected to have.
func estimate(ctx context.Context, conn *pgx.Conn, explain string) (float64, error) {
	rows, _ := conn.Query(ctx, explain)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(rowsOfPlan.FindStringSubmatch(lines[0])[1], 64)
}

func one(sql string) func(context.Context, *pgx.Conn) (string, error) {
	return func(ctx context.Context, conn *pgx.Conn) (result string, err error) {
		err = conn.QueryRow(ctx, sql).Scan(&result)
		return result, err
	}
}

// outcomes does everything as one role, each in a transaction that is undone.
func (h *house) outcomes(conn *pgx.Conn) map[string]string {
	h.t.Helper()
	ctx, all := context.Background(), map[string]string{}
	for name, act := range acts {
		tx, err := conn.Begin(ctx)
		require.NoError(h.t, err)
		result, err := act(ctx, conn)
		if err != nil {
			result = fmt.Sprint("error: ", err)
		}
		all[name] = result
		require.NoError(h.t, tx.Rollback(ctx))
	}
	return all
}

// An application does the same before and after, as the owner, as its own role, as a role that
// is made afterwards and as the one that makes backups; what differs is named with role and
// cure before anything is changed, and the cure helps.
func TestTheApplicationBeforeAndAfter(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	h.mine(`INSERT INTO orders (org_id, note) SELECT 1 + i % 50, 'note ' || i FROM generate_series(1, 5000) i`, `INSERT INTO items SELECT id, 1 FROM orders`, `ANALYZE`)
	app, backup := h.role("LOGIN PASSWORD 'x'"), h.role("LOGIN PASSWORD 'x'")
	grants := func(role string) { h.mine(`GRANT SELECT, INSERT, UPDATE, DELETE ON orders, items TO ` + role) }
	grants(app)
	h.mine(`GRANT SELECT ON orders, items TO ` + backup)
	people := map[string]*pgx.Conn{h.db.Owner.User: h.owner, app: h.connect(app, "x"), backup: h.connect(backup, "x")}
	before := map[string]map[string]string{}
	for role, conn := range people {
		before[role] = h.outcomes(conn)
	}
	req := h.request(protection.Table{Name: "orders"})
	named, err := protection.MakePlan(context.Background(), h.owner, req)
	require.NoError(t, err)
	h.protect(req)

	later := h.role("LOGIN PASSWORD 'x'")
	grants(later)
	people[later], before[later] = h.connect(later, "x"), before[app]
	differ := map[string][]string{}
	for role, conn := range people {
		after := h.outcomes(conn)
		for act, was := range before[role] {
			if after[act] == was {
				continue
			}
			differ[role] = append(differ[role], act)
			require.True(t, slices.ContainsFunc(named.Harms, func(harm protection.Harm) bool {
				return harm.Code == act && slices.Contains(harm.Roles, role) || role == later && harm.Code == "later_roles"
			}), "%s of %s is not named: %s; %s", act, role, was, after[act])
		}
		slices.Sort(differ[role])
	}
	require.Equal(t, map[string][]string{app: {"copy_from", "dump", "plans"}, backup: {"dump", "plans"}, later: {"copy_from", "dump", "plans"}}, differ, "and nothing else")
	for _, harm := range named.Harms {
		require.NotEmpty(t, harm.Cure, harm.Code)
	}
	// The cure for the role that makes backups.
	h.root(`ALTER ROLE ` + backup + ` BYPASSRLS`)
	require.Equal(t, before[backup], h.outcomes(people[backup]))
}

// By view the application notices nothing at all.
func TestTheApplicationByView(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	app := h.role("LOGIN PASSWORD 'x'")
	h.mine(`GRANT SELECT, INSERT, UPDATE, DELETE ON orders, items TO `+app, `ANALYZE`)
	conn := h.connect(app, "x")
	before, owner := h.outcomes(conn), h.outcomes(h.owner)
	plan := h.protect(h.request(protection.Table{Name: "orders", By: protection.ByView}))
	require.Empty(t, plan.Harms)
	require.Equal(t, before, h.outcomes(conn))
	require.Equal(t, owner, h.outcomes(h.owner))
}

// Every other harm is named too: subscriptions that write as another role, and sessions that
// refuse to be filtered.
func TestHarmsByWhatIsThere(t *testing.T) {
	t.Parallel()
	h := newHouse(t, shop)
	app := h.role("LOGIN")
	h.root(`SET LOCAL client_min_messages = error; CREATE SUBSCRIPTION `+app+`_s CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE, enabled = false)`,
		`INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) SELECT oid, 'orders'::regclass, 'r' FROM pg_subscription WHERE subname = '`+app+`_s'`,
		`UPDATE pg_subscription SET subowner = '`+app+`'::regrole WHERE subname = '`+app+`_s'`,
		`ALTER ROLE `+app+` IN DATABASE `+h.db.Job.Database+` SET row_security = off`, `GRANT UPDATE ON orders TO `+app)
	stranger := h.role("LOGIN") // may do nothing with the table
	h.root(`ALTER ROLE ` + stranger + ` SET row_security = off`)
	t.Cleanup(func() {
		h.root(`UPDATE pg_subscription SET subowner = current_user::regrole WHERE subname = '`+app+`_s'`, `DROP SUBSCRIPTION `+app+`_s`)
	})
	plan, err := protection.MakePlan(context.Background(), h.owner, h.request(protection.Table{Name: "orders"}))
	require.NoError(t, err)
	codes := map[string][]string{}
	for _, harm := range plan.Harms {
		codes[harm.Code] = harm.Roles
	}
	require.Equal(t, []string{"later_roles", "lock", "row_security_off", "subscription"}, slices.Sorted(maps.Keys(codes)))
	require.Equal(t, []string{app}, codes["subscription"])
	require.Equal(t, []string{app}, codes["row_security_off"])
	script := plan.Script()
	for _, harm := range plan.Harms {
		require.Contains(t, script, harm.Says)
		require.Contains(t, script, harm.Cure)
	}
	// Where row-level security is on already, nothing new is done to anybody.
	h.mine(`ALTER TABLE orders ENABLE ROW LEVEL SECURITY`)
	plan, err = protection.MakePlan(context.Background(), h.owner, h.request(protection.Table{Name: "orders"}))
	require.NoError(t, err)
	require.Empty(t, plan.Harms)
}
