package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

// site is a database of a SaaS as its owner made it, without Headgate: a
// database, an owner, a job role, passwords.
type site struct {
	dbname                     string
	host                       string
	port                       uint16
	ownerURL, jobURL, adminURL string
	ownerPassword, jobPassword string
	owner, job                 string
	socket                     bool
	direct                     bool // it is behind a pooler, and there is a way past
	directPort                 uint16
}

// newSite makes one on the test server.
func newSite(t *testing.T, c *commandLine) *site {
	t.Helper()
	dbname, superuser := emptyDatabase(t)
	cfg, err := pgxpool.ParseConfig(superuser)
	require.NoError(t, err)
	s := &site{
		dbname: dbname, host: cfg.ConnConfig.Host, port: cfg.ConnConfig.Port, socket: strings.HasPrefix(cfg.ConnConfig.Host, "/"),
		owner: dbname + "_owner", job: dbname + "_job", ownerPassword: "planted-" + rand.Text(), jobPassword: "planted-" + rand.Text(),
	}
	if b := jobstest.TestBouncer(t); b != nil {
		s.direct, s.directPort = true, s.port
		s.host, s.port, s.socket = "127.0.0.1", uint16(b.Port), false
	}
	t.Cleanup(func() {
		admin(t, "postgres", "DROP DATABASE IF EXISTS "+dbname+" WITH (FORCE)", "DROP ROLE IF EXISTS "+s.owner, "DROP ROLE IF EXISTS "+s.job)
	})
	admin(t, "postgres",
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", s.owner, s.ownerPassword),
		fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", s.job, s.jobPassword),
		fmt.Sprintf("ALTER DATABASE %s OWNER TO %s", dbname, s.owner))
	s.ownerURL = s.address(s.owner, s.ownerPassword, dbname)
	s.jobURL = s.address(s.job, s.jobPassword, dbname)
	s.adminURL = s.address(cfg.ConnConfig.User, cfg.ConnConfig.Password, "postgres")
	c.secrets = append(c.secrets, s.ownerPassword, s.jobPassword)
	return s
}

func (s *site) address(user, password, dbname string) string {
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", s.host, s.port, user, password, dbname)
}

// words are what a server says of an error; a pooler has its own.
func (s *site) words(text string) string {
	if s.direct {
		return ""
	}
	return text
}

// grant makes the job role what it has to be.
func (s *site) grant(t *testing.T) {
	t.Helper()
	admin(t, "postgres", "GRANT headgate_job TO "+s.job)
}

// logins puts the two addresses where database add finds them.
func (s *site) logins(c *commandLine) *commandLine {
	c = c.with("HEADGATE_JOB_URL", s.jobURL).with("HEADGATE_OWNER_URL", s.ownerURL)
	if s.direct {
		past := *s
		past.port = s.directPort
		c = c.with("HEADGATE_JOB_DIRECT_URL", past.address(s.job, s.jobPassword, s.dbname)).
			with("HEADGATE_OWNER_DIRECT_URL", past.address(s.owner, s.ownerPassword, s.dbname))
	}
	return c
}

// prepared is a command line whose server knows headgate_job.
func prepared(t *testing.T) (*commandLine, *jobstest.Env, *site) {
	t.Helper()
	c, env := setup(t)
	s := newSite(t, c)
	admin(t, "postgres", migrations.ServerSQL)
	s.grant(t)
	return c, env, s
}

var addDB = []string{"database", "add", "acme-db", "--server", jobstest.Server, "--kind", "dedicated"}

func (s *site) installed(t *testing.T) bool {
	t.Helper()
	return ask(t, s.dbname, "SELECT to_regclass('headgate.identity') IS NOT NULL") == "true"
}

