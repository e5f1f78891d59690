package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gocloud.dev/blob/memblob"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// Organisations 1 to 3 have brands 1 and 2, each with a sale of this and one of an old year.
const salesSchema = `
CREATE TABLE sales (org_id bigint NOT NULL, brand_id smallint NOT NULL, sold_at timestamptz NOT NULL, text text NOT NULL);
CREATE INDEX ON sales (org_id, brand_id);
INSERT INTO sales SELECT o, b, now() - y * interval '1 year', o || '/' || b FROM generate_series(1, 3) o, generate_series(1, 2) b, generate_series(0, 1) y;
CREATE TABLE rates (percent int); GRANT SELECT ON rates TO headgate_job;`

// Glance is a kind of a program's own: it tells what its job sees.
type Glance struct{}

func (Glance) Kind() string { return "glance" }

func glance(ctx context.Context, tx pgx.Tx, job *jobs.Job[Glance]) error {
	return tx.QueryRow(ctx, `SELECT coalesce(string_agg(DISTINCT text, ' ' ORDER BY text), '') FROM sales`).Scan(&job.Result.Output)
}

// selling is a command line on acme and globex (organisations 1 and 2) in a shared database,
// and big (3) in a dedicated one. All have brands 1 and 2, whose rows of sales are kept apart.
func selling(t *testing.T) (c *commandLine, env *jobstest.Env, shared, own *jobstest.Database) {
	t.Helper()
	c, env = setup(t)
	shared = env.Database("shared-1", jobstest.DatabaseOpts{Schema: salesSchema + `REVOKE ALL ON rates FROM headgate_job`})
	own = env.Database("own", jobstest.DatabaseOpts{Schema: salesSchema, Kind: "dedicated"})
	for slug, database := range map[string]string{"acme": "shared-1", "globex": "shared-1", "big": "own"} {
		c.ok("tenant", "add", slug, "--database", database, "--org-id", map[string]string{"acme": "1", "globex": "2", "big": "3"}[slug])
		for _, brand := range []string{"1", "2"} {
			c.ok("tenant", "brand", "set", slug, brand, "Brand "+brand)
		}
	}
	for _, database := range []string{"shared-1", "own"} {
		c.ok("database", "protect", database, "--table", "sales", "--brand-column", "brand_id")
	}
	reports := memblob.OpenBucket(nil)
	t.Cleanup(func() { require.NoError(t, reports.Close()) })
	cfg := env.Config()
	cfg.Tenants.ProtectedFor = 20 * time.Millisecond
	env.Work(&cfg, func(w *worker.Worker) {
		kinds.Register(w, reports, centreOf(env))
		worker.InTx(w, glance)
	})
	return c, env, shared, own
}

// mixed are the findings of `database protect NAME`.
func mixed(t *testing.T, c *commandLine, database string, code int) (all []protection.Finding) {
	t.Helper()
	r := c.run("database", "protect", database, "-o", "json")
	require.Equal(t, code, r.code, r.err)
	require.NoError(t, json.Unmarshal([]byte(r.out), &all))
	return all
}

