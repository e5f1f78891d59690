package main

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

const shopSchema = `
CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL, placed_at timestamptz NOT NULL);
CREATE INDEX ON orders (org_id, placed_at);
INSERT INTO orders SELECT i, 1 + i % 2, '2020-01-01' FROM generate_series(1, 20) i;
CREATE TABLE order_items (order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE, amount int NOT NULL);
CREATE INDEX ON order_items (order_id);
INSERT INTO order_items SELECT id, 1 FROM orders;
CREATE TABLE countries (code text PRIMARY KEY);
INSERT INTO countries VALUES ('de'), ('fr');`

// shop is a shared database with two tenants, organisations 1 and 2.
func shop(t *testing.T, more string) (*commandLine, *jobstest.Env, *jobstest.Database) {
	t.Helper()
	c, env := setup(t)
	db := env.Database("shared-1", jobstest.DatabaseOpts{Schema: shopSchema + more})
	for _, slug := range []string{"acme", "brick"} {
		env.Tenant(slug, "shared-1")
	}
	return c, env, db
}

func findingsOf(t *testing.T, c *commandLine, code int) (found []protection.Finding) {
	t.Helper()
	r := c.run("database", "protect", "shared-1", "-o", "json")
	require.Equal(t, code, r.code, r.err)
	require.NoError(t, json.Unmarshal([]byte(r.out), &found))
	return found
}

// The way of the documents: two tenants, a table, one command; then a purge and a report keep
// to their own tenant.
func TestProtectKeepsJobsToTheirTenant(t *testing.T) {
	t.Parallel()
	c, env, db := shop(t, ``)
	require.Equal(t, "1 2", ask(t, db.Job.Database, `SELECT string_agg(DISTINCT org_id::text, ' ') FROM orders`))
	c.ok("database", "protect", "shared-1", "--table", "orders")
	c.ok("database", "protect", "shared-1", "--table", "order_items", "--through", "order_id")
	require.Empty(t, findingsOf(t, c, cli.ExitOK))
	finds(t, examined(t, c, cli.ExitOK), "database shared-1", "isolation", doctor.StateOK)
	work(env)
	end := env.Run("acme", maintenance.Purge{Table: "orders", Column: "placed_at", OlderThan: "30d"})
	require.Equal(t, jobs.Succeeded, end.State, end.Message)
	require.EqualValues(t, 10, end.Result.Rows)
	require.Equal(t, "10 2", ask(t, db.Job.Database, `SELECT count(*) || ' ' || min(org_id) FROM orders`), "the other tenant's rows are all there")
}

