package erasure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// TestAPageBeginsWhereTheLastEnded, so that a page costs the same whatever pages went before.
// Each used to read the table from its beginning: 50 pages read 50 halves of it.
func TestAPageBeginsWhereTheLastEnded(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE letters (id bigint PRIMARY KEY, org_id bigint NOT NULL) WITH (autovacuum_enabled = off)`}, protection.Table{Name: "letters"})
	b.exec(`INSERT INTO letters SELECT n, 1 + n % 4 FROM generate_series(1, 20000) n`)
	b.exec(`ANALYZE letters`)
	b.exec(`SELECT pg_stat_reset()`)
	b.work(erasure.Config{Batch: 50, Page: 100}, nil)
	b.remove(b.org[1])
	require.Contains(t, b.erased(b.org[1]), "public.letters: 5000")
	of := func(column string) int {
		return b.number(`SELECT ` + column + ` FROM pg_stat_all_tables WHERE relid = 'letters'::regclass`)
	}
	require.Eventually(t, func() bool { return of("n_tup_del") == 5000 }, time.Minute, 10*time.Millisecond)
	t.Log(of("seq_tup_read"))
	require.Less(t, of("seq_tup_read"), 3*20000, "rows read: twice all of them, and some")
}

// TestAForeignKeyWithoutAnIndexIsNamed by a dry run, because Postgres reads the whole referring
// table for each row that is deleted. With an index, and of a small table, nothing is said.
func TestAForeignKeyWithoutAnIndexIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE letters (id bigint PRIMARY KEY, org_id bigint NOT NULL);
		CREATE TABLE stamps (id bigint PRIMARY KEY, letter_id bigint REFERENCES letters); CREATE TABLE small (letter_id bigint REFERENCES letters)`},
		protection.Table{Name: "letters"}, protection.Table{Name: "stamps", Through: "letter_id"})
	b.exec(`INSERT INTO letters VALUES (1, 1), (2, 2)`)
	b.exec(`INSERT INTO stamps SELECT n, 2 FROM generate_series(1, 40000) n`)
	b.exec(`ANALYZE`)
	b.work(erasure.Config{}, nil)
	counted := func() string {
		e, err := b.Client.Erase(b.ctx, "acme", &jobs.EraseOpts{CountOnly: true})
		require.NoError(t, err)
		last := b.Wait(e.JobUID)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
		return last.Result.Output
	}
	said := counted()
	require.Contains(t, said, "would be slow: public.letters: for each row Postgres reads all of public.stamps, because foreign key stamps_letter_id_fkey has no index there: CREATE INDEX CONCURRENTLY ON public.stamps (…) first")
	require.NotContains(t, said, "public.small,")
	b.exec(`CREATE INDEX ON stamps (letter_id)`)
	require.NotContains(t, counted(), "would be slow")
}

// TestAPageOfRowsThatStayStopsNothing: the pages behind it go.
func TestAPageOfRowsThatStayStopsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO orders SELECT n, 1, 0, 'n' FROM generate_series(1, 100) n`)
	b.exec(`ALTER TABLE stray ADD order_id bigint REFERENCES orders`)
	b.exec(`INSERT INTO stray SELECT 2, n, n FROM generate_series(1, 50) n`)
	b.work(erasure.Config{Batch: 5, Page: 10}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "50 rows are deleted")
	require.Contains(t, message, "public.orders: 50 rows are referred to by rows that are not this tenant's or not declared")
	require.Equal(t, 50, b.number(`SELECT count(*) FROM orders`))
}
