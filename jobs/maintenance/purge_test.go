package maintenance_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

var _ jobs.TxHandler[maintenance.Purge] = maintenance.RunPurge

// purge does a purge as a worker would: in one transaction of the job login,
// after the given statements.
func (b *bundle) purge(args maintenance.Purge, first ...string) (jobs.Result, error) {
	b.t.Helper()
	ctx := context.Background()
	job := newJob(args)
	job.Dedicated = b.dedicated
	err := pgx.BeginFunc(ctx, b.login, func(tx pgx.Tx) error {
		for _, statement := range first {
			_, err := tx.Exec(ctx, statement)
			require.NoError(b.t, err)
		}
		return maintenance.RunPurge(ctx, tx, job)
	})
	return *job.Result, err
}

// events makes a table of rows that are 1 to n hours old.
func (b *bundle) events(n int) {
	b.t.Helper()
	b.exec(b.owner, "CREATE TABLE events (id bigint, at timestamptz, note text)")
	b.exec(b.owner, "GRANT SELECT, DELETE ON events TO "+b.jobRole)
	b.exec(b.owner, "INSERT INTO events SELECT n, now() - n * interval '1 hour' + interval '1 minute' FROM generate_series(1, $1) AS n", n)
	b.exec(b.owner, "INSERT INTO events VALUES (0, NULL)")
}

func TestPurgeDeletesWhatIsOld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.events(100)
	result, err := b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "48h", Batch: 10})
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 52, Output: "deleted 52 rows of events older than 48h"}, result)
	require.Equal(t, 49, b.count("SELECT count(*) FROM events WHERE id <= 48"), "and the row without a time")
	require.Equal(t, 49, b.count("SELECT count(*) FROM events"))

	result, err = b.purge(maintenance.Purge{Table: "public.events", Column: "at", OlderThan: "2d"})
	require.NoError(t, err)
	require.Zero(t, result.Rows)
	require.Equal(t, "deleted 0 rows of public.events older than 2d", result.Output)
}

func TestPurgeStopsAtMaxRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.events(100)
	args := maintenance.Purge{Table: "events", Column: "at", OlderThan: "1d", Batch: 30, MaxRows: 70}
	result, err := b.purge(args)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 70, Output: "deleted 70 rows of events older than 1d; more remain: run it again"}, result)
	result, err = b.purge(args)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 6, Output: "deleted 6 rows of events older than 1d"}, result)

	b.exec(b.owner, "INSERT INTO events SELECT n, now() - interval '2 days' FROM generate_series(1, 70) AS n")
	result, err = b.purge(args)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 70, Output: "deleted 70 rows of events older than 1d"}, result, "exactly the limit, and nothing left")
}

// share makes the database one that tenants share, with Headgate's schema in it, and
// says which organisation the purges after it are for.
func (b *bundle) share(org int) string {
	b.t.Helper()
	if b.dedicated {
		ctx := context.Background()
		require.NoError(b.t, migrations.PrepareServer(ctx, b.admin))
		b.exec(b.admin, "GRANT CREATE ON DATABASE "+b.name+" TO "+b.ownerRole)
		b.key = catalog.NewSigningKey()
		_, err := migrations.UpTenant(ctx, b.owner, migrations.Identity{DatabaseID: "0190aaaa-0000-7000-8000-000000000001", SigningKey: b.key}, nil)
		require.NoError(b.t, err)
		b.exec(b.admin, "GRANT headgate_job TO "+b.jobRole)
		b.dedicated = false
	}
	ticket := tenantdb.SignTicket(b.key, time.Now(), tenantdb.Bearer{Org: int64(org), UID: uuid.NewString()})
	return fmt.Sprintf("SELECT headgate.enter_job('%s', '%s', 1, '', 0, 0, 0)", ticket.Text, ticket.MAC)
}

// orgs makes a table with 100 old rows of each of two organisations.
func (b *bundle) orgs(table, column string) {
	b.t.Helper()
	b.exec(b.owner, fmt.Sprintf("CREATE TABLE %s (%s, at timestamptz)", table, column))
	b.exec(b.owner, fmt.Sprintf("INSERT INTO %s SELECT 1 + n %% 2, now() - interval '100 days' FROM generate_series(1, 200) AS n", table))
	b.exec(b.owner, fmt.Sprintf("GRANT SELECT, DELETE ON %s TO %s", table, b.jobRole))
}