// What is open is listed with the command that mends each thing; carried out one after another
// they close everything.
func TestWhatIsOpenIsMendedByWhatIsAdvised(t *testing.T) {
	t.Parallel()
	c, _, db := shop(t, `
CREATE TABLE invoices (customer_id uuid NOT NULL, n int); CREATE TABLE log (org_id bigint, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log DEFAULT; CREATE VIEW v AS SELECT * FROM orders; CREATE MATERIALIZED VIEW m AS SELECT * FROM orders; CREATE SEQUENCE s;
CREATE FUNCTION total(text) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM orders';
CREATE FUNCTION held() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM orders'; REVOKE ALL ON FUNCTION held() FROM PUBLIC;
CREATE FUNCTION copied() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NEW; END'; REVOKE ALL ON FUNCTION copied() FROM PUBLIC;
CREATE TRIGGER copied AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION copied();
CREATE RULE r AS ON DELETE TO invoices DO INSTEAD NOTHING;`)
	job := db.Job.User
	app := db.Job.Database + "_app"
	admin(t, db.Job.Database, `CREATE ROLE `+app+` NOLOGIN`)
	t.Cleanup(func() {
		admin(t, db.Job.Database, `DROP OWNED BY `+app)
		admin(t, "postgres", `DROP ROLE `+app)
	})
	admin(t, db.Job.Database, `GRANT ALL ON orders, order_items, countries, invoices, log, log_1, v, m TO headgate_job`, `GRANT ALL ON SEQUENCE s TO headgate_job`,
		`GRANT EXECUTE ON FUNCTION held() TO headgate_job`, `GRANT SELECT ON orders TO PUBLIC`, `GRANT `+app+` TO `+job,
		`GRANT INSERT ON headgate.ledger TO headgate_job`, `GRANT SELECT ON headgate.identity TO `+job, `GRANT CREATE ON SCHEMA headgate TO headgate_job`,
		`GRANT SELECT ON pg_statistic TO `+job, `ALTER ROLE `+job+` CREATEROLE REPLICATION`, `ALTER ROLE `+job+` SET work_mem = '64MB'`,
		`GRANT CREATE ON SCHEMA public TO headgate_job`, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO headgate_job`, `GRANT pg_read_server_files TO `+job)
	codes := map[string]bool{}
	for range 60 {
		r := c.run("database", "protect", "shared-1", "-o", "json")
		var found []protection.Finding
		require.NoError(t, json.Unmarshal([]byte(r.out), &found))
		if len(found) == 0 {
			require.Zero(t, r.code)
			break
		}
		if found[0].Level == protection.Open {
			require.Equal(t, cli.ExitFailed, r.code)
			require.Contains(t, r.err, "open in database shared-1")
		}
		codes[found[0].Code] = true
		carryOut(t, c, db, found[0])
		for _, now := range findingsOf(t, c, c.run("database", "protect", "shared-1").code) {
			require.NotEqual(t, found[0], now, "what was advised helps")
		}
	}
	require.Empty(t, findingsOf(t, c, cli.ExitOK))
	for _, code := range []string{"unguarded", "beyond_policies", "rule", "definer_function", "set_role", "server_role", "own_rights", "catalog", "createrole", "replication", "sequence", "role_setting", "create", "default_privileges"} {
		require.True(t, codes[code], code)
	}
}

// carryOut does what a finding says: a command of headgate, or SQL as the superuser.
func carryOut(t *testing.T, c *commandLine, db *jobstest.Database, f protection.Finding) {
	t.Helper()
	sql, _, _ := strings.Cut(f.Next, "; or, ")
	sql, _, _ = strings.Cut(sql, ", and GRANT")
	if !strings.Contains(sql, "`") {
		admin(t, db.Job.Database, sql)
		return
	}
	var words []string
	for _, word := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(advised.FindStringSubmatch(f.Next)[1], -1) {
		words = append(words, strings.ReplaceAll(strings.Trim(word, "'"), "TEXT", "a test"))
	}
	c.ok(words...)
}

// The shapes of what protect prints.
func TestProtectShapes(t *testing.T) {
	t.Parallel()
	c, _, db := shop(t, ``)
	app := db.Job.Database + "_app"
	admin(t, "postgres", `CREATE ROLE `+app+` NOLOGIN`)
	t.Cleanup(func() {
		admin(t, db.Job.Database, `DROP OWNED BY `+app)
		admin(t, "postgres", `DROP ROLE `+app)
	})
	admin(t, db.Job.Database, `GRANT SELECT, INSERT ON orders TO `+app, `GRANT SELECT ON orders TO headgate_job`)
	golden(t, "database_protect_open", strings.Join([]string{c.run("database", "protect", "shared-1", "-o", "json").out, c.run("database", "protect", "shared-1").out}, "\n"))
	dry := []string{"database", "protect", "shared-1", "--table", "orders", "--grant", "select,delete", "--actor", "ann", "--dry-run"}
	golden(t, "database_protect_dry", c.ok(dry...))
	golden(t, "database_protect_dry_json", c.ok(append(dry, "-o", "json")...))
	require.NotEmpty(t, findingsOf(t, c, cli.ExitFailed), "a dry run changes nothing")
	golden(t, "database_protect", c.ok(dry[:len(dry)-1]...))
	golden(t, "database_protect_none", c.ok("database", "protect", "shared-1", "-o", "json"))
	require.Equal(t, "ann", ask(t, db.Job.Database, `SELECT actor FROM headgate.protected WHERE object = 'public.orders'`))
	golden(t, "database_protect_declared", c.ok("database", "protect", "shared-1", "--declared", "-o", "json"))
	c.ok("database", "protect", "shared-1", "--withdraw", "orders")
	require.Equal(t, "[]\n", c.ok("database", "protect", "shared-1", "--declared", "-o", "json"))
	require.Empty(t, findingsOf(t, c, cli.ExitOK))
}

