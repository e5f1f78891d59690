package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/jobstest/tlstest"
)

// verbsThatRead change no row of the central database, with these arguments.
var verbsThatRead = map[string]string{
	"audit list":                       "",
	"ca list":                          "",
	"database list":                    "",
	"database show":                    "db",
	"doctor":                           "",
	"enqueue-grant list":               "",
	"feature list":                     "",
	"healthcheck":                      "--help",
	"job attempts":                     "JOB",
	"job explain":                      "JOB",
	"job list":                         "",
	"job logs":                         "JOB",
	"job show":                         "JOB",
	"key list":                         "",
	"key verify":                       "",
	"limit list":                       "",
	"migrate status":                   "",
	"pause list":                       "",
	"plan list":                        "",
	"plan show":                        "free",
	"region list":                      "",
	"schedule blackout list":           "",
	"schedule calendar list":           "",
	"schedule drift":                   "-f FILE",
	"schedule forecast":                "",
	"schedule list":                    "",
	"schedule maintenance-window list": "",
	"schedule plan":                    "-f FILE",
	"schedule preview":                 "--cron @daily",
	"schedule show":                    "nightly --tenant acme",
	"schedule why":                     "nightly --tenant acme",
	"selector test":                    "all",
	"server list":                      "",
	"server show":                      "SERVER",
	"tenant brand list":                "acme",
	"tenant domain list":               "",
	"tenant email list":                "",
	"tenant explain":                   "acme",
	"tenant export":                    "",
	"tenant list":                      "",
	"tenant show":                      "acme",
	"version":                          "",
	"worker list":                      "",
}

// verbsWithoutDryRun change something and have no --dry-run, each for its reason.
var verbsWithoutDryRun = map[string]string{
	"database add":      "it commits a schema in the new database before the central database's row; `database create --dry-run` and `database adopt --dry-run` print the statements",
	"database capacity": "it is a test run, which changes the catalog only with --set",
	"database install":  "it migrates other databases, each by itself",
	"dev":               "it is a process",
	"job cancel":        "it acts at once on one job",
	"job enqueue":       "it asks for one job at once",
	"job rerun":         "it asks for one job at once",
	"job retry":         "it acts at once on one job",
	"key add":           "it changes the key file, and no row",
	"key promote":       "it changes the key file, and no row",
	"migrate up":        "`migrate status` says what it would do",
	"schedule apply":    "`schedule plan` says what it would do",
	"schedule trigger":  "it asks for one job at once",
	"serve":             "it is a process",
}

// verbs calls do for each command that does something, by its name without "headgate".
func verbs(do func(name string, cmd *cobra.Command)) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "headgate ")
		if !cmd.HasSubCommands() || cmd.Flags().Lookup("dry-run") != nil {
			do(name, cmd)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	var out bytes.Buffer
	walk(root(cli.New("headgate", nil, &out, &out, nil)))
}

// Every verb that changes something has --dry-run, or a reason to have none.
func TestEveryVerbThatWritesHasADryRun(t *testing.T) {
	t.Parallel()
	none := map[string]bool{}
	with := 0
	verbs(func(name string, cmd *cobra.Command) {
		if cmd.Flags().Lookup("dry-run") != nil {
			with++
			return
		}
		none[name] = true
		_, reads := verbsThatRead[name]
		require.True(t, reads != (verbsWithoutDryRun[name] != ""),
			"%s has no --dry-run: give it the flag (cli.DryRun), or list why it has none, or that it only reads", name)
	})
	require.Greater(t, with, 60)
	for name := range verbsThatRead {
		require.True(t, none[name], "%s is no verb without --dry-run", name)
	}
	for name := range verbsWithoutDryRun {
		require.True(t, none[name], "%s is no verb without --dry-run", name)
	}
}

const everyTable = `
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1`

// checksums are the rows of every table of a database.
func checksums(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), everyTable)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 40)
	sums := map[string]string{}
	for _, table := range tables {
		var sum string
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) || ' ' || md5(coalesce(string_agg(r::text, E'\n' ORDER BY r::text), '')) FROM `+table+` r`).Scan(&sum))
		sums[table] = sum
	}
	return sums
}

// varying is what two runs of one command differ in: times, UUIDs and tokens.
var varying = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( ?Z| UTC)?|[0-9a-f]{8}-[0-9a-f-]{27}|\b[A-Z2-7]{26}\b|"[a-z_]*_seconds": ?\d+`)

