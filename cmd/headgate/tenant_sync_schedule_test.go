package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// accountsSchema is a SaaS's own table of customers, and the view that a sync reads.
const accountsSchema = `
CREATE TABLE accounts (id bigint PRIMARY KEY, handle text, title text, plan text, closed boolean NOT NULL DEFAULT false);
CREATE SEQUENCE s;
CREATE VIEW headgate_tenants AS SELECT id AS org_id, handle AS slug, title AS name, plan FROM accounts WHERE NOT closed`

// synced is a catalog with a schedule that syncs it.
type synced struct {
	*commandLine
	env  *jobstest.Env
	saas *jobstest.Database
}

const syncArgs = `{"table": "public.headgate_tenants", "source": "crm", "new_tenants_in": "shared-1"}`

func newSynced(t *testing.T, accounts int) *synced {
	t.Helper()
	c, env := setup(t)
	s := &synced{commandLine: c, env: env}
	env.Database("shared-1", jobstestShared)
	s.saas = env.Database("saas", jobstest.DatabaseOpts{Kind: "dedicated", Schema: accountsSchema})
	s.do(`INSERT INTO accounts SELECT n, 't' || n, 'Tenant ' || n, 'free' FROM generate_series(1, $1) n`, accounts)
	c.ok("schedule", "create", "tenants", "--database", "saas", "--kind", "headgate.sync", "--cron", "@yearly", "--args", syncArgs)
	return s
}

// do runs a statement on the SaaS's own database.
func (s *synced) do(sql string, args ...any) {
	s.t.Helper()
	_, err := s.saas.Pool.Exec(context.Background(), sql, args...)
	require.NoError(s.t, err, sql)
}

// trigger is a run of the schedule, and how it ended.
func (s *synced) trigger() (uid string, last jobs.Outcome) {
	s.t.Helper()
	uid = enqueued(s.t, s.ok("schedule", "trigger", "tenants", "--database", "saas", "-o", "json"))
	return uid, s.env.Wait(uid)
}

// succeeds is what a run of the schedule that succeeds says.
func (s *synced) succeeds() (uid, output string) {
	s.t.Helper()
	uid, last := s.trigger()
	require.Equal(s.t, jobs.Succeeded, last.State, last.Message)
	return uid, last.Result.Output
}

// refuses is what a run of the schedule that fails says; it has written nothing.
func (s *synced) refuses() string {
	s.t.Helper()
	before := s.catalog()
	_, last := s.trigger()
	require.Equal(s.t, jobs.Discarded, last.State)
	require.Equal(s.t, jobs.ClassJobError, last.Class)
	require.Equal(s.t, before, s.catalog())
	return last.Message
}

// catalog is the tenants, with what a sync may change.
func (s *synced) catalog() (text string) {
	s.t.Helper()
	require.NoError(s.t, s.env.Pool.QueryRow(context.Background(), `
		SELECT coalesce(string_agg(concat_ws(' ', slug, name, plan, status, nullif(status_reason, ''), source, version), E'\n' ORDER BY org_id), '') FROM headgate.tenants`).Scan(&text))
	return text
}

