package migrations_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/migrations"
)

// stalls are the waits of one who enqueues a job every few milliseconds.
type stalls struct{ total, longest time.Duration }

// A busy machine makes anybody wait for this long. A try that waits for a table, and
// whom it holds up, take half as long again.
const noStall = 100 * time.Millisecond

// watchStalls enqueues until stop is called, which returns what it has suffered.
func watchStalls(t *testing.T, conn *pgx.Conn) (stop func() stalls) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan stalls, 1)
	go func() {
		var s stalls
		ticks := time.NewTicker(5 * time.Millisecond)
		defer ticks.Stop()
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := conn.Exec(context.Background(), insertJob); err != nil {
				t.Errorf("enqueuing: %v", err)
				break
			}
			if took := time.Since(began); took > noStall {
				s.total, s.longest = s.total+took, max(s.longest, took)
			}
			select {
			case <-ctx.Done():
			case <-ticks.C:
			}
		}
		result <- s
	}()
	return func() stalls { cancel(); return <-result }
}

// fill gives the queue so many finished rows, with UIDs.
func fill(t *testing.T, conn *pgx.Conn, rows int) {
	t.Helper()
	run(t, conn, fmt.Sprintf(`
INSERT INTO river_job (kind, args, max_attempts, state, finalized_at, metadata)
SELECT 'old', '{}', 3, 'discarded', now(), jsonb_build_object('job_uid', gen_random_uuid()) FROM generate_series(1, %d)`, rows))
}

// besideAReader does work while somebody reads the queue for so long in one
// transaction, and returns how an enqueuer fared and when the work was done.
func besideAReader(t *testing.T, connect func() *pgx.Conn, reads time.Duration, work func()) (stalls, time.Duration) {
	t.Helper()
	reader := connect()
	run(t, reader, "BEGIN")
	run(t, reader, "SELECT FROM river_job LIMIT 1")
	read := make(chan error, 1)
	go func() {
		_, err := reader.Exec(context.Background(), fmt.Sprintf("SELECT pg_sleep(%f)", reads.Seconds()))
		if err == nil {
			_, err = reader.Exec(context.Background(), "COMMIT")
		}
		read <- err
	}()
	stop := watchStalls(t, connect())
	began := time.Now()
	work()
	took := time.Since(began)
	s := stop()
	require.NoError(t, <-read)
	return s, took
}

// upgrade is a set of migrations of the usual shape: a column, an index in place of
// another, a trigger, a table.
var upgrade = []string{
	"ALTER TABLE river_job ADD COLUMN hint text;\nCREATE TABLE headgate.hints (hint text PRIMARY KEY);",
	`-- concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS river_job_headgate_uid_2 ON river_job ((metadata->>'job_uid')) WHERE state <> 'completed' AND metadata ? 'job_uid';
DROP INDEX CONCURRENTLY IF EXISTS river_job_headgate_uid;`,
	`CREATE FUNCTION headgate.take_hint() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER take_hint AFTER INSERT ON river_job FOR EACH STATEMENT EXECUTE FUNCTION headgate.take_hint();`,
	"CREATE INDEX hints_by_length ON headgate.hints (length(hint));",
}

// measureUpgrade applies such a set to a queue of so many rows, beside a reader.
func measureUpgrade(t *testing.T, rows int, reads time.Duration) {
	t.Helper()
	connect := migrated(t)
	conn := connect()
	fill(t, conn, rows)
	heard := newHeard()
	s, took := besideAReader(t, connect, reads, func() {
		applied, err := migrations.UpMore(context.Background(), conn, &migrations.UpOpts{Notify: heard.notify}, more(upgrade...))
		require.NoError(t, err)
		require.Len(t, applied, len(upgrade))
	})
	t.Logf("%d rows, a reader of %s: migrated in %s; stalls %s in all, longest %s", rows, reads, took, s.total, s.longest)
	require.Less(t, s.total, 2500*time.Millisecond)
	require.Greater(t, took, reads-time.Second, "it had to wait for the reader")
	require.NotEmpty(t, heard.all(), "the reader is told of")
}

// Who enqueues is held up for little while a migration waits for a reader; by the same
// statement without short tries, for as long as the reader reads.
func TestAMigrationHoldsEnqueuersUpForLittle(t *testing.T) {
	t.Parallel()
	measureUpgrade(t, 20_000, 4*time.Second)

	connect := migrated(t)
	conn := connect()
	s, _ := besideAReader(t, connect, 4*time.Second, func() { run(t, conn, addsColumn) })
	require.Greater(t, s.longest, 3*time.Second, "the control")
}