// nextLine is advice that rests on what was done.
var nextLine = regexp.MustCompile(`(?m)^next: .*\n`)

var dryLine = regexp.MustCompile(`(?m)^nothing was changed: a dry run.*\n`)

// A dry run of each verb whose change is one transaction leaves no row and no notification,
// prints what the change prints, and is the change in its errors too.
func TestADryRunIsTheChangeWithoutItsRows(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	db := env.Database("db", jobstestShared)
	c = c.with("HEADGATE_JOB_URL", loginURL(db.Job))
	c.secrets = append(c.secrets, db.Job.Password.Reveal())
	role, _ := env.RoleLogin("enqueue")
	anotherHost, _ := otherHosts(t, db.Job.Host)
	ours := tlstest.NewAuthority(t, "ours").Write(t)
	conn, err := pgx.Connect(t.Context(), env.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rows, err := conn.Query(t.Context(), `SELECT DISTINCT (regexp_matches(prosrc, 'pg_notify\(\s*''([a-z_]+)''', 'g'))[1] FROM pg_proc WHERE pronamespace = 'headgate'::regnamespace`)
	require.NoError(t, err)
	channels, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, channels, "headgate_catalog")
	for _, channel := range append(channels, "the_end") {
		_, err := conn.Exec(t.Context(), "LISTEN "+channel)
		require.NoError(t, err)
	}
	heard := func() (all []string) { // until a notification of our own comes
		_, err := conn.Exec(t.Context(), "NOTIFY the_end")
		require.NoError(t, err)
		for {
			n, err := conn.WaitForNotification(t.Context())
			require.NoError(t, err)
			if n.Channel == "the_end" {
				return all
			}
			all = append(all, n.Channel)
		}
	}
	tried, notified, advised := map[string]bool{}, 0, 0
	for _, step := range []struct {
		args string
		says string // of how many the dry run is
	}{
		{"region add eu --note Europe", ""},
		{"server add spare --host db9.example.com", ""},
		{"server set spare --region eu --budget 30", "of 0 tenants in 0 databases"},
		{"server rename spare other", "of 0 tenants in 0 databases"},
		{"server host add other db10.example.com", "of 0 tenants in 0 databases"},
		{"server host remove other db9.example.com", "of 0 tenants in 0 databases"},
		{"server remove other", ""},
		{"region remove eu", ""},
		{"feature set beta --type boolean --default false", "of 0 tenants"},
		{"tenant add acme --database db --plan pro --label tier=gold --domain acme.example --subdomain acme.app.example --email-domain mail.example", ""},
		{"tenant add brick --database db", ""},
		{"feature set beta --default true", "of 2 tenants"},
		{"feature require beta --kind app.report", "of 0 tenants"},
		{"feature set beta --default false", "of 2 tenants"},
		{"feature release beta --kind app.report", "of 2 tenants"},
		{"feature remove beta", "of 2 tenants"},
		{"plan set free --kind app.report", "of 0 tenants"},
		{"plan remove free", ""},
		{"tenant set acme --name Acme", "of 1 tenant"},
		{"tenant rename brick bricks", "of 1 tenant"},
		{"tenant label acme tier-", "of 1 tenant"},
		{"tenant brand set acme 1 Outdoor", ""},
		{"tenant brand remove acme 1", ""},
		{"tenant domain add acme new.example", ""},
		{"tenant domain verify acme new.example --without-proof --reason known", ""},
		{"tenant domain remove acme new.example", ""},
		{"tenant domain add acme below.app.example --subdomain", ""},
		{"tenant email add acme letters.example", ""},
		{"tenant email remove acme letters.example", ""},
		{"tenant suspend acme --reason invoice", "of 1 tenant"},
		{"tenant resume acme", "of 1 tenant"},
		{"database set db --max-tenants 7 --protection observe --reason trial", "of 2 tenants"},
		{"database login db", "of 2 tenants"},
		{"database rename db shared", "of 2 tenants"},
		{"ca add ours " + ours, ""},
		{"ca remove ours", ""},
		{"limit set tenant acme --weight 3", ""},
		{"limit clear tenant acme", ""},
		{"limit set tenant --select all --weight 2", "of 2 tenants"},
		{"pause kind headgate.report --note closed", ""},
		{"resume kind headgate.report", ""},
		{"pause tenant --select all", "of 2 tenants"},
		{"resume tenant --select all", "of 2 tenants"},
		{"enqueue-grant add " + role + " headgate.report --select all", ""},
		{"enqueue-grant remove " + role + " headgate.report", ""},
		{"schedule calendar set holidays --day 2036-12-25", ""},
		{"schedule calendar delete holidays", ""},
		{"schedule blackout set friday --tenant acme --span 08:00-20:00", ""},
		{"schedule blackout delete friday", ""},
		{"schedule maintenance-window set nights --tenant acme --span 01:00-05:00", ""},
		{"schedule maintenance-window delete nights", ""},
		{"schedule create nightly --tenant acme --kind app.tick --cron @yearly", ""},
		{"schedule edit nightly --tenant acme --cron @monthly", ""},
		{"schedule pause nightly --tenant acme --note quiet", ""},
		{"schedule resume nightly --tenant acme", ""},
		{"schedule delete nightly --tenant acme", ""},
		{"schedule create weekly --select all --kind app.tick --cron @yearly", "of 2 tenants"},
		{"schedule edit weekly --template --cron @monthly", "of 2 tenants"},
		{"schedule delete weekly --template", "of 2 tenants"},
		{"server host replace " + jobstest.Server + " " + db.Job.Host + " " + anotherHost, "of 2 tenants"},
	} {
		args := strings.Fields(step.args)
		before := checksums(t, conn)
		dry := c.run(append(args, "--dry-run")...)
		require.Equal(t, cli.ExitOK, dry.code, "%s: %s", step.args, dry.err)
		require.Equal(t, before, checksums(t, conn), step.args)
		require.Empty(t, heard(), step.args)
		require.Equal(t, strings.TrimSpace("nothing was changed: a dry run "+step.says), strings.TrimSpace(dryLine.FindString(dry.err)), "%s: %s", step.args, dry.err)
		real := c.run(args...)
		require.Equal(t, cli.ExitOK, real.code, "%s: %s", step.args, real.err)
		require.NotEqual(t, before, checksums(t, conn), "the control: %s writes", step.args)
		notified += len(heard())
		require.Equal(t, same(real.out), same(dry.out), step.args)
		require.NotRegexp(t, nextLine, dry.err, "nothing was done that a next step could rest on: %s", step.args)
		require.Equal(t, same(nextLine.ReplaceAllString(real.err, "")), same(dryLine.ReplaceAllString(dry.err, "")), step.args)
		if nextLine.MatchString(real.err) {
			advised++
		}
		if strings.Contains(step.args, " remove ") || strings.Contains(step.args, " delete ") || strings.Contains(step.args, " add ") && !strings.Contains(step.args, "domain add") && !strings.HasPrefix(step.args, "enqueue-grant") {
			again := c.run(append(args, "--dry-run")...)
			require.NotEqual(t, cli.ExitOK, again.code, "%s", step.args)
			require.Equal(t, c.run(args...), again, "a dry run fails as the change does")
		}
		verbs(func(name string, _ *cobra.Command) {
			if strings.HasPrefix(step.args+" ", name+" ") {
				tried[name] = true
			}
		})
	}
	require.Positive(t, notified, "the control: changes notify")
	require.GreaterOrEqual(t, advised, 4, "the control: changes say what comes next")
	verbs(func(name string, cmd *cobra.Command) {
		if flag := cmd.Flags().Lookup("dry-run"); flag != nil && flag.Usage == cli.DryRunUsage {
			require.True(t, tried[name] || name == "tenant feature" || name == "tenant archive", "%s has no dry run here", name)
		}
	})
}

