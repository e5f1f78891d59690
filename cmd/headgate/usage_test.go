package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// Every exit code of the documentation, by a command that gives it.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	env.Tenant("sleepy", "db")
	require.NoError(t, env.Catalog.SetStatus(context.Background(), "sleepy", "suspended"))
	purge := `{"table": "t", "column": "at", "older_than": "9d"}`

	require.Equal(t, cli.ExitOK, c.run("version").code)

	for _, test := range []struct {
		name string
		code int
		args string
		says []string
	}{
		{"unknown command", cli.ExitUsage, "servr", []string{`unknown command "servr"`, "did you mean serve or server?"}},
		{"unknown verb", cli.ExitUsage, "tenant ad", []string{`unknown command "ad" for "headgate tenant"`, "did you mean add?"}},
		{"unknown flag", cli.ExitUsage, "job list --stat x", []string{"unknown flag --stat", "did you mean --state?"}},
		{"unknown short flag", cli.ExitUsage, "job list -x", []string{"unknown flag -x"}},
		{"flag without value", cli.ExitUsage, "job list --state", []string{"--state needs a value", "waiting"}},
		{"flag of another type", cli.ExitUsage, "job list --limit many", []string{"--limit", `"many"`, "a whole number"}},
		{"missing argument", cli.ExitUsage, "tenant add --database db", []string{"SLUG is missing", "headgate tenant add SLUG"}},
		{"too many arguments", cli.ExitUsage, "tenant add a b", []string{"takes SLUG and no more"}},
		{"missing flag", cli.ExitUsage, "server add newserver", []string{"--host is missing"}},
		{"output", cli.ExitUsage, "tenant list -o yml", []string{"--output", "table, json, jsonl, csv"}},
		{"log level", cli.ExitUsage, "tenant list --log-level loud", []string{"--log-level", "debug, info, warn, error"}},
		{"bad value of the catalog", cli.ExitUsage, "tenant add A_B --database db", []string{"slug", `"A_B"`}},
		{"unknown zone", cli.ExitUsage, "tenant add newco --database db --timezone Mars/Phobos", []string{"timezone", "Mars/Phobos"}},
		{"label", cli.ExitUsage, "tenant add newco --database db --label plain", []string{"--label", "KEY=VALUE"}},
		{"both targets", cli.ExitUsage, "job enqueue kk --tenant a --database b", []string{"--tenant and --database"}},
		{"no target", cli.ExitUsage, "job enqueue k", []string{"--tenant and --database"}},
		{"wrong scope", cli.ExitUsage, "job enqueue headgate.analyze --tenant acme", []string{"--database instead of --tenant"}},
		{"wrong scope too", cli.ExitUsage, `job enqueue headgate.report --database db --args {"name":"r","query":"SELECT§1"}`, []string{"--tenant instead of --database"}},
		{"priority", cli.ExitUsage, "job enqueue kk --tenant acme --priority 9", []string{"--priority is 9: give 1 to 4"}},
		{"priority nought", cli.ExitUsage, "job enqueue kk --tenant acme --priority 0", []string{"--priority"}},
		{"run at no day", cli.ExitUsage, "job enqueue kk --tenant acme --run-at 2027-02-30T00:00:00Z", []string{"--run-at", "2027-02-30"}},
		{"run at no zone", cli.ExitUsage, "job enqueue kk --tenant acme --run-at 2027-02-20T00:00:00", []string{"--run-at", "zone"}},
		{"run at past", cli.ExitUsage, "job enqueue kk --tenant acme --run-at 1999-02-20T00:00:00Z", []string{"past"}},
		{"run at far", cli.ExitUsage, "job enqueue kk --tenant acme --run-at 9999-02-20T00:00:00Z", []string{"too far ahead"}},
		{"unknown built-in", cli.ExitUsage, "job enqueue headgate.purg --tenant acme", []string{"headgate.purg", "did you mean headgate.purge?"}},
		{"nobody named", cli.ExitUsage, "tenant list --database=", []string{"--database is empty: give a name, or leave the flag out"}},
		{"state", cli.ExitUsage, "job list --state done", []string{"--state", "succeeded"}},
		{"limit", cli.ExitUsage, "job list --limit 0", []string{"--limit is 0", "1 to 1000"}},
		{"cron", cli.ExitUsage, "schedule create s --tenant acme --kind kk --cron @reboot", []string{"@reboot"}},
		{"never fires", cli.ExitUsage, "schedule create s --tenant acme --kind kk --cron 0§0§31§2§*", []string{"never", "31"}},
		{"schedule of a database kind", cli.ExitUsage, "schedule create s --tenant acme --kind headgate.vacuum --cron @daily", []string{"whole database"}},
		{"slots", cli.ExitUsage, "serve --slots 0", []string{"nothing to work on"}},
		{"queue", cli.ExitUsage, "serve --queue fast", []string{"NAME=SLOTS"}},
		{"queue that cannot be", cli.ExitUsage, "worker --queue BAD§Q=3", []string{`--queue: "BAD Q": a queue's name is`}},
		{"open for less than nothing", cli.ExitUsage, "doctor --open-for -5s", []string{"--open-for is -5s: give 0s or more"}},
		{"dev without dash", cli.ExitUsage, "dev true", []string{"put -- in front"}},
		{"dev bare", cli.ExitUsage, "dev --bare", []string{"behind --"}},
		{"dev unknown command", cli.ExitUsage, "dev -- headgate-no-such-program", []string{"headgate-no-such-program"}},
		{"server without host", cli.ExitUsage, "server add s", []string{"--host is missing"}},
		{"server with two transports", cli.ExitUsage, "server add s --socket /tmp --plain-loopback", []string{"--socket"}},
		{"database kind", cli.ExitUsage, "database add d --server testserver", []string{"--kind is missing"}},
		{"no address", cli.ExitUsage, "database add d --server testserver --kind shared", []string{"HEADGATE_JOB_URL", "--job-url-file"}},
		{"no administrator", cli.ExitUsage, "server prepare testserver", []string{"HEADGATE_ADMIN_URL"}},
		{"stdin twice", cli.ExitUsage, "database add d --server s --kind shared --job-url-file - --owner-url-file -", []string{"cannot both"}},

		{"unknown tenant", cli.ExitNotFound, "job enqueue kk --tenant nobody", []string{"unknown tenant", `"nobody"`}},
		{"unknown tenant in a list", cli.ExitNotFound, "job list --tenant nobody", []string{"unknown tenant"}},
		{"unknown database", cli.ExitNotFound, "job enqueue headgate.analyze --database nowhere", []string{"unknown database"}},
		{"unknown database in a list", cli.ExitNotFound, "tenant list --database dbs", []string{"unknown database", "did you mean db?"}},
		{"unknown job", cli.ExitNotFound, "job show 01900000-0000-7000-8000-00000000000a", []string{"unknown job", "01900000-0000-7000-8000-00000000000a"}},
		{"attempts of no job", cli.ExitNotFound, "job attempts 01900000-0000-7000-8000-00000000000a", []string{"unknown job"}},
		{"no job", cli.ExitUsage, "job show nonsense", []string{`job "nonsense": give the job's UID`}},
		{"unknown schedule", cli.ExitNotFound, "schedule pause nightly --tenant acme", []string{"unknown schedule", "nightly"}},
		{"unknown schedule too", cli.ExitNotFound, "schedule resume nightly --tenant acme", []string{"unknown schedule", "nightly"}},

		{"suspended tenant", cli.ExitNotPermitted, "job enqueue kk --tenant sleepy", []string{"suspended", "sleepy"}},

		{"tenant exists", cli.ExitConflict, "tenant add acme --database db", []string{`slug "acme" is taken already`}},
		{"server exists", cli.ExitConflict, "server add testserver --host db.example.com", []string{"testserver", "exists"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := *c
			c.t = t
			args := strings.Fields(test.args)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "§", " ")
			}
			c.fails(test.code, args, test.says...)
		})
	}
	t.Run("database by UUID in capitals", func(t *testing.T) {
		t.Parallel()
		c := *c
		c.t = t
		id, err := env.Catalog.DatabaseID(context.Background(), "db")
		require.NoError(t, err)
		require.Contains(t, c.ok("tenant", "list", "--database", strings.ToUpper(id)), "acme")
	})
	t.Run("schedule exists", func(t *testing.T) {
		t.Parallel()
		c := *c
		c.t = t
		args := []string{"schedule", "create", "nightly-purge", "--tenant", "acme", "--kind", "headgate.purge", "--cron", "@daily", "--args", purge}
		c.ok(args...)
		c.fails(cli.ExitConflict, args, "nightly-purge", "exists")
	})
}

