//go:build faults

package erasure_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// span is one statement of an erasure, or one transaction.
type span struct {
	sql  string
	took time.Duration
}

// spans are the statements of one connection, one after the other.
type spans struct {
	began  time.Time
	opened time.Time
	all    []span // statements
	within []span // transactions, by what they did
	does   string
}

var words = regexp.MustCompile(`^(BEGIN|COMMIT|ROLLBACK|DECLARE|FETCH|CLOSE|DELETE|LOCK|SET CONSTRAINTS|SAVEPOINT|RELEASE|begin|commit|rollback|savepoint|release)|FOR UPDATE|headgate\.on_delete|set_config`)

func (s *spans) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.began = time.Now()
	what := strings.ToUpper(words.FindString(q.SQL))
	s.all = append(s.all, span{sql: what})
	switch what {
	case "BEGIN":
		s.opened, s.does = s.began, ""
	case "DECLARE", "DELETE":
		s.does = what
	}
	return ctx
}

func (s *spans) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	last := &s.all[len(s.all)-1]
	last.took = time.Since(s.began)
	if last.sql == "COMMIT" {
		s.within = append(s.within, span{sql: s.does, took: time.Since(s.opened)})
	}
}

// of are how long the transactions took that did one thing, in their order.
func (s *spans) of(does string) (all []time.Duration) {
	for _, one := range s.within {
		if one.sql == does {
			all = append(all, one.took)
		}
	}
	return all
}

func sum(all []time.Duration) (total time.Duration) {
	for _, one := range all {
		total += one
	}
	return total
}

// kilobytes reads a line of /proc/PID/status.
func kilobytes(pid int, line string) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	found := regexp.MustCompile(line + `:\s+(\d+)`).FindSubmatch(status)
	if found == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

// TestFaultsErasureAtAMillionRows erases a tenant's million rows of a table with three million
// of others, in one page and in ten, with an index on the organisation's column and without.
// Another tenant writes meanwhile. docs/measurements.md has the figures.
func TestFaultsErasureAtAMillionRows(t *testing.T) {
	rows := 1_000_000
	if testing.Short() {
		rows = 50_000
	}
	for _, one := range []struct {
		name, index string
		page        int
	}{
		{"index, one page", "CREATE INDEX ON letters (org_id)", rows},
		{"index, ten pages", "CREATE INDEX ON letters (org_id)", rows / 10},
		{"no index, one page", "", rows},
		{"no index, ten pages", "", rows / 10},
	} {
		t.Run(one.name, func(t *testing.T) {
			b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE letters (id bigint PRIMARY KEY, org_id bigint NOT NULL, text text NOT NULL); ` + one.index}, protection.Table{Name: "letters"})
			b.exec(`INSERT INTO letters SELECT n, 1 + n % 4, repeat(md5(n::text), 4) FROM generate_series(1, $1::int) n`, 4*rows)
			b.exec(`VACUUM (ANALYZE) letters`)
			b.exec(`CHECKPOINT`)
			b.remove(b.org[1])
			uid := b.erase(b.org[1]).JobUID

			traced := &spans{}
			cfg := b.owner.Config()
			cfg.Tracer = traced
			conn, err := pgx.ConnectConfig(b.ctx, cfg)
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			temp := b.number(`SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()`)

			seen := b.watch(int(conn.PgConn().PID()), 4*rows)
			began := time.Now()
			result := &jobs.Result{}
			err = erasure.New(erasure.Config{Centre: b.Client.Erasures(), Page: one.page})(b.ctx, conn, &jobs.Job[wire.Erase]{Info: jobs.Info{UID: uid, Database: "shop", Result: result}, Args: wire.Erase{Tenant: b.org[1].ID}})
			took := time.Since(began)
			seen.stop()
			require.NoError(t, err)
			require.EqualValues(t, rows, result.Rows)
			require.Equal(t, []int{0, 3 * rows}, []int{b.number(`SELECT count(*) FROM letters WHERE org_id = 1`), b.number(`SELECT count(*) FROM letters WHERE org_id <> 1`)})

			b.exec(`SELECT pg_stat_clear_snapshot()`)
			pages, batches := traced.of("DECLARE"), traced.of("DELETE")
			tenth := len(batches) / 10
			t.Logf("%v in all, %d statements, %d transactions", took, len(traced.all), len(traced.within))
			t.Logf("looks: %v", pages)
			t.Logf("%d batches: %v in all, first tenth %v, last tenth %v", len(batches), sum(batches), sum(batches[:tenth]), sum(batches[len(batches)-tenth:]))
			by := map[string][]time.Duration{}
			for _, s := range traced.all {
				by[s.sql] = append(by[s.sql], s.took)
			}
			for what, all := range by {
				t.Logf("  %-22s %6d, %v", what, len(all), sum(all))
			}
			slices.Sort(batches)
			t.Logf("a batch: p50 %v, p99 %v, longest %v", batches[len(batches)/2], batches[len(batches)*99/100], batches[len(batches)-1])
			t.Logf("server's process: %d kB at most; temporary files %d kB; heap of the worker %d kB at most", seen.rss, (b.number(`SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()`)-temp)/1024, seen.heap/1024)
			t.Logf("rows of others written: %d, p50 %v, p99 %v, longest %v; the table locked for a change: %d, p50 %v, longest %v",
				len(seen.writes), at(seen.writes, 50), at(seen.writes, 99), at(seen.writes, 100), len(seen.ddl), at(seen.ddl, 50), at(seen.ddl, 100))
			require.NotEmpty(t, seen.ddl, "others get the table between batches")
		})
	}
}

// watched is what others see of an erasure.
type watched struct {
	stop        func()
	rss         int
	heap        uint64
	writes, ddl []time.Duration
}

func at(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*percent/100)]
}

// watch writes rows of organisation 2, changes the table, and looks at the server's process,
// until it is stopped.
func (b *bundle) watch(pid, rows int) *watched {
	b.t.Helper()
	w := &watched{}
	ctx, cancel := context.WithCancel(b.ctx)
	var done sync.WaitGroup
	repeat := func(every time.Duration, do func(n int) error) {
		done.Go(func() {
			tick := time.NewTicker(every)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if err := do(n); err != nil && ctx.Err() == nil {
					b.t.Error(err)
					return
				}
			}
		})
	}
	repeat(5*time.Millisecond, func(n int) error {
		began := time.Now()
		_, err := b.db.Pool.Exec(ctx, `UPDATE letters SET text = text WHERE id = $1`, 1+4*(n%(rows/4)))
		w.writes = append(w.writes, time.Since(began))
		return err
	})
	repeat(100*time.Millisecond, func(int) error {
		began := time.Now()
		_, err := b.db.Pool.Exec(ctx, `ALTER TABLE letters ALTER COLUMN text SET NOT NULL`)
		w.ddl = append(w.ddl, time.Since(began))
		return err
	})
	repeat(20*time.Millisecond, func(int) error {
		w.rss = max(w.rss, kilobytes(pid, "RssAnon"))
		var heap runtime.MemStats
		runtime.ReadMemStats(&heap)
		w.heap = max(w.heap, heap.HeapAlloc)
		return nil
	})
	w.stop = func() { cancel(); done.Wait() }
	return w
}