// A token that is undone proves nothing, and is not shown: a person would put it into the DNS.
func TestADryRunShowsNoTokenOfAClaim(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	args := []string{"tenant", "domain", "add", "acme", "new.example", "-ojson"}
	token := regexp.MustCompile(`\b[A-Z2-7]{26}\b`)
	for _, format := range []string{"json", "table"} {
		args[5] = "-o" + format
		dry := c.run(append(args[:6:6], "--dry-run")...)
		require.Equal(t, cli.ExitOK, dry.code, dry.err)
		require.NotRegexp(t, token, dry.out+dry.err)
		require.Contains(t, dry.err, "set the TXT record _headgate.new.example to …\n")
	}
	real := c.run(args[:6]...)
	require.Regexp(t, token, real.err, "the control: a claim has a token")
}

// What is listed as reading reads.
func TestVerbsThatReadChangeNoRow(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	c.ok("plan", "set", "free")
	c.ok("schedule", "create", "nightly", "--tenant", "acme", "--kind", "app.tick", "--cron", "@yearly")
	c.ok("job", "enqueue", "app.tick", "--tenant", "acme")
	file := filepath.Join(t.TempDir(), "schedules.yaml")
	require.NoError(t, os.WriteFile(file, []byte("name: ours\nschedules:\n  - {name: weekly, select: all, kind: app.tick, cron: '@weekly'}\n"), 0o600))
	conn, err := pgx.Connect(t.Context(), env.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	before := checksums(t, conn)
	given := strings.NewReplacer("JOB", env.UIDOf(1), "FILE", file, "SERVER", jobstest.Server)
	for name, args := range verbsThatRead {
		r := c.run(append(strings.Fields(name), strings.Fields(given.Replace(args))...)...)
		require.Contains(t, []int{cli.ExitOK, cli.ExitFailed}, r.code, "%s: %s", name, r.err)
		require.Equal(t, before, checksums(t, conn), name)
	}
}

func same(text string) string { return varying.ReplaceAllString(text, "…") }

// A constraint that waits for the commit refuses a dry run as it refuses the change.
func TestADryRunChecksWhatWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	_, err := env.Pool.Exec(t.Context(), `
CREATE FUNCTION public.refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted: % is refused at the end', NEW.name; END $$;
CREATE CONSTRAINT TRIGGER refuses AFTER INSERT ON headgate.regions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuses()`)
	require.NoError(t, err)
	for _, args := range [][]string{{"region", "add", "eu"}, {"region", "add", "eu", "--dry-run"}} {
		r := c.run(args...)
		require.Equal(t, cli.ExitFailed, r.code, r.err)
		require.Contains(t, r.err, "planted: eu is refused at the end")
	}
}