// What is not valid UTF-8 is refused before a command runs, by its name, and a terminal
// gets none of its bytes.
func TestWhatIsNotUTF8IsRefused(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	c.secrets = append(c.secrets, "planted-S3cret")
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"job", "list", "--kind", "\xff"}, `--kind: "\xff" is not valid UTF-8`},
		{[]string{"job", "list", "--kind=\xff\x1b[31m"}, `--kind: "\xff\x1b[31m" is not valid UTF-8`},
		{[]string{"schedule", "create", "\xff\x1b[31m", "--tenant", "acme", "--kind", "kk", "--cron", "@daily"}, `NAME: "\xff\x1b[31m" is not valid UTF-8`},
		{[]string{"schedule", "create", "s", "--select", "plan=pro", "--select", "plan=\xff", "--kind", "kk", "--cron", "@daily"}, `"plan=\xff" is not valid UTF-8`},
		{[]string{"tenant", "add", "acme", "--database", "db", "--domain", "\xff"}, `--domain: "\xff" is not valid UTF-8`},
		{[]string{"tenant", "add", "--domain", "\xff"}, "SLUG is missing"},
		{[]string{"pause", "server", "\xff"}, `NAME: "\xff" is not valid UTF-8`},
		{[]string{"pause", "\xff\x1b", "x"}, `the first argument: "\xff\x1b" is not one of`},
		{[]string{"\xff\x1b"}, `unknown command "\xff\x1b"`},
		{[]string{"job", "list", "--\xff\x1b"}, `a flag is not valid UTF-8: "unknown flag: --\xff\x1b"`},
		{[]string{"job", "list", "--limit", "\xff\x1b"}, `--limit: "\xff\x1b" does not fit`},
		{[]string{"job", "list", "--database-url", "postgres://u:planted-S3cret@h/\xff"}, `--database-url: the value given is not valid UTF-8`},
		{[]string{"dev", "--data", "\xff", "--", "true"}, `--data: "\xff" is not valid UTF-8`},
	} {
		require.Contains(t, c.fails(cli.ExitUsage, test.args), test.says, "%q", test.args)
		require.NotContains(t, c.run(test.args...).err, "\x1b", "%q", test.args)
	}
	c.with("HEADGATE_REPORTS", "\xff").fails(cli.ExitUsage, []string{"serve"}, `--reports: "\xff" is not valid UTF-8`)
	c.fails(cli.ExitUsage, []string{"dev", "--", "headgate-no-such-program", "\xff"}, "headgate-no-such-program") // its arguments are its own
}