// TestPurgeStaysInItsTenant: two organisations in one table under row-level
// security, and a job login that owns nothing.
func TestPurgeStaysInItsTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	second := b.share(2)
	b.orgs("events", "org_id bigint")
	b.exec(b.owner, "ALTER TABLE events ENABLE ROW LEVEL SECURITY")
	b.exec(b.owner, "CREATE POLICY tenant ON events TO "+b.jobRole+" USING (org_id = (SELECT headgate.current_org()))")

	args := maintenance.Purge{Table: "events", Column: "at", OlderThan: "90d", Batch: 30}
	result, err := b.purge(args, second)
	require.NoError(t, err)
	require.EqualValues(t, 100, result.Rows)
	require.Equal(t, 100, b.count("SELECT count(*) FROM events WHERE org_id = 1"))
	require.Zero(t, b.count("SELECT count(*) FROM events WHERE org_id = 2"))

	_, err = b.purge(args)
	require.Error(t, err, "no tenant in the context")
	require.Equal(t, 100, b.count("SELECT count(*) FROM events"))
}

// Whatever leaves a login free to delete other tenants' rows is refused before a row is
// gone, and the policy that the error names is the remedy.
func TestPurgeRefusesAnUnguardedTable(t *testing.T) {
	t.Parallel()
	const policy = `; CREATE POLICY one ON events TO headgate_job USING (customer = headgate.current_org())`
	for name, prepare := range map[string]string{
		"no policy":                         ``,
		"policies that are not on":          policy,
		"a policy that lets all through":    `; ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON events USING (true)`,
		"one policy for all beside another": `; ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON events USING (true)` + policy,
		"one that owns the table":           `; ALTER TABLE events ENABLE ROW LEVEL SECURITY` + policy + `; RESET ROLE; ALTER TABLE events OWNER TO headgate_job`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			first := b.share(1)
			b.orgs("events", "customer bigint")
			b.exec(b.admin, "SET ROLE "+b.ownerRole+prepare)
			b.exec(b.admin, "RESET ROLE")
			args := maintenance.Purge{Table: "events", Column: "at", OlderThan: "90d"}
			_, err := b.purge(args, first)
			var cancel *jobs.CancelError
			require.ErrorAs(t, err, &cancel, "it can never work")
			require.ErrorIs(t, err, jobs.ErrUnguarded)
			require.ErrorContains(t, err, `table "events", which tenants share`)
			require.ErrorContains(t, err, "`headgate database protect DATABASE --table \"events\"`")
			require.Equal(t, 200, b.count("SELECT count(*) FROM events"))

			b.dedicated = true
			result, err := b.purge(args)
			require.NoError(t, err)
			require.NotZero(t, result.Rows, "nobody else is there")
		})
	}
}

// A partition that is named itself is not guarded by its parent's policies; and rows
// that say whose they are go by that, whatever a policy lets through.
func TestPurgeOfAGuardedTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.share(1)
	b.exec(b.owner, "CREATE TABLE events (customer bigint, at timestamptz) PARTITION BY LIST (customer)")
	b.exec(b.owner, "CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1)")
	b.exec(b.owner, "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2)")
	b.exec(b.owner, "INSERT INTO events SELECT 1 + n % 2, now() - interval '100 days' FROM generate_series(1, 200) AS n")
	b.exec(b.owner, "GRANT SELECT, DELETE ON events, events_1, events_2 TO headgate_job")
	b.exec(b.owner, "ALTER TABLE events ENABLE ROW LEVEL SECURITY")
	b.exec(b.owner, "CREATE POLICY one ON events TO headgate_job USING (customer = (SELECT headgate.current_org()))")
	_, err := b.purge(maintenance.Purge{Table: "events_2", Column: "at", OlderThan: "90d"}, first)
	require.ErrorIs(t, err, jobs.ErrUnguarded)
	result, err := b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "90d"}, first)
	require.NoError(t, err)
	require.EqualValues(t, 100, result.Rows)
	require.Equal(t, 100, b.count("SELECT count(*) FROM events_2"))

	b.orgs("notes", "org_id int")
	b.exec(b.owner, "ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
	b.exec(b.owner, "CREATE POLICY too_much ON notes USING (org_id > 0)")
	result, err = b.purge(maintenance.Purge{Table: "notes", Column: "at", OlderThan: "90d", Batch: 7}, first)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 100, Output: "deleted 100 rows of notes older than 90d"}, result)
	require.Equal(t, 100, b.count("SELECT count(*) FROM notes WHERE org_id = 2"))
}

// A row that somebody changes or deletes while its batch waits for him is no sign of
// the end.
func TestPurgeGoesOnAfterAShortBatch(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"changed": "UPDATE events SET note = 'x' WHERE id = 10",
		"deleted": "DELETE FROM events WHERE id = 10",
		"renewed": "UPDATE events SET at = now() WHERE id = 10",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.events(300)
			other := b.connect(b.name, "")
			b.exec(other, "BEGIN")
			b.exec(other, change)
			ended := make(chan error, 1)
			result := jobs.Result{}
			go func() {
				var err error
				result, err = b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "1h", Batch: 50})
				ended <- err
			}()
			b.waitForLock()
			b.exec(other, "COMMIT")
			require.NoError(t, <-ended)
			require.Zero(t, b.count("SELECT count(*) FROM events WHERE at < now() - interval '90 minutes'"))
			require.NotContains(t, result.Output, "more remain")
			require.GreaterOrEqual(t, result.Rows, int64(298))
		})
	}
}

