package migrations_test

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

// migrated is a current central database that tests connect to.
func migrated(t *testing.T) func() *pgx.Conn {
	t.Helper()
	env := jobstest.NewOn(t, jobstest.Direct(t))
	return func() *pgx.Conn {
		conn, err := pgx.Connect(context.Background(), env.URL)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
}

// more is a folder of migrations behind the program's own.
func more(files ...string) fstest.MapFS {
	folder := fstest.MapFS{}
	for i, text := range files {
		folder[fmt.Sprintf("more/%04d_file.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return folder
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(context.Background(), sql)
	require.NoError(t, err, sql)
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(context.Background(), sql).Scan(&v), sql)
	return v
}

// longEnough is a wait in which Notify is told, after a second, on a slow machine too.
const longEnough = 5 * time.Second

// heard keeps what Notify is told.
type heard struct {
	mu    sync.Mutex
	said  []string
	first chan struct{} // closed at the first sentence
}

func newHeard() *heard { return &heard{first: make(chan struct{})} }

func (h *heard) notify(sentence string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.said = append(h.said, sentence); len(h.said) == 1 {
		close(h.first)
	}
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.said...)
}

var advice = regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`)

// carryOut does what a sentence tells the reader to do.
func carryOut(t *testing.T, conn *pgx.Conn, sentence string) {
	t.Helper()
	sql := advice.FindString(sentence)
	require.NotEmpty(t, sql, sentence)
	require.True(t, value[bool](t, conn, sql))
}

const addsColumn = "ALTER TABLE river_job ADD COLUMN hint text;"

// The migration lock is waited for for so long, its holder is told of after a second,
// and doing what the sentence says lets the next migrator through.
func TestWhoHoldsTheMigrationLockIsNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	connect := migrated(t)
	holder, conn := connect(), connect()
	run(t, holder, "SET application_name = 'stuck'")
	run(t, holder, "SELECT pg_advisory_lock(x'6865616467617465'::bigint)")
	heard := newHeard()
	_, err := migrations.Up(ctx, conn, &migrations.UpOpts{Wait: longEnough, Notify: heard.notify})
	var locked *migrations.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, "the migration lock", locked.What)
	named := fmt.Sprintf(`held by pid %d \(app stuck, user \w+, idle, since [-0-9: ]+ UTC\); end it with SELECT pg_terminate_backend\(%[1]d\)`, holder.PgConn().PID())
	require.Regexp(t, "^gave up after 5s of waiting for the migration lock: "+named+"; then run it again$", err.Error())
	require.Len(t, heard.all(), 1, "once a holder")
	require.Regexp(t, "^waiting for the migration lock: "+named+"$", heard.all()[0])

	carryOut(t, conn, err.Error())
	_, err = migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
}

// A table that somebody keeps locked is named with him, nothing is applied, and what
// was set for the session is as before.
func TestWhoHoldsATableIsNamed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	connect := migrated(t)
	holder, conn := connect(), connect()
	run(t, conn, "SET lock_timeout = '17s'")
	run(t, holder, "SET application_name = 'report'")
	run(t, holder, "BEGIN")
	run(t, holder, "SELECT FROM river_job LIMIT 1")
	heard := newHeard()
	files := more(addsColumn, "CREATE TABLE headgate.later ();")
	_, err := migrations.UpMore(ctx, conn, &migrations.UpOpts{Wait: longEnough, Notify: heard.notify}, files)
	var locked *migrations.LockedError
	require.ErrorAs(t, err, &locked)
	require.Contains(t, locked.What, "a table that migration ")
	require.ErrorContains(t, err, fmt.Sprintf("held by pid %d (app report, user ", holder.PgConn().PID()))
	require.ErrorContains(t, err, "idle in transaction")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "55P03", pgErr.Code)
	require.Len(t, heard.all(), 1)
	require.Equal(t, "17s", value[string](t, conn, "SHOW lock_timeout"))
	require.Equal(t, "0", value[string](t, conn, "SHOW idle_session_timeout"))
	require.NoError(t, migrations.Check(ctx, conn))

	carryOut(t, conn, err.Error())
	applied, err := migrations.UpMore(ctx, conn, nil, files)
	require.NoError(t, err)
	require.Len(t, applied, 2)
}

// The server holds a migrating session to these, whatever froze the program.
func TestAMigratingSessionHasTimeouts(t *testing.T) {
	t.Parallel()
	conn := migrated(t)()
	_, err := migrations.UpMore(context.Background(), conn, nil, more(`CREATE TABLE headgate.seen AS
SELECT array_agg(current_setting(n) ORDER BY n) AS settings
  FROM unnest(ARRAY['idle_in_transaction_session_timeout', 'idle_session_timeout', 'lock_timeout', 'statement_timeout']) n;`))
	require.NoError(t, err)
	require.Equal(t, []string{"5s", "5s", "150ms", "0"}, value[[]string](t, conn, "SELECT settings FROM headgate.seen"))
}

// A migrator that is silent while it holds the lock is cut off, and the next goes on.
func TestAFrozenMigratorIsCutOff(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	connect := migrated(t)
	holder, conn, next := connect(), connect(), connect()
	run(t, holder, "BEGIN")
	run(t, holder, "SELECT FROM river_job LIMIT 1")
	frozen, thaw, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	files := more(addsColumn)
	go func() {
		_, err := migrations.UpMore(ctx, conn, &migrations.UpOpts{IdleTimeout: 2 * time.Second, Notify: func(string) {
			close(frozen)
			<-thaw // as a SIGSTOP would
		}}, files)
		ended <- err
	}()
	<-frozen
	run(t, holder, "ROLLBACK")
	applied, err := migrations.UpMore(ctx, next, nil, files)
	require.NoError(t, err)
	require.Len(t, applied, 1)
	close(thaw) // not before
	require.ErrorContains(t, <-ended, "the session was lost (the server ends it when this program is silent for 2s while it holds locks)")
}

const buildsIndex = `-- concurrently
-- Finds jobs by their tags.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS river_job_more
    ON river_job (kind)
 WHERE kind LIKE 'more%';
DROP INDEX CONCURRENTLY IF EXISTS river_job_headgate_uid;
`

const insertJob = `INSERT INTO river_job (kind, args, max_attempts) VALUES ('more', '{}', 3)`

// A build that breaks off leaves an invalid index; the next run builds it anew. One
// that is there already stays.
func TestABrokenIndexBuildIsBuiltAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := migrated(t)()
	run(t, conn, insertJob)
	run(t, conn, insertJob)
	before := value[int](t, conn, "SELECT max(version) FROM headgate.migrations")
	valid := "SELECT indisvalid FROM pg_index WHERE indexrelid = 'river_job_more'::regclass"
	files := more(buildsIndex)
	_, err := migrations.UpMore(ctx, conn, nil, files)
	require.ErrorContains(t, err, "23505")
	require.False(t, value[bool](t, conn, valid), "the control: Postgres leaves it behind")
	require.Equal(t, before, value[int](t, conn, "SELECT max(version) FROM headgate.migrations"))

	run(t, conn, "DELETE FROM river_job WHERE id = (SELECT min(id) FROM river_job)")
	applied, err := migrations.UpMore(ctx, conn, nil, files)
	require.NoError(t, err)
	require.Len(t, applied, 1)
	require.True(t, value[bool](t, conn, valid))
	require.False(t, value[bool](t, conn, "SELECT to_regclass('river_job_headgate_uid') IS NOT NULL"))

	built := value[uint32](t, conn, "SELECT 'river_job_more'::regclass::oid")
	run(t, conn, fmt.Sprintf("DELETE FROM headgate.migrations WHERE version > %d", before))
	_, err = migrations.UpMore(ctx, conn, nil, files) // as after a death before the file was recorded
	require.NoError(t, err)
	require.Equal(t, built, value[uint32](t, conn, "SELECT 'river_job_more'::regclass::oid"))
}

// An index build waits for transactions that are open, in a statement; whom is told
// meanwhile, and nobody waits behind it.
func TestAnIndexBuildNamesWhomItWaitsFor(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	connect := migrated(t)
	holder, conn, enqueuer := connect(), connect(), connect()
	run(t, holder, "BEGIN")
	run(t, holder, insertJob)
	heard, ended := newHeard(), make(chan error, 1)
	go func() {
		_, err := migrations.UpMore(ctx, conn, &migrations.UpOpts{Notify: heard.notify}, more(buildsIndex))
		ended <- err
	}()
	<-heard.first
	require.Contains(t, heard.all()[0], fmt.Sprintf("waiting for all who use the table of index river_job_more: held by pid %d (", holder.PgConn().PID()))
	run(t, enqueuer, "SET lock_timeout = '100ms'")
	run(t, enqueuer, `INSERT INTO river_job (kind, args, max_attempts) VALUES ('other', '{}', 3)`)
	carryOut(t, enqueuer, heard.all()[0])
	require.NoError(t, <-ended)
}

// A file that says concurrently and holds anything else is a bug that every test sees.
func TestWhatAConcurrentFileMayHold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"-- concurrently\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c);":                                 "",
		"-- serves: 3\n-- concurrently\nDROP INDEX CONCURRENTLY IF EXISTS headgate.a;\n":                       "",
		"-- concurrently\nCREATE INDEX a ON b (c);":                                                            `"CREATE INDEX a ON b (c)" is neither`,
		"-- concurrently\nCREATE INDEX CONCURRENTLY a ON b (c);":                                               "is neither",
		"-- concurrently\nDROP INDEX CONCURRENTLY IF EXISTS a, b;":                                             "is neither",
		"-- concurrently\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c);\nALTER TABLE b ADD COLUMN d int": `"ALTER TABLE b ADD COLUMN d int" is neither`,
		"-- concurrently\n": "it holds no statement",
	} {
		err := migrations.Parse(more(text), "0001_file.sql")
		if want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want, text)
		}
	}
}

func TestUpRefusesOptions(t *testing.T) {
	t.Parallel()
	conn := migrated(t)()
	for want, opts := range map[string]migrations.UpOpts{
		"LockTimeout is 301ms: want 1ms to 300ms": {LockTimeout: 301 * time.Millisecond},
		"LockTimeout is -1ns":                     {LockTimeout: -1},
		"Wait is -1ns: want 1ms or more":          {Wait: -1},
		"IdleTimeout is 1s: want 2s or more":      {IdleTimeout: time.Second},
	} {
		_, err := migrations.Up(context.Background(), conn, &opts)
		require.ErrorContains(t, err, want)
	}
}

// A tenant's database is not kept waiting: who holds the lock or a table of Headgate's
// is named after the time given, and nothing is half done.
func TestATenantsInstallGivesUp(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{On: jobstest.Direct(t)})
	for _, held := range []string{
		"SELECT pg_advisory_xact_lock(x'6865616467617465'::bigint)",
		"LOCK TABLE headgate.migrations",
	} {
		tx, err := db.Pool.Begin(ctx)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(ctx) })
		_, err = tx.Exec(ctx, held)
		require.NoError(t, err)
		conn, err := pgx.ConnectConfig(ctx, db.Pool.Config().ConnConfig)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(ctx) })
		_, err = conn.Exec(ctx, "SET ROLE "+pgx.Identifier{db.Owner.User}.Sanitize())
		require.NoError(t, err)
		heard := newHeard()
		_, err = migrations.UpTenant(ctx, conn, identity(db.ID), &migrations.UpOpts{Wait: longEnough, Notify: heard.notify})
		var locked *migrations.LockedError
		require.ErrorAs(t, err, &locked, held)
		require.ErrorContains(t, err, fmt.Sprintf("held by pid %d (", tx.Conn().PgConn().PID()), held)
		require.NoError(t, tx.Rollback(ctx))
		_, err = migrations.UpTenant(ctx, conn, identity(db.ID), nil)
		require.NoError(t, err)
		require.Equal(t, "0", value[string](t, conn, "SHOW lock_timeout"), "for the transaction only")
	}
}