func (s *synced) count(where string) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM headgate.tenants WHERE `+where).Scan(&n))
	return n
}

// printed are the commands that a text names.
func printed(text string) (commands []string) {
	for _, found := range advised.FindAllStringSubmatch(text, -1) {
		commands = append(commands, "headgate"+found[1])
	}
	return commands
}

// runsPrinted carries the one command of a sentence out and waits for its job.
func (s *synced) runsPrinted(sentence string) jobs.Outcome {
	s.t.Helper()
	commands := printed(sentence)
	require.Len(s.t, commands, 1, sentence)
	return s.env.Wait(enqueued(s.t, s.ok(append(shellWords(commands[0])[1:], "-o", "json")...)))
}

// shellWords are the words of a command as a shell reads them, which has only plain words and
// words in single quotes.
func shellWords(command string) (words []string) {
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// A schedule does what `tenant sync` does: a worker of the program reads the SaaS's own table,
// the catalog becomes as it is, and the audit has one operation, which is the job.
func TestASyncBySchedule(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 60)
	w := s.start("worker", "--reports", t.TempDir())
	require.Contains(t, s.ok("schedule", "list"), "headgate.sync")

	uid, output := s.succeeds()
	require.Contains(t, output, "tenants: 60 added, 0 changed, 0 suspended, 0 unchanged; plans: 1 new\nadd: t1, t2")
	require.Contains(t, output, "and 40 more")
	require.Equal(t, []string{"headgate audit list --operation " + uid}, printed(output))
	require.Equal(t, 60, s.count(`source = 'crm' AND status = 'active'`))
	var audited []struct{ Operation, Object, Actor, Surface, Reason string }
	require.NoError(t, json.Unmarshal([]byte(s.ok("audit", "list", "--operation", uid, "--object", "tenant", "--limit", "100", "-o", "json")), &audited))
	require.Len(t, audited, 60)
	for _, entry := range audited {
		require.Equal(t, uid, entry.Operation)
		require.Equal(t, "schedule tenants", entry.Actor)
		require.Equal(t, "headgate.sync", entry.Surface)
		require.Equal(t, "sync crm with table public.headgate_tenants of database saas", entry.Reason)
	}

	before := s.catalog()
	for range 3 { // planned, remembered, compared
		_, output = s.succeeds()
		require.Equal(t, "tenants: 0 added, 0 changed, 0 suspended, 60 unchanged (nothing to do)", output)
	}
	require.Equal(t, before, s.catalog())

	s.do(`UPDATE accounts SET closed = true WHERE id <= 2; UPDATE accounts SET plan = 'pro' WHERE id = 3; INSERT INTO accounts VALUES (61, 'new', 'New', 'free')`)
	_, output = s.succeeds()
	require.Contains(t, output, "tenants: 1 added, 1 changed, 2 suspended, 57 unchanged; plans: 1 new\nadd: new\nchange: t3\nsuspend: t1, t2\n")
	require.Equal(t, 2, s.count(`status = 'suspended' AND status_reason = 'sync'`))
	s.do(`UPDATE accounts SET closed = false WHERE id = 1`)
	_, output = s.succeeds()
	require.Contains(t, output, "change: t1\n")
	require.Equal(t, 1, s.count(`status = 'suspended'`))
	require.Equal(t, cli.ExitOK, w.end())
}

// Somebody changes the catalog, and not the source: the next sync sees that.
func TestASyncSeesAChangedCatalog(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 3)
	work(s.env)
	s.succeeds()
	s.succeeds()
	_, output := s.succeeds()
	require.Contains(t, output, "nothing to do")
	s.ok("tenant", "set", "t2", "--plan", "gold")
	_, output = s.succeeds()
	require.Contains(t, output, "change: t2\n")
	require.Equal(t, 3, s.count(`plan = 'free'`))
}

// A sync is held where many are missing, and the command that its message prints releases it.
// The failed job stands in the history of the schedule.
func TestAHeldSyncIsReleased(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 60)
	work(s.env)
	s.succeeds()
	s.do(`UPDATE accounts SET closed = true WHERE id <= 11`)
	message := s.refuses()
	require.Contains(t, s.ok("job", "list", "--state", "discarded"), "headgate.sync")
	require.Contains(t, message, `the sync is held: 11 of 60 active tenants of source "crm" are missing in the input, and more than 10 are held (nothing was written); look whether table public.headgate_tenants has all its rows`)
	last := s.runsPrinted(message)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Contains(t, last.Result.Output, "11 suspended")
	require.Equal(t, 11, s.count(`status = 'suspended' AND status_reason = 'sync'`))
	_, output := s.succeeds()
	require.Contains(t, output, "nothing to do")

	s.do(`UPDATE accounts SET closed = true WHERE id <= 30`)
	s.do(`UPDATE accounts SET closed = false WHERE id <= 11`)
	require.Contains(t, s.refuses(), `"allow_missing":19`)
}

// A table without rows is rather a mistake than a SaaS without customers.
func TestASyncOfNothingIsAnError(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 3)
	work(s.env)
	s.succeeds()
	s.do(`UPDATE accounts SET closed = true`)
	message := s.refuses()
	require.Contains(t, message, "table public.headgate_tenants of database saas: the input has no row: nothing was written")
	s.do(`UPDATE accounts SET closed = false`)
	require.Equal(t, jobs.Succeeded, s.runsPrinted(message).State)
}

// What is wrong with the arguments is said before anything is stored, and what is wrong with
// the table in the history. All wrong rows are in the job's log.
func TestASyncOfAWrongTable(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 2)
	work(s.env)
	for args, says := range map[string]string{
		`{}`:                                         `table "": want schema.name of a table or view`,
		`{"table": "accounts; DROP TABLE x"}`:        "want schema.name",
		`{"table": "public.x", "source": "A B"}`:     "source",
		`{"table": "public.x", "allow_missing": -1}`: "give the number of tenants",
		`{"table": "public.x", "query": "SELECT 1"}`: "unknown argument",
	} {
		s.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.sync", "--database", "saas", "--args", args}, says)
	}
	s.fails(cli.ExitUsage, []string{"job", "enqueue", "headgate.sync", "--tenant", "t1", "--args", syncArgs}, "give --database instead of --tenant")

	s.do(`
		CREATE VIEW wide AS SELECT id AS org_id, handle AS slug, title AS nam FROM accounts;
		CREATE VIEW nameless AS SELECT title FROM accounts;
		CREATE VIEW wrong AS SELECT id AS org_id, upper(handle) AS slug, 'Europe/Pariss' AS timezone FROM accounts;
		CREATE VIEW homeless AS SELECT 'x' || id AS slug FROM accounts;
		CREATE VIEW writes AS SELECT nextval('s')::text AS slug;
		CREATE VIEW broken AS SELECT (handle::int)::text AS slug FROM accounts;
		CREATE VIEW foreigners AS SELECT handle AS slug FROM accounts`)
	for _, view := range []string{"wide", "nameless", "wrong", "homeless", "writes", "broken"} {
		s.do("ALTER VIEW " + view + " OWNER TO " + s.saas.Owner.User)
	}
	for table, says := range map[string]string{
		"public.nowhere":    "there is no table or view",
		"public.wide":       `column "nam" is unknown (did you mean name?)`,
		"public.nameless":   "no column of it (1) is slug",
		"public.wrong":      "6 errors in the input (nothing was written)",
		"public.homeless":   "(new_tenants_in of headgate.sync)",
		"public.writes":     "read-only transaction",
		"public.broken":     "22P02",
		"public.foreigners": "would run with the rights of the owner's login",
	} {
		uid := enqueued(t, s.ok("job", "enqueue", "headgate.sync", "--database", "saas", "--args", fmt.Sprintf(`{"table": %q}`, table), "-o", "json"))
		last := s.env.Wait(uid)
		require.Contains(t, last.Message, says, table)
		require.NotContains(t, last.Message, `"t1"`)
		if table == "public.wrong" {
			shown := s.ok(shellWords(printed(last.Message)[0])[1:]...)
			require.Contains(t, shown, `row 2: slug "T2"`)
		}
	}
	require.Zero(t, s.count("true"))
}

// A worker is killed while the catalog is being written: the next run finishes what the killed
// one has not begun, by another worker.
func TestASyncThatIsKilledIsFinished(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 40)
	ctx := t.Context()
	turn, err := s.env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = turn.Rollback(context.WithoutCancel(ctx)) }()
	_, err = turn.Exec(ctx, `SELECT FROM headgate.org_ids FOR UPDATE`)
	require.NoError(t, err)
	victim, output := s.process("worker", "--reports", t.TempDir())
	require.NoError(t, victim.Start())
	output.await(t, "ready")
	s.ok("schedule", "trigger", "tenants", "--database", "saas")
	waits := `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%headgate.org_ids%'`
	require.NoError(t, awaitRows(ctx, s.env.Pool, waits, 1, nil))
	require.NoError(t, victim.Process.Kill())
	require.Error(t, victim.Wait())
	require.NoError(t, turn.Rollback(ctx))
	require.Zero(t, s.count("true"))

	w := s.start("worker", "--reports", t.TempDir())
	uid := enqueued(t, s.ok("job", "enqueue", "headgate.sync", "--database", "saas", "--args", syncArgs, "-o", "json"))
	last := s.env.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, 40, s.count(`source = 'crm'`))
	require.Equal(t, cli.ExitOK, w.end())
}