// A trigger that keeps some rows hides no others, and what it keeps is told.
func TestPurgePassesOverWhatATriggerKeeps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.events(100)
	b.exec(b.owner, "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF OLD.id <= 40 THEN RETURN NULL; END IF; RETURN OLD; END'")
	b.exec(b.owner, "CREATE TRIGGER keep BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION keep()")
	result, err := b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "1h", Batch: 7})
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 60, Output: "deleted 60 rows of events older than 1h; more remain, which a trigger keeps or others are changing: run it again"}, result)
	require.Equal(t, 41, b.count("SELECT count(*) FROM events"))
}

// TestPurgeOfPartitionsSparesTheYoung: old and young rows in two partitions have
// the same ctids.
func TestPurgeOfPartitionsSparesTheYoung(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.owner, "CREATE TABLE events (part int, at date) PARTITION BY LIST (part)")
	b.exec(b.owner, "CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1)")
	b.exec(b.owner, "CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2)")
	b.exec(b.owner, "CREATE TABLE events_3 PARTITION OF events FOR VALUES IN (3)")
	b.exec(b.owner, "INSERT INTO events SELECT 1 + n % 3, CASE n % 3 WHEN 1 THEN now() ELSE now() - interval '30 days' END FROM generate_series(0, 299) AS n")
	b.exec(b.owner, "GRANT SELECT, DELETE ON events TO "+b.jobRole)
	result, err := b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "7d", Batch: 7})
	require.NoError(t, err)
	require.EqualValues(t, 200, result.Rows)
	require.Equal(t, 100, b.count("SELECT count(*) FROM events WHERE part = 2"))
	require.Equal(t, 100, b.count("SELECT count(*) FROM events"))
}

// TestPurgeEndsWhenATriggerKeepsRows: the same rows would be found for ever.
func TestPurgeEndsWhenATriggerKeepsRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.events(50)
	b.exec(b.owner, "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
	b.exec(b.owner, "CREATE TRIGGER keep BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION keep()")
	result, err := b.purge(maintenance.Purge{Table: "events", Column: "at", OlderThan: "1h", Batch: 10})
	require.NoError(t, err)
	require.Zero(t, result.Rows)
}

func TestPurgeQuotesNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.admin, "CREATE SCHEMA \"Sales\" AUTHORIZATION "+b.ownerRole)
	b.exec(b.owner, `CREATE TABLE "Sales"."Order$" ("At" timestamp)`)
	b.exec(b.owner, `INSERT INTO "Sales"."Order$" VALUES (now() - interval '1 year')`)
	b.exec(b.owner, `GRANT USAGE ON SCHEMA "Sales" TO `+b.jobRole)
	b.exec(b.owner, `GRANT SELECT, DELETE ON "Sales"."Order$" TO `+b.jobRole)
	result, err := b.purge(maintenance.Purge{Table: "Sales.Order$", Column: "At", OlderThan: "30d"})
	require.NoError(t, err)
	require.EqualValues(t, 1, result.Rows)
}

func TestPurgeRefusesArguments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := maintenance.Purge{Table: "events", Column: "at", OlderThan: "1h"}
	for want, change := range map[string]func(*maintenance.Purge){
		`table "": want name or schema.name`:                  func(p *maintenance.Purge) { p.Table = "" },
		`table "a.b.c": want name or schema.name`:             func(p *maintenance.Purge) { p.Table = "a.b.c" },
		`table "a; DROP TABLE b": want name`:                  func(p *maintenance.Purge) { p.Table = "a; DROP TABLE b" },
		`table "\"a\"": want name`:                            func(p *maintenance.Purge) { p.Table = `"a"` },
		`table "1a": want name`:                               func(p *maintenance.Purge) { p.Table = "1a" },
		`table ".a": want name`:                               func(p *maintenance.Purge) { p.Table = ".a" },
		`column "at)": want 1 to 63`:                          func(p *maintenance.Purge) { p.Column = "at)" },
		`column "": want 1 to 63`:                             func(p *maintenance.Purge) { p.Column = "" },
		`older_than "": write a whole number with its unit`:   func(p *maintenance.Purge) { p.OlderThan = "" },
		`older_than "30": write a whole number with its unit`: func(p *maintenance.Purge) { p.OlderThan = "30" },
		`older_than "30m": write a whole number`:              func(p *maintenance.Purge) { p.OlderThan = "30m" },
		`older_than "-1d": write a whole number`:              func(p *maintenance.Purge) { p.OlderThan = "-1d" },
		`older_than "999999d": write a whole number`:          func(p *maintenance.Purge) { p.OlderThan = "999999d" },
		`older_than must be at least "1h"`:                    func(p *maintenance.Purge) { p.OlderThan = "0d" },
		`batch "-1": want 1 to 50000`:                         func(p *maintenance.Purge) { p.Batch = -1 },
		`batch "50001": want 1 to 50000`:                      func(p *maintenance.Purge) { p.Batch = 50_001 },
		`max_rows "1000001": want 1 to 1000000`:               func(p *maintenance.Purge) { p.MaxRows = 1_000_001 },
	} {
		args := good
		change(&args)
		_, err := b.purge(args)
		require.ErrorContains(t, err, "purge: "+want)
		var cancel *jobs.CancelError
		require.ErrorAs(t, err, &cancel, "it can never work")
	}
}

func TestPurgeTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(b.owner, "CREATE TABLE events (id bigint, at timestamptz)")
	b.exec(b.owner, "CREATE VIEW recent AS SELECT * FROM events")
	for want, args := range map[string]maintenance.Purge{
		`table "missing" does not exist`:                       {Table: "missing", Column: "at"},
		`table "nowhere"."events" does not exist`:              {Table: "nowhere.events", Column: "at"},
		`table "Events" does not exist`:                        {Table: "Events", Column: "at"},
		`"recent" is not a table`:                              {Table: "recent", Column: "at"},
		`table "events" has no column "made_at"`:               {Table: "events", Column: "made_at"},
		`table "events" has no column "ctid"`:                  {Table: "events", Column: "ctid"},
		`column "id" of "events" is of type bigint, want date`: {Table: "events", Column: "id"},
		`permission denied for table events`:                   {Table: "events", Column: "at"},
	} {
		args.OlderThan = "1d"
		_, err := b.purge(args)
		require.ErrorContains(t, err, want)
	}
}

// In a shared database without policies the job ends, once, with its class and with
// every row in its place; with the policy that its error names it does its work.
func TestAPurgeOfAnUnguardedTableEnds(t *testing.T) {
	t.Parallel()
	const table = `CREATE TABLE events (org_id bigint, at timestamptz); GRANT SELECT, DELETE ON events TO headgate_job;`
	env := jobstest.New(t)
	shared := env.Database("shared", jobstest.DatabaseOpts{Schema: table, Observed: "no purge would begin"})
	alone := env.Database("alone", jobstest.DatabaseOpts{Kind: "dedicated", Schema: table})
	tenant := env.Tenant("acme", "shared")
	env.Tenant("brick", "alone")
	ctx := context.Background()
	for _, db := range []*jobstest.Database{shared, alone} {
		_, err := db.Pool.Exec(ctx, `INSERT INTO events SELECT $1 + n % 2, now() - interval '9 days' FROM generate_series(1, 20) n`, tenant.OrgID)
		require.NoError(t, err)
	}
	left := func(db *jobstest.Database) (n int) {
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM events`).Scan(&n))
		return n
	}
	env.Work(nil, func(w *worker.Worker) { worker.InTx(w, maintenance.RunPurge) })

	purge := maintenance.Purge{Table: "events", Column: "at", OlderThan: "1d"}
	got := env.Run("acme", purge)
	require.Equal(t, jobs.Cancelled, got.State, got.Message)
	require.Equal(t, jobs.ClassUnguarded, got.Class)
	require.Equal(t, 1, got.Attempt)
	require.Equal(t, 20, left(shared))
	require.Equal(t, jobs.Succeeded, env.Run("brick", purge).State)
	require.Zero(t, left(alone))

	// What the message advises, carried out.
	named := regexp.MustCompile("`headgate database protect DATABASE --table (.*?)`").FindStringSubmatch(got.Message)
	require.Len(t, named, 2, got.Message)
	conn, err := shared.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, `SET ROLE `+pgx.Identifier{shared.Owner.User}.Sanitize())
	require.NoError(t, err)
	_, err = protection.Apply(ctx, conn, protection.Request{Database: "shared", Login: shared.Job.User, Tables: []protection.Table{{Name: named[1]}}})
	require.NoError(t, err)
	_, err = conn.Exec(ctx, `RESET ROLE`)
	require.NoError(t, err)
	got = env.Run("acme", purge)
	require.Equal(t, jobs.Succeeded, got.State, got.Message)
	require.Equal(t, 10, left(shared), "another's")
}