func TestHelpListsTheExitCodes(t *testing.T) {
	t.Parallel()
	c := &commandLine{t: t}
	help := c.ok("--help")
	for _, code := range []string{"0  ", "1  ", "2  ", "3  ", "4  ", "5  ", "6  ", "7  ", "124  ", "130  "} {
		require.Regexp(t, `(?m)^  `+code, help)
	}
	require.NotContains(t, c.ok("server", "--help"), "Exit codes")
	require.Equal(t, help, c.ok(), "no command at all is a question for help")
	require.Contains(t, c.ok("completion", "bash"), "headgate")
}

func TestWhichCentralDatabase(t *testing.T) {
	t.Parallel()
	env, _ := setup(t)
	file := filepath.Join(t.TempDir(), "url")
	good := ""
	for _, entry := range env.environ {
		if value, ok := strings.CutPrefix(entry, "DATABASE_URL="); ok {
			good = value
		}
	}
	require.NoError(t, os.WriteFile(file, []byte(good+"\n"), 0o600))
	const bad = "postgres://u:planted-S3cret@127.0.0.1:1/none"
	none := &commandLine{t: t, secrets: append(env.secrets, "planted-S3cret")}

	none.fails(cli.ExitUsage, []string{"tenant", "list"}, "DATABASE_URL", "headgate dev")
	none.with("DATABASE_URL", good).ok("tenant", "list")
	none.with("DATABASE_URL_FILE", file).ok("tenant", "list")
	none.with("DATABASE_URL", bad).ok("tenant", "list", "--database-url", good)
	none.with("DATABASE_URL", good).fails(cli.ExitUnreachable, []string{"tenant", "list", "--database-url", bad}, "127.0.0.1:1", "connection refused")
	none.with("DATABASE_URL", good).with("DATABASE_URL_FILE", file).fails(cli.ExitUsage, []string{"tenant", "list"}, "both", "DATABASE_URL_FILE")
	none.with("DATABASE_URL_FILE", file+".gone").fails(cli.ExitUsage, []string{"tenant", "list"}, "DATABASE_URL_FILE", "no such file")
}