func TestDatabaseAdd(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	c = s.logins(c)

	r := c.run(addDB...)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "next: `headgate tenant add SLUG --database acme-db`")
	require.Contains(t, r.out, "dedicated")
	id, err := env.Catalog.DatabaseID(context.Background(), "acme-db")
	require.NoError(t, err)
	require.Equal(t, id, ask(t, s.dbname, "SELECT database_id FROM headgate.identity"))
	require.Equal(t, s.owner, ask(t, s.dbname, "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'headgate'"))

	c.fails(cli.ExitConflict, addDB, "exists already, as acme-db in the catalog")
	second := append([]string{}, addDB...)
	second[2] = "other-name"
	c.fails(cli.ExitConflict, second, "already")
}

// A job login that row-level security does not hold is taken, with a warning.
func TestDatabaseAddWarnsOfAPowerfulJobLogin(t *testing.T) {
	t.Parallel()
	c, _, s := prepared(t)
	admin(t, "postgres", "ALTER ROLE "+s.job+" BYPASSRLS")
	r := s.logins(c).run(addDB...)
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "warning: the job login")
}

// Every wrong login is found before anything is changed anywhere.
func TestDatabaseAddWrongLogins(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	for _, test := range []struct {
		name, job, owner string
		code             int
		says             []string
	}{
		{"job password", s.address(s.job, "planted-wrong", s.dbname), s.ownerURL, cli.ExitNotPermitted,
			[]string{"the job's login " + s.job + "@", "the server refuses it", s.words("password authentication failed"), "run the command again"}},
		{"owner password", s.jobURL, s.address(s.owner, "planted-wrong", s.dbname), cli.ExitNotPermitted,
			[]string{"the owner's login " + s.owner + "@", "the server refuses it"}},
		{"no such database", s.address(s.job, s.jobPassword, "hg_none"), s.address(s.owner, s.ownerPassword, "hg_none"), cli.ExitUnreachable,
			[]string{s.words("no such database")}},
		{"two databases", s.address(s.job, s.jobPassword, "postgres"), s.ownerURL, cli.ExitUsage, []string{"postgres", s.dbname}},
		{"one user", s.ownerURL, s.ownerURL, cli.ExitUsage, []string{"so give each its own"}},
		{"foreign host", strings.Replace(s.jobURL, "host="+s.host, "host=/elsewhere", 1), s.ownerURL, cli.ExitUsage, []string{"/elsewhere", "does not fit server testserver"}},
		{"no password", fmt.Sprintf("host=%s user=%s dbname=%s", s.host, s.job, s.dbname), s.ownerURL, cli.ExitUsage, []string{"HEADGATE_JOB_URL", "password missing"}},
		{"not an address", "planted-wrong", s.ownerURL, cli.ExitUsage, []string{"HEADGATE_JOB_URL", "not a PostgreSQL connection string"}},
		{"option", s.jobURL + " passfile=/etc/shadow", s.ownerURL, cli.ExitUsage, []string{"HEADGATE_JOB_URL", "passfile", "not allowed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.with("HEADGATE_JOB_URL", test.job).with("HEADGATE_OWNER_URL", test.owner)
			c.t, c.secrets = t, append(c.secrets, "planted-wrong")
			c.fails(test.code, addDB, test.says...)
			require.False(t, s.installed(t))
			require.Equal(t, "[]\n", c.ok("database", "list", "-o", "json"))
		})
	}
	s.logins(c).fails(cli.ExitNotFound, []string{"database", "add", "d", "--server", "testservr", "--kind", "shared"}, "unknown server", "did you mean testserver?")
	s.logins(c).fails(cli.ExitUsage, []string{"database", "add", "d", "--server", jobstest.Server, "--kind", "both"}, "--kind", "is not one of shared, dedicated")
	s.logins(c).fails(cli.ExitUsage, []string{"database", "add", "D", "--server", jobstest.Server, "--kind", "shared"}, "name", `"D"`)
	_, err := env.Catalog.DatabaseID(context.Background(), "d")
	require.Error(t, err)
}