// The same code in a shared and in a dedicated database: a kind of a program's own, SQL, a
// report and a purge of one brand meet that brand's rows of their own organisation.
func TestBrandsByCommand(t *testing.T) {
	t.Parallel()
	c, env, shared, own := selling(t)
	glances := func(slug string, brand int) string {
		opts := &jobs.EnqueueOpts{}
		if brand > 0 {
			opts.Brand = &brand
		}
		made, err := env.Client.Enqueue(t.Context(), slug, Glance{}, opts)
		require.NoError(t, err)
		return env.Wait(made.UID).Result.Output
	}
	for _, tenant := range []struct {
		slug string
		org  int
		db   *jobstest.Database
	}{{"acme", 1, shared}, {"big", 3, own}} {
		enqueue := func(kind, args string, more ...string) jobs.Outcome {
			return env.Wait(enqueued(t, c.ok(append([]string{"job", "enqueue", kind, "--tenant", tenant.slug, "--args", args, "--max-attempts", "1", "-o", "json"}, more...)...)))
		}
		of := func(brand int) string { return fmt.Sprintf("%d/%d", tenant.org, brand) }
		inDB := func(where string) string {
			return ask(t, tenant.db.Job.Database, `SELECT count(*) FROM sales WHERE `+where)
		}
		mine := "org_id = " + strconv.Itoa(tenant.org)
		require.Equal(t, of(1), glances(tenant.slug, 1))
		require.Equal(t, of(1)+" "+of(2), glances(tenant.slug, 0))

		require.EqualValues(t, 2, enqueue("headgate.report", `{"name": "sales", "query": "SELECT * FROM sales"}`, "--brand", "1").Result.Rows)
		require.EqualValues(t, 4, enqueue("headgate.report", `{"name": "sales", "query": "SELECT * FROM sales"}`, "--brand", "all").Result.Rows)
		shown := c.ok("job", "enqueue", "headgate.report", "--tenant", tenant.slug, "--brand", "1", "--in", "1h", "--args", `{"name": "sales", "query": "SELECT 1"}`)
		require.Regexp(t, `(?m)BRAND\n.* 1$`, shown)
		require.Regexp(t, `(?m)^brand +1$`, c.ok("job", "show", strings.Fields(shown)[len(strings.Fields("UID KIND TENANT DATABASE BRAND"))]))
		require.Contains(t, c.ok("job", "list", "--tenant", tenant.slug, "--limit", "1", "-o", "json"), `"brand": 1,`)
		require.EqualValues(t, 0, enqueue("headgate.report", fmt.Sprintf(`{"name": "sales", "query": "SELECT * FROM sales WHERE org_id <> %d OR brand_id <> 1"}`, tenant.org), "--brand", "1").Result.Rows)

		purge := `{"table": "sales", "column": "sold_at", "older_than": "90d"}`
		require.EqualValues(t, 1, enqueue("headgate.purge", purge, "--brand", "1").Result.Rows)
		require.Equal(t, []string{"1", "2"}, []string{inDB(mine + " AND brand_id = 1"), inDB(mine + " AND brand_id = 2")})
		require.EqualValues(t, 1, enqueue("headgate.purge", purge).Result.Rows, "of all brands")

		require.EqualValues(t, 1, enqueue("headgate.sql", `{"sql": "UPDATE sales SET text = text"}`, "--brand", "2").Result.Rows)
		foreign := enqueue("headgate.sql", fmt.Sprintf(`{"sql": "INSERT INTO sales VALUES (%d, 2, now(), 'smuggled')"}`, tenant.org), "--brand", "1")
		require.Equal(t, []string{"discarded", "42501"}, []string{string(foreign.State), foreign.SQLState})
		require.Equal(t, "8", inDB("NOT "+mine), "the others' rows are all there")
	}
	require.Equal(t, "SELECT", ask(t, own.Job.Database, `SELECT string_agg(privilege_type, ' ') FROM information_schema.role_table_grants WHERE table_name = 'rates' AND grantee = 'headgate_job'`), "in a dedicated database other rights stay")

	for says, args := range map[string][]string{
		"tenant acme has no brand 9":    {"--tenant", "acme", "--brand", "9"},
		`--brand`:                       {"--tenant", "acme", "--brand", "x"},
		"0 to 9999, or all":             {"--tenant", "acme", "--brand", "10000"},
		"works on a whole database":     {"--database", "own", "--brand", "1"},
		"tenant globex has no brand 77": {"--tenant", "globex", "--brand", "77"},
	} {
		command := []string{"job", "enqueue", "headgate.sql", "--args", `{"sql": "SELECT 1"}`}
		if args[0] == "--database" {
			command = []string{"job", "enqueue", "headgate.analyze"}
		}
		r := c.run(append(command, args...)...)
		require.NotEqual(t, cli.ExitOK, r.code, says)
		require.Contains(t, r.err, strings.TrimSpace(says))
	}
	c.fails(cli.ExitNotFound, []string{"job", "enqueue", "headgate.sql", "--tenant", "acme", "--brand", "9", "--args", `{"sql": "SELECT 1"}`}, "`headgate tenant brand list acme`")
	keyed := []string{"job", "enqueue", "headgate.sql", "--tenant", "acme", "--args", `{"sql": "SELECT 1"}`, "--idempotency-key", "k", "--brand"}
	c.ok(append(keyed, "1")...)
	c.fails(cli.ExitConflict, append(keyed, "2"), "differs in brand")
}