// What is changed of a feature is a change of the tenants that follow: more than 50 want
// their number, and what changes none of them asks nobody.
func TestAFeatureOfManyIsConfirmed(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	for i := range cli.ManyTenants + 2 {
		env.Tenant(fmt.Sprintf("t%d", i), "db")
	}
	c.ok("feature", "set", "beta", "--type", "boolean")
	c.ok("tenant", "feature", "t0", "beta=true")
	for _, step := range []struct{ args, says string }{
		{"feature set beta --default false", "the default of feature beta is that of 51 tenants; pass --confirm 51 (nothing was changed)"},
		{"feature require beta --kind app.report", "feature beta is not true for 51 tenants; pass --confirm 51"},
		{"feature release beta --kind app.report", "feature beta is not true for 51 tenants; pass --confirm 51"},
	} {
		args := strings.Fields(step.args)
		before := c.ok("feature", "list")
		c.fails(cli.ExitUsage, args, step.says)
		require.Contains(t, c.run(append(args, "--dry-run")...).err, "nothing was changed: a dry run of 51 tenants")
		c.fails(cli.ExitUsage, append(args, "--confirm", "50"), "51 tenants, not the 50 of --confirm")
		require.Equal(t, before, c.ok("feature", "list"))
		require.NotEqual(t, before, c.ok(append(args, "--confirm", "51")...))
		c.ok(args...) // it is so already
		c.ok("feature", "set", "beta", "--note", step.args)
	}
	c.ok("tenant", "feature", "t0", "beta-")
	c.fails(cli.ExitUsage, []string{"feature", "remove", "beta"}, "the default of feature beta is that of 52 tenants")
	c.ok("feature", "remove", "beta", "--yes")
	c.ok("feature", "set", "beta", "--type", "boolean")
	c.ok("feature", "remove", "beta") // nobody had a value
}