// What people put into DATABASE_URL by mistake, and what they hear of it: never
// a piece of the password.
func TestUnusableCentralDatabase(t *testing.T) {
	t.Parallel()
	good, env := setup(t)
	for _, test := range []struct {
		name, url string
		code      int
		says      []string
	}{
		{"refused", "postgres://u:planted-S3cret@127.0.0.1:1/x", cli.ExitUnreachable, []string{"127.0.0.1:1", "connection refused", "DATABASE_URL"}},
		{"bad port", "postgres://u:planted-S3cret@h:notaport/db", cli.ExitUsage, []string{"DATABASE_URL", "invalid port"}},
		{"no URL", "planted-S3cret", cli.ExitUsage, []string{"DATABASE_URL", "postgres://"}},
		{"another product's", "Server=h;Password=planted-S3cret", cli.ExitUsage, []string{"DATABASE_URL", "postgres://"}},
		{"bad escape", "postgres://u:planted-S3cret%zz@h/db", cli.ExitUsage, []string{"DATABASE_URL"}},
		{"at in the password", "postgres://u:x@planted-S3cret@127.0.0.1/db", cli.ExitUsage, []string{"DATABASE_URL: the host is none", "percent-encoded"}},
		{"slash in the password", "postgres://u:planted-S3cret/x@h/db", cli.ExitUsage, []string{"DATABASE_URL"}},
		{"keywords", "host=h password=planted-S3cret port=no", cli.ExitUsage, []string{"DATABASE_URL", "invalid port"}},
		{"wrong password", strings.Replace(env.URL, good.secrets[0], "planted-S3cret", 1), cli.ExitNotPermitted, []string{"refuses user", "password authentication failed"}},
		{"no such database", strings.Replace(env.URL, env.Pool.Config().ConnConfig.Database, "hg_missing", 1), cli.ExitUnreachable, []string{`no database "hg_missing"`, "migrate up"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &commandLine{t: t, environ: []string{"DATABASE_URL=" + test.url}, secrets: []string{"planted-S3cret", "planted", good.secrets[0]}}
			c.fails(test.code, []string{"tenant", "list"}, test.says...)
			if test.code != cli.ExitUnreachable || test.name == "refused" {
				c.fails(test.code, []string{"migrate", "up"}, test.says...)
			}
		})
	}
}

// pgx reads PGHOST and its like from the process, so this takes a process.
func TestCentralDatabaseFromPGVariables(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	cfg := env.Pool.Config().ConnConfig
	c.environ = []string{"PATH=" + os.Getenv("PATH"), "PGHOST=" + cfg.Host, "PGPORT=" + cli.Plain(int(cfg.Port)), "PGUSER=" + cfg.User, "PGPASSWORD=" + cfg.Password, "PGDATABASE=" + cfg.Database}
	cmd, out := c.process("tenant", "list", "-o", "json")
	require.NoError(t, cmd.Run(), out.String())
	require.Equal(t, "[]\n", out.String())
}

