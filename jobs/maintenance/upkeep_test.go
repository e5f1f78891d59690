package maintenance_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/maintenance"
)

var (
	_ jobs.ConnHandler[maintenance.Analyze] = maintenance.RunAnalyze
	_ jobs.ConnHandler[maintenance.Vacuum]  = maintenance.RunVacuum
)

func (b *bundle) analyze(ctx context.Context, conn *pgx.Conn, tables ...string) (jobs.Result, error) {
	job := newJob(maintenance.Analyze{Tables: tables})
	err := maintenance.RunAnalyze(ctx, conn, job)
	return *job.Result, err
}

func (b *bundle) vacuum(conn *pgx.Conn, args maintenance.Vacuum) (jobs.Result, error) {
	job := newJob(args)
	err := maintenance.RunVacuum(context.Background(), conn, job)
	return *job.Result, err
}

// analyzed is the number of tables of the database that have statistics.
func (b *bundle) analyzed() int {
	return b.count("SELECT count(DISTINCT tablename) FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
}

// tables makes two tables and a partitioned one, all with rows.
func (b *bundle) tables() {
	b.exec(b.owner, "CREATE TABLE alpha AS SELECT generate_series(1, 1000) AS n")
	b.exec(b.owner, `CREATE TABLE "Beta" AS SELECT generate_series(1, 1000) AS n`)
	b.exec(b.owner, "CREATE TABLE parts (n int) PARTITION BY LIST (n)")
	b.exec(b.owner, "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)")
	b.exec(b.owner, "INSERT INTO parts SELECT 1 FROM generate_series(1, 1000)")
}

func TestAnalyzeOfTheWholeDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	require.Zero(t, b.analyzed())
	result, err := b.analyze(t.Context(), b.owner)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 3, Output: "ANALYZE of 3 tables"}, result)
	require.Equal(t, 4, b.analyzed(), "the partition too")
}

func TestAnalyzeLeavesOthersTablesOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.admin, "CREATE TABLE foreign_1 AS SELECT 1 AS n")
	result, err := b.analyze(t.Context(), b.owner)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 3, Output: "ANALYZE of 3 tables; 1 table belongs to others and was left out"}, result)

	_, err = b.analyze(t.Context(), b.login)
	require.ErrorContains(t, err, "owns no table of this database, which has 5")
}

func TestAnalyzeByTheOwnerOfTheDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.admin, "ALTER DATABASE "+b.name+" OWNER TO "+b.jobRole)
	result, err := b.analyze(t.Context(), b.login)
	require.NoError(t, err)
	require.EqualValues(t, 3, result.Rows)
}

func TestAnalyzeOfAnEmptyDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	result, err := b.analyze(t.Context(), b.login)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Output: "ANALYZE of 0 tables"}, result)
}

// TestSkippedTablesAreAnError: Postgres calls this a success.
func TestSkippedTablesAreAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.admin, "CREATE TABLE foreign_1 AS SELECT 1 AS n")
	b.exec(b.admin, "CREATE TABLE foreign_2 AS SELECT 1 AS n")
	result, err := b.analyze(t.Context(), b.owner, "foreign_1", "alpha", "public.foreign_2")
	require.ErrorContains(t, err, "ANALYZE skipped 2 of 3 tables")
	require.ErrorContains(t, err, `tables: "foreign_1" (`)
	require.ErrorContains(t, err, `"public"."foreign_2" (`)
	require.NotContains(t, err.Error(), "alpha")
	require.EqualValues(t, 1, result.Rows)
	require.Equal(t, 1, b.analyzed(), "the others were done")

	_, err = b.vacuum(b.owner, maintenance.Vacuum{Tables: []string{"foreign_1"}, Analyze: true})
	require.ErrorContains(t, err, `VACUUM (ANALYZE) skipped 1 of 1 table: "foreign_1"`)
	_, err = b.vacuum(b.owner, maintenance.Vacuum{Tables: []string{"pg_catalog.pg_class"}})
	require.ErrorContains(t, err, `skipped 1 of 1 table: "pg_catalog"."pg_class"`)
}

// TestSkipsAreSeenWhateverTheLoginHears: a role may be set to hear of errors
// only.
func TestSkipsAreSeenWhateverTheLoginHears(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.login, "SET client_min_messages = error")
	_, err := b.analyze(t.Context(), b.login, "alpha")
	require.ErrorContains(t, err, "ANALYZE skipped 1 of 1 table")
}

func TestASkippedPartitionIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.admin, "ALTER TABLE parts_1 OWNER TO "+b.jobRole)
	_, err := b.analyze(t.Context(), b.owner)
	require.ErrorContains(t, err, `ANALYZE skipped 1 of 3 tables: "public"."parts" (`)
	require.ErrorContains(t, err, `"parts_1"`, "Postgres names the partition, in words of its version")

	result, err := b.analyze(t.Context(), b.login)
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 1, Output: "ANALYZE of 1 table; 3 tables belong to others and were left out"}, result)
}

func TestVacuum(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.owner, "DELETE FROM alpha")
	full := b.count("SELECT pg_relation_size('alpha')")
	result, err := b.vacuum(b.owner, maintenance.Vacuum{Tables: []string{"alpha", "Beta"}})
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 2, Output: "VACUUM of 2 tables"}, result)
	require.Less(t, b.count("SELECT pg_relation_size('alpha')"), full)
	require.Zero(t, b.analyzed())

	result, err = b.vacuum(b.owner, maintenance.Vacuum{Analyze: true})
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 3, Output: "VACUUM (ANALYZE) of 3 tables"}, result)
	require.Equal(t, 3, b.analyzed(), "alpha is empty")
}

func TestUpkeepRefusesNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	_, err := b.analyze(t.Context(), b.owner, "alpha", "alpha; DROP TABLE alpha")
	require.ErrorContains(t, err, `ANALYZE: table "alpha; DROP TABLE alpha": want name or schema.name`)
	var cancel *jobs.CancelError
	require.ErrorAs(t, err, &cancel)
	require.Zero(t, b.analyzed())

	_, err = b.analyze(t.Context(), b.owner, "missing")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.ErrorContains(t, err, `ANALYZE "missing": ERROR: relation "missing" does not exist`)
	_, err = b.analyze(t.Context(), b.owner, "alpha")
	require.NoError(t, err, "the connection is as good as before")
}

func TestVacuumInATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.owner, "BEGIN")
	_, err := b.vacuum(b.owner, maintenance.Vacuum{Tables: []string{"alpha"}})
	require.ErrorContains(t, err, "VACUUM cannot run inside a transaction block")
}

// TestOtherWarningsAreNotes: an index on a function that warns.
func TestOtherWarningsAreNotes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	b.exec(b.owner, "CREATE FUNCTION loud(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF n = 7 THEN RAISE WARNING 'seven'; END IF; RETURN n; END $$")
	b.exec(b.owner, "CREATE INDEX ON alpha (loud(n))")
	result, err := b.analyze(t.Context(), b.owner, "alpha")
	require.NoError(t, err)
	require.Equal(t, jobs.Result{Rows: 1, Output: `ANALYZE of 1 table; "alpha": seven`}, result)
}

// waitForLock returns when another session of the test's database waits for a
// lock.
func (b *bundle) waitForLock() {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		return b.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	}, 30*time.Second, 5*time.Millisecond)
}

// TestATableThatVanishesIsNoError: it was there when the tables were listed.
func TestATableThatVanishesIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	other := b.connect(b.name, "")
	b.exec(other, "BEGIN")
	b.exec(other, "DROP TABLE alpha")
	ended := make(chan error, 1)
	result := jobs.Result{}
	go func() {
		var err error
		result, err = b.analyze(context.Background(), b.owner)
		ended <- err
	}()
	b.waitForLock()
	b.exec(other, "COMMIT")
	require.NoError(t, <-ended)
	require.EqualValues(t, 2, result.Rows)
}

// TestCancelEndsTheStatement: the server must not go on for hours with what
// nobody waits for.
func TestCancelEndsTheStatement(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.tables()
	other := b.connect(b.name, "")
	b.exec(other, "BEGIN")
	b.exec(other, "LOCK TABLE alpha IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := b.analyze(ctx, b.owner, "alpha")
		ended <- err
	}()
	b.waitForLock()
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.True(t, b.owner.IsClosed())
	require.Eventually(t, func() bool {
		return b.count("SELECT count(*) FROM pg_stat_activity WHERE usename = '"+b.ownerRole+"'") == 0
	}, 30*time.Second, 5*time.Millisecond)

	_, err := b.analyze(ctx, b.login, "alpha")
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, b.login.IsClosed(), "nothing was sent")
}