// The brand's policy is restrictive, made once, and judged: taken away or made permissive it
// is found, a job of a brand waits and says so, and the printed command puts it right. The
// same holds in a shared and in a dedicated database.
func TestABrandPolicyThatGoesIsNoticed(t *testing.T) {
	t.Parallel()
	c, env, shared, own := selling(t)
	for _, tenant := range []struct {
		slug, name string
		db         *jobstest.Database
	}{{"acme", "shared-1", shared}, {"big", "own", own}} {
		protect := []string{"database", "protect", tenant.name, "--table", "sales", "--brand-column", "brand_id", "-o", "json"}
		policy := `SELECT permissive || ' ' || cmd || ' ' || array_to_string(roles, ',') FROM pg_policies WHERE policyname = 'headgate_brand'`
		require.Equal(t, "RESTRICTIVE ALL headgate_job", ask(t, tenant.db.Job.Database, policy))
		require.Contains(t, c.ok(protect...), `"statements": []`, "again it changes nothing")
		require.Contains(t, c.ok(append(protect, "--dry-run")...), `"statements": []`)
		require.Contains(t, c.ok("database", "protect", tenant.name, "--declared", "-o", "json"), `"brand_column": "brand_id"`)
		require.Empty(t, mixed(t, c, tenant.name, cli.ExitOK))
		finds(t, examined(t, c, cli.ExitOK), "database "+tenant.name, "isolation", doctor.StateOK)
		for _, does := range []string{
			`DROP POLICY headgate_brand ON sales`,
			`DROP POLICY headgate_brand ON sales; CREATE POLICY headgate_brand ON sales TO headgate_job USING ((SELECT headgate.current_brand()) IS NULL OR brand_id = (SELECT headgate.current_brand()))`,
		} {
			admin(t, tenant.db.Job.Database, strings.Split(does, "; ")...)
			found := mixed(t, c, tenant.name, cli.ExitFailed)
			require.Len(t, found, 1)
			require.Equal(t, "mixed_brands", found[0].Code)
			finds(t, examined(t, c, cli.ExitFailed), "database "+tenant.name, "isolation", doctor.StateFail)
			one := 1
			made, err := env.Client.Enqueue(t.Context(), tenant.slug, Glance{}, &jobs.EnqueueOpts{Brand: &one})
			require.NoError(t, err)
			env.WaitFor(made.UID, func(o jobs.Outcome) bool { return o.Class == jobs.ClassUnprotected })
			carryOut(t, c, tenant.db, found[0])
			require.Empty(t, mixed(t, c, tenant.name, cli.ExitOK))
			require.Equal(t, "RESTRICTIVE ALL headgate_job", ask(t, tenant.db.Job.Database, policy))
			require.Equal(t, jobs.Succeeded, env.Wait(made.UID).State)
		}
		c.ok("database", "protect", tenant.name, "--withdraw", "sales")
		require.Equal(t, "0", ask(t, tenant.db.Job.Database, `SELECT count(*) FROM pg_policies`))
	}
}

// A tenant database from before brands is told to be migrated, and then takes the command.
func TestABrandOfAnOlderDatabase(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("shared-1", jobstest.DatabaseOpts{Schema: salesSchema})
	env.Tenant("acme", "shared-1")
	admin(t, db.Job.Database, `DROP FUNCTION headgate.current_org_brand()`, `ALTER TABLE headgate.protected DROP COLUMN brand_column`, `DROP FUNCTION headgate.close_organisation, headgate.forget_organisation, headgate.delete_apart, headgate.on_delete`, `DELETE FROM headgate.migrations WHERE version >= 14`)
	protect := []string{"database", "protect", "shared-1", "--table", "sales", "--brand-column", "brand_id"}
	r := c.run(protect...)
	require.NotEqual(t, cli.ExitOK, r.code)
	require.Contains(t, r.err, "database shared-1 has schema 13, this program needs")
	require.Contains(t, r.err, "run `headgate database install shared-1`")
	c.ok("database", "install", "shared-1")
	c.ok(protect...)
	require.Empty(t, mixed(t, c, "shared-1", cli.ExitOK))
}