// A central database of several hosts is that of the first one that answers and takes
// writes, for commands and for the whole of a process that works.
func TestACentralDatabaseOfSeveralHosts(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	cfg, err := pgx.ParseConfig(c.lookup("DATABASE_URL"))
	require.NoError(t, err)
	several := func(first, second string) string {
		return fmt.Sprintf("host='%s' port=%s user='%s' password='%s' dbname='%s' target_session_attrs=read-write",
			first+","+cfg.Host, second+","+cli.Plain(int(cfg.Port)), cfg.User, cfg.Password, cfg.Database)
	}
	away := c.with("DATABASE_URL", several("127.0.0.1", "1"))
	uid := enqueued(t, away.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "x", "query": "SELECT 1"}`, "-o", "json"))
	server := away.start("serve", "--reports", t.TempDir())
	require.Equal(t, jobs.Succeeded, env.Wait(uid).State)
	require.Equal(t, cli.ExitOK, server.end(), server.err.String())
}

func TestKey(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	for _, command := range []string{"serve", "worker"} {
		none := c.with("HEADGATE_KEY", "")
		none.fails(cli.ExitUsage, []string{command}, "no key", "openssl rand", "HEADGATE_KEY_FILE")
		c.with("HEADGATE_KEY", "k1:planted-S3cret").fails(cli.ExitUsage, []string{command}, "HEADGATE_KEY", "k1")
	}
}

// A value that is an address in the wrong place is not repeated.
func TestMisplacedAddressIsNotRepeated(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	c.secrets = append(c.secrets, "planted-S3cret")
	const address = "postgres://u:planted-S3cret@h/db"
	for _, args := range [][]string{
		{address},
		{"database", address},
		{"database", "add", "d", address},
		{"database", "add", address, "--server", "testserver", "--kind", "shared"},
		{"database", "add", "d", "--server", "testserver", "--kind", "shared", "--job-url-file", address},
		{"database", "add", "d", "--server", address, "--kind", "shared"},
		{"database", "login", "d", "--job-url-file", address},
		{"server", "prepare", "testserver", "--admin-url-file", address},
		{"server", "prepare", address, "--admin-url-file", address},
		{"tenant", "list", "-o", address},
		{"job", "list", "--limit", address},
		{"job", "list", "--state", address},
		{"job", "list", "--" + address},
		{"serve", "--queue", address},
		{"serve", "--queue", address + "=3"},
	} {
		r := c.run(args...)
		require.NotZero(t, r.code, args)
	}
}

// Standard input is read when it is asked for by "-", and an interrupt ends the
// wait for it.
func TestStdin(t *testing.T) {
	t.Parallel()
	c, env := setup(t)
	env.Database("db", jobstestShared)
	env.Tenant("acme", "db")
	enqueue := []string{"job", "enqueue", "app.greet", "--tenant", "acme", "--args", "-"}

	r := c.runWith(context.Background(), strings.NewReader(`{"name": "Ada"}`), enqueue...)
	require.Equal(t, cli.ExitOK, r.code, r.err)
	require.Contains(t, r.err, "note: \"app.greet\" is no built-in kind")

	silent := endless(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cli.InterruptedError{Signal: os.Interrupt})
	r = c.runWith(ctx, silent, enqueue...)
	require.Equal(t, cli.ExitInterrupted, r.code, r.err)
	require.Equal(t, "headgate: interrupted (interrupt)\n", r.err)

	ctx, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	r = c.runWith(ctx, silent, enqueue...)
	require.Equal(t, cli.ExitTimeout, r.code, r.err)
}

func TestSettingsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	c, _ := setup(t)
	require.Equal(t, "[]\n", c.with("HEADGATE_OUTPUT", "json").ok("tenant", "list"))
	require.Empty(t, c.with("HEADGATE_OUTPUT", "json").ok("tenant", "list", "-o", "table"), "a flag wins")
	c.with("HEADGATE_SLOTS", "many").fails(cli.ExitUsage, []string{"serve"}, "HEADGATE_SLOTS", "many")
	c.with("HEADGATE_LOG_LEVEL", "loud").fails(cli.ExitUsage, []string{"serve"}, "loud")
}