// A worker whose login may do a worker's work alone does not change the catalog; the sentence
// says which right it needs, and the command that it names runs the sync then.
func TestASyncNeedsARightOnTheCatalog(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 3)
	login, url := s.env.RoleLogin("worker")
	w := s.with("DATABASE_URL", url).with("DATABASE_DIRECT_URL", "").with("HEADGATE_CENTRAL_POOLER", "none").start("worker", "--reports", t.TempDir())
	uid := enqueued(t, s.ok("schedule", "trigger", "tenants", "--database", "saas", "-o", "json"))
	failed := s.env.WaitFor(uid, func(o jobs.Outcome) bool { return o.State == jobs.Failed })
	require.Equal(t, jobs.ClassJobError, failed.Class)
	require.Contains(t, failed.Message, "this worker's login of the central database may not change the catalog: have an administrator GRANT headgate_api TO that login")
	require.Zero(t, s.count("true"))

	_, err := s.env.Pool.Exec(t.Context(), `DO $$ BEGIN EXECUTE (SELECT 'GRANT ' || prefix || '_api TO `+login+`' FROM headgate.roles); END $$`)
	require.NoError(t, err)
	last := s.runsPrinted(failed.Message)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, 3, s.count("true"))
	require.Equal(t, cli.ExitOK, w.end())
}

// Syncs of one table follow each other, in one process and in two.
func TestSyncsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSynced(t, 30)
	work(s.env)
	work(s.env)
	var uids []string
	for range 4 {
		uids = append(uids, enqueued(t, s.ok("job", "enqueue", "headgate.sync", "--database", "saas", "--args", syncArgs, "-o", "json")))
	}
	writers := 0
	for _, uid := range uids {
		last := s.env.Wait(uid)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
		require.Equal(t, 1, last.Attempt)
		if strings.Contains(last.Result.Output, "30 added") {
			writers++
		}
	}
	require.Equal(t, 1, writers)
	require.Equal(t, 30, s.count("true"))
}