// Whatever fails between the installation and the catalog's commit, the same
// command goes on from there, with the id that the database already bears.
func TestDatabaseAddAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	central := env.Pool.Config().ConnConfig.Database
	admin(t, "postgres", "REVOKE headgate_job FROM "+s.job)
	c = s.logins(c)

	c.fails(cli.ExitNotPermitted, addDB, `GRANT headgate_job TO "`+s.job+`"`, "the catalog has no entry", "run the command again, that is safe")
	require.True(t, s.installed(t))
	require.Equal(t, "[]\n", c.ok("database", "list", "-o", "json"))
	id := ask(t, s.dbname, "SELECT database_id FROM headgate.identity")
	s.grant(t)

	admin(t, central, `
		CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = '53100'; END $$`,
		`CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON headgate.databases DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail()`)
	c.fails(cli.ExitFailed, addDB, "the disk is full", "the catalog has no entry", "run the command again, that is safe")
	admin(t, central, `DROP TRIGGER fail ON headgate.databases`)

	c.ok(addDB...)
	require.Equal(t, id, ask(t, s.dbname, "SELECT database_id FROM headgate.identity"))
	require.Equal(t, id, ask(t, central, "SELECT id FROM headgate.databases"))
}

// A database that another Headgate works on is not taken for our own.
func TestDatabaseAddOfAnotherHeadgate(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	s.logins(c).ok(addDB...)
	theirs := ask(t, s.dbname, "SELECT database_id FROM headgate.identity")

	other, otherEnv := setup(t)
	other.secrets = append(other.secrets, c.secrets...)
	other = s.logins(other)
	other.fails(cli.ExitConflict, addDB, theirs, "another Headgate", "--take-over")
	require.Equal(t, "[]\n", other.ok("database", "list", "-o", "json"))

	// Another name on the same server of the first catalog: a copy, marked as the original.
	copied := newSite(t, c)
	copied.grant(t)
	admin(t, "postgres", "DROP DATABASE "+copied.dbname, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s OWNER %s", copied.dbname, s.dbname, copied.owner))
	asOriginal := *copied // what is in the copy is the original's owner's
	asOriginal.owner, asOriginal.ownerPassword = s.owner, s.ownerPassword
	asOriginal.ownerURL = s.address(s.owner, s.ownerPassword, copied.dbname)
	args := append([]string{}, addDB...)
	args[2] = "copy-db"
	asOriginal.logins(c).fails(cli.ExitConflict, args, "marked as database acme-db of this catalog")
	asOriginal.logins(c).fails(cli.ExitConflict, append(args, "--take-over"), "marked as database acme-db of this catalog")

	_, err := env.Pool.Exec(context.Background(), `DELETE FROM headgate.databases`)
	require.NoError(t, err)
	other.ok(append(append([]string{}, addDB...), "--take-over")...)
	id, err := otherEnv.Catalog.DatabaseID(context.Background(), "acme-db")
	require.NoError(t, err)
	require.Equal(t, theirs, id)
}

// Two who add the same database at once: one does, the other hears that it
// exists.
func TestDatabaseAddTwiceAtOnce(t *testing.T) {
	t.Parallel()
	c, _, s := prepared(t)
	c = s.logins(c)
	codes := make(chan int, 2)
	for range 2 {
		go func() { codes <- c.run(addDB...).code }()
	}
	require.ElementsMatch(t, []int{cli.ExitOK, cli.ExitConflict}, []int{<-codes, <-codes})
	require.Equal(t, 1, strings.Count(c.ok("database", "list", "-o", "jsonl"), "\n"))
}

// The addresses may come from files and from standard input.
func TestDatabaseLogin(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	dir := t.TempDir()
	ownerFile := filepath.Join(dir, "owner")
	require.NoError(t, os.WriteFile(ownerFile, []byte(s.ownerURL+"\n"), 0o600))
	r := c.runWith(context.Background(), strings.NewReader(s.jobURL+"\n"), append(append([]string{}, addDB...), "--job-url-file", "-", "--owner-url-file", ownerFile)...)
	require.Zero(t, r.code, r.err)

	c.fails(cli.ExitUsage, []string{"database", "login", "acme-db"}, "no address is given")
	admin(t, "postgres", fmt.Sprintf("ALTER ROLE %s PASSWORD 'planted-changed'", s.job))
	c.secrets = append(c.secrets, "planted-changed")
	c.with("HEADGATE_JOB_URL", s.jobURL).fails(cli.ExitNotPermitted, []string{"database", "login", "acme-db"}, "the server refuses it")
	changed := s.address(s.job, "planted-changed", s.dbname)
	r = c.with("HEADGATE_JOB_URL", changed).run("database", "login", "acme-db")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "the job login is replaced")
	require.Equal(t, "2 1", ask(t, env.Pool.Config().ConnConfig.Database, "SELECT job_version || ' ' || owner_version FROM headgate.databases"))

	c.with("HEADGATE_JOB_URL", changed).fails(cli.ExitNotFound, []string{"database", "login", "acme-bd"}, "did you mean acme-db?")
	other := newSite(t, c)
	other.grant(t)
	other.logins(c).fails(cli.ExitConflict, []string{"database", "login", "acme-db"}, "another database", "has no Headgate schema")
}