// Schedules of a brand, from commands and from a file, and the removal of the brand: refused
// with the schedules' names and what to do, which is carried out.
func TestSchedulesOfABrandByCommand(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for _, slug := range []string{"acme", "brick"} {
		c.ok("tenant", "add", slug, "--database", "db", "--plan", "pro")
	}
	c.ok("tenant", "brand", "set", "acme", "1", "Fern")
	c.ok("tenant", "brand", "set", "acme", "2", "Moss")
	create := func(name string, more ...string) []string {
		return append([]string{"schedule", "create", name, "--kind", "app.note", "--cron", "@daily"}, more...)
	}
	c.fails(cli.ExitNotFound, create("x", "--tenant", "brick", "--brand", "1"), "tenant brick has no brand 1: `headgate tenant brand list brick`")
	c.fails(cli.ExitUsage, create("x", "--tenant", "acme", "--brand", "-1"), "0 to 9999, or all")
	c.ok(create("nightly", "--tenant", "acme", "--brand", "2")...)
	c.fails(cli.ExitNotFound, []string{"schedule", "edit", "nightly", "--tenant", "acme", "--brand", "3"}, "tenant acme has no brand 3")
	require.Contains(t, c.ok("schedule", "edit", "nightly", "--tenant", "acme", "--brand", "1", "-o", "json"), `"brand": 1`)
	require.Regexp(t, `(?m)^brand +1$`, c.ok("schedule", "show", "nightly", "--tenant", "acme"))
	made := c.run(create("weekly", "--select", "plan = 'pro'", "--brand", "1", "--yes")...)
	require.Equal(t, cli.ExitOK, made.code, made.err)
	require.Contains(t, strings.Join(strings.Fields(made.err), " "), "warning: 1 of the selected tenants lack brand 1 and get the schedule once they have the brand: brick; `headgate tenant brand set SLUG 1 BRAND_NAME` gives it")

	file := filepath.Join(t.TempDir(), "site.yaml")
	require.NoError(t, os.WriteFile(file, []byte("name: site\nschedules:\n  - {name: filed, select: all, kind: app.note, cron: '@daily', brand: 1}\n"), 0o600))
	plan := c.ok("schedule", "plan", "-f", file, "-o", "json")
	require.Contains(t, plan, "1 of the selected tenants lack brand 1 and get the schedule once they have the brand: brick")
	c.ok("schedule", "apply", "-f", file, "--yes")
	require.Equal(t, "[]\n", c.ok("schedule", "plan", "-f", file, "-o", "json"))
	require.Equal(t, "acme/filed/1 acme/nightly/1 acme/weekly/1", ask(t, env.Pool.Config().ConnConfig.Database,
		`SELECT string_agg(t.slug || '/' || s.name || '/' || s.brand_id, ' ' ORDER BY s.name) FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id`))

	said := strings.Join(strings.Fields(c.fails(cli.ExitConflict, []string{"tenant", "brand", "remove", "acme", "1"}, "3 schedules are limited to it: filed, nightly, weekly")), " ")
	require.Contains(t, said, "filed comes from the file site: take tenant acme out of its selector there")
	require.NoError(t, os.WriteFile(file, []byte("name: site\nschedules:\n  - {name: filed, select: tenant != acme, kind: app.note, cron: '@daily', brand: 1}\n"), 0o600))
	c.ok("schedule", "apply", "-f", file, "--yes")
	for range 2 {
		said = strings.Join(strings.Fields(c.run("tenant", "brand", "remove", "acme", "1").err), " ")
		next := regexp.MustCompile("`headgate (schedule edit [^`]*)`").FindStringSubmatch(said)
		require.NotNil(t, next, said)
		c.ok(append(wordsOf(next[1]), map[bool][]string{true: {"--yes"}}[strings.Contains(next[1], "--template")]...)...)
	}
	c.ok("tenant", "brand", "remove", "acme", "1")
	require.Equal(t, "nightly", ask(t, env.Pool.Config().ConnConfig.Database, `SELECT string_agg(name, ' ') FROM headgate.schedules`))
	c.fails(cli.ExitNotFound, []string{"tenant", "brand", "remove", "acme", "1"}, "`headgate tenant brand list acme`")
}

// wordsOf are the words of a command as a shell reads them, with single quotes.
func wordsOf(command string) (words []string) {
	for _, word := range regexp.MustCompile(`(?:'[^']*'|\\'|[^\s'])+`).FindAllString(command, -1) {
		words = append(words, strings.ReplaceAll(strings.NewReplacer(`'\''`, "\x00", "'", "").Replace(word), "\x00", "'"))
	}
	return words
}