// What the script says may be run by hand, and does the same.
func TestTheScriptOfADryRunDoesTheSame(t *testing.T) {
	t.Parallel()
	c, _, db := shop(t, `GRANT SELECT ON countries TO headgate_job`)
	script := c.ok("database", "protect", "shared-1", "--table", "orders", "--by", "view", "--dry-run")
	owner, err := db.Pool.Acquire(context.Background())
	require.NoError(t, err)
	defer owner.Release()
	_, err = owner.Exec(context.Background(), `SET SESSION AUTHORIZATION `+db.Owner.User)
	require.NoError(t, err)
	mine, theirs, found := strings.Cut(script, "-- as the job login")
	require.True(t, found)
	_, err = owner.Exec(context.Background(), mine)
	require.NoError(t, err)
	_, err = owner.Exec(context.Background(), `RESET SESSION AUTHORIZATION`)
	require.NoError(t, err)
	_, err = owner.Exec(context.Background(), "--"+theirs)
	require.NoError(t, err)
	require.Empty(t, findingsOf(t, c, cli.ExitOK))
	again := c.run("database", "protect", "shared-1", "--table", "orders", "--by", "view", "-o", "json", "--dry-run")
	require.NotContains(t, again.out, "REVOKE", again.out)
	require.NotContains(t, again.out, "ALTER ROLE")
}

// Wrong use is refused in a sentence.
func TestProtectRefuses(t *testing.T) {
	t.Parallel()
	c, env, db := shop(t, ``)
	env.Database("own", jobstest.DatabaseOpts{Kind: "dedicated"})
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"database protect", cli.ExitUsage, "NAME is missing"},
		{"database protect shared-2 --table orders", cli.ExitNotFound, "did you mean shared-1?"},
		{"database protect shared-1 --org-column org_id", cli.ExitUsage, "--org-column is said of tables, and none is named"},
		{"database protect shared-1 --dry-run", cli.ExitUsage, "nothing is to be changed"},
		{"database protect shared-1 --table orders --by magic", cli.ExitUsage, "is not one of policy, view"},
		{"database protect shared-1 --table orders --org-column org_id --public --reason x", cli.ExitUsage, "exclude each other"},
		{"database protect shared-1 --table countries --public", cli.ExitUsage, "say with a reason"},
		{"database protect shared-1 --table ordrs", cli.ExitUsage, "there is no table or view ordrs"},
		{"database protect shared-1 --table orders --grant all", cli.ExitUsage, `"all" cannot be granted`},
		{"database protect shared-1 --trusted-function nothing() --reason x", cli.ExitUsage, "there is no function nothing()"},
		{"database protect shared-1 --withdraw orders", cli.ExitUsage, "nothing is declared of orders"},
		{"database protect shared-1 --declared --table orders", cli.ExitUsage, "give it alone"},
		{"database protect own --table orders", cli.ExitUsage, "database own is dedicated"},
	} {
		c.fails(test.code, strings.Fields(test.args), test.says)
	}
	require.Equal(t, "[]\n", c.ok("database", "protect", "own", "-o", "json"))
	admin(t, db.Job.Database, `ALTER TABLE orders OWNER TO CURRENT_USER`)
	c.fails(cli.ExitNotPermitted, []string{"database", "protect", "shared-1", "--table", "orders"}, "to whom tables belong", "--dry-run prints")
}

// A job that waits because its database is open says what to do; done as it says, the job
// goes on.
func TestAnUnprotectedJobSaysWhatToDo(t *testing.T) {
	t.Parallel()
	c, env, _ := shop(t, `GRANT SELECT, DELETE ON orders TO headgate_job`)
	work(env)
	result, err := env.Client.Enqueue(context.Background(), "acme", maintenance.Purge{Table: "orders", Column: "placed_at", OlderThan: "30d"}, nil)
	require.NoError(t, err)
	env.WaitFor(result.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassUnprotected })
	command := regexp.MustCompile("`headgate (database protect [^`]*)`")
	var advised []string
	require.Eventually(t, func() bool { // not while it is tried again
		advised = command.FindStringSubmatch(c.ok("job", "explain", result.UID))
		return advised != nil
	}, time.Minute, 10*time.Millisecond)
	r := c.run(append(strings.Fields(advised[1]), "-o", "json")...)
	require.Equal(t, cli.ExitFailed, r.code, r.err)
	var found []protection.Finding
	require.NoError(t, json.Unmarshal([]byte(r.out), &found))
	for _, f := range found {
		next := command.FindStringSubmatch(f.Next)
		require.NotNil(t, next, f.Next)
		c.ok(strings.Fields(next[1])...)
	}
	done := env.Wait(result.UID)
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.EqualValues(t, 10, done.Result.Rows)
	require.Equal(t, 1, done.Attempt)
}