func TestServerPrepare(t *testing.T) {
	t.Parallel()
	dry := &commandLine{t: t}
	require.Equal(t, migrations.ServerSQL+"\n", dry.ok("server", "prepare", "any", "--dry-run"), "it needs no connection")

	c, _ := setup(t)
	s := newSite(t, c)
	c.with("HEADGATE_ADMIN_URL", s.adminURL).fails(cli.ExitNotFound, []string{"server", "prepare", "testservr"}, "did you mean testserver?")
	file := filepath.Join(t.TempDir(), "admin")
	require.NoError(t, os.WriteFile(file, []byte(s.adminURL), 0o600))
	for range 2 {
		r := c.run("server", "prepare", jobstest.Server, "--admin-url-file", file)
		require.Zero(t, r.code, r.err)
		require.Contains(t, r.err, "it has the role headgate_job")
	}
	require.Equal(t, "1", ask(t, "postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'headgate_job'"))
	c.with("HEADGATE_ADMIN_URL", s.ownerURL).fails(cli.ExitNotPermitted, []string{"server", "prepare", jobstest.Server}, "permission denied")
}

// The whole way, as the README has it: from an empty central database to a job
// that has done its work in a tenant's database, by commands alone.
func TestFromNothingToADoneJob(t *testing.T) {
	t.Parallel()
	_, central := emptyDatabase(t)
	c := newCLI(t, central)
	s := newSite(t, c)
	admin(t, s.dbname, `SET ROLE `+s.owner+`; CREATE TABLE events (id int, at timestamptz NOT NULL); INSERT INTO events SELECT i, now() - i * interval '1 day' FROM generate_series(1, 100) i`)

	c.ok("migrate", "up")
	switch {
	case s.socket:
		c.ok("server", "add", "main", "--socket", s.host)
	case s.direct:
		c.ok("server", "add", "main", "--plain-loopback", "--pooler", "transaction")
	default:
		c.ok("server", "add", "main", "--plain-loopback")
	}
	c.with("HEADGATE_ADMIN_URL", s.adminURL).ok("server", "prepare", "main")
	s.grant(t)
	s.logins(c).ok("database", "add", "acme-db", "--server", "main", "--kind", "dedicated")
	admin(t, s.dbname, `GRANT SELECT, DELETE ON events TO `+s.job)
	c.ok("tenant", "add", "acme", "--database", "acme-db", "--plan", "enterprise")

	reports := t.TempDir()
	serving := c.start("serve", "--reports", reports, "--log-format", "json")
	purge := enqueued(t, c.ok("job", "enqueue", "headgate.purge", "--tenant", "acme", "--args", `{"table": "events", "column": "at", "older_than": "30d"}`, "-o", "json"))
	report := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--args", `{"name": "events", "query": "SELECT count(*) FROM events"}`, "-o", "json"))
	analyze := enqueued(t, c.ok("job", "enqueue", "headgate.analyze", "--database", "acme-db", "-o", "json"))
	wrong := enqueued(t, c.ok("job", "enqueue", "headgate.report", "--tenant", "acme", "--max-attempts", "1", "--args", `{"name": "wrong", "query": "SELECT * FROM nowhere"}`, "-o", "json"))

	pool, err := pgxpool.New(context.Background(), central)
	require.NoError(t, err)
	defer pool.Close()
	for _, uid := range []string{purge, report, analyze, wrong} {
		awaitEnd(t, pool, uid)
	}
	require.Regexp(t, `(?m)^1 +succeeded +- .* 71$`, c.ok("job", "show", purge))
	require.Regexp(t, `(?m)^1 +succeeded `, c.ok("job", "show", report))
	require.Regexp(t, `(?m)^1 +succeeded `, c.ok("job", "show", analyze))
	require.Regexp(t, `(?s)\n1 +discarded +job_error .*\nattempt 1: .*relation "nowhere" does not exist`, c.ok("job", "show", wrong))
	files, err := filepath.Glob(filepath.Join(reports, "acme", "events-*.csv"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Equal(t, "29", ask(t, s.dbname, "SELECT count(*) FROM events"))

	require.Equal(t, cli.ExitOK, serving.end(), serving.err.String())
	require.Empty(t, serving.out.String())
	for line := range strings.Lines(serving.err.String()) {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func enqueued(t *testing.T, out string) string {
	t.Helper()
	var view struct{ UID string }
	require.NoError(t, json.Unmarshal([]byte(out), &view))
	return view.UID
}

const awaitedStates = `SELECT count(*) FROM headgate.outcomes WHERE job_uid = $1 AND state IN ('succeeded', 'cancelled', 'discarded')`

// awaitEnd waits until a job has ended for good.
func awaitEnd(t *testing.T, pool *pgxpool.Pool, uid string) {
	t.Helper()
	env := &waiter{t: t, pool: pool}
	env.until(awaitedStates, uid)
}

// A login behind a pooler is given a way past it, which is tried and sealed like
// the login itself.
func TestDatabaseLoginDirect(t *testing.T) {
	t.Parallel()
	c, env, s := prepared(t)
	s.logins(c).ok(addDB...)
	c.fails(cli.ExitUsage, []string{"server", "set", jobstest.Server}, "give --budget, --pooler or --region")
	c.fails(cli.ExitUsage, []string{"server", "set", jobstest.Server, "--pooler", "statement"}, "use none, transaction or session")
	require.Contains(t, c.ok("server", "set", jobstest.Server, "--pooler", "transaction", "-o", "json"), `"pooler": "transaction"`)

	central := strings.TrimPrefix(env.Pool.Config().ConnConfig.Database, "/")
	before := ask(t, central, "SELECT job_direct_version FROM headgate.databases")
	r := c.with("HEADGATE_JOB_DIRECT_URL", s.jobURL).run("database", "login", "acme-db")
	require.Zero(t, r.code, r.err)
	require.Contains(t, r.err, "the job login's direct address is replaced")
	require.NotEqual(t, before, ask(t, central, "SELECT job_direct_version FROM headgate.databases"))
	c.with("HEADGATE_JOB_DIRECT_URL", s.ownerURL).fails(cli.ExitUsage, []string{"database", "login", "acme-db"}, "it is the same login, past the pooler")
	c.with("HEADGATE_JOB_DIRECT_URL", s.address(s.job, "planted-wrong", s.dbname)).
		fails(cli.ExitNotPermitted, []string{"database", "login", "acme-db"}, "the server refuses it")
}
