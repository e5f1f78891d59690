//go:build faults

package worker_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
)

// flow enqueues Touch jobs at a steady pace, come what may, and knows how long
// each waited for its first attempt.
type flow struct {
	env      *jobstest.Env
	mu       sync.Mutex
	sent     map[string]time.Time // by job UID
	accepted map[string]int       // by tenant
}

func newFlow(env *jobstest.Env) *flow {
	return &flow{env: env, sent: map[string]time.Time{}, accepted: map[string]int{}}
}

// run enqueues for d, so many jobs a second for each of two sets of tenants, and
// returns how long those of the first waited for their attempts to start.
func (f *flow) run(t *testing.T, d time.Duration, tenants []string, rate int, others []string, otherRate int) []time.Duration {
	t.Helper()
	var group sync.WaitGroup
	var mine []string
	send := func(tenants []string, rate int, note bool) {
		pace := time.NewTicker(time.Second / time.Duration(rate))
		defer pace.Stop()
		over := time.After(d)
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			case <-pace.C:
			}
			tenant, at := tenants[i%len(tenants)], time.Now()
			result, err := f.env.Client.Enqueue(context.Background(), tenant, Touch{Bytes: 3000}, &jobs.EnqueueOpts{MaxAttempts: 25})
			if err != nil {
				t.Errorf("enqueueing for %s: %v", tenant, err)
				return
			}
			f.mu.Lock()
			f.sent[result.UID] = at
			f.accepted[tenant]++
			f.mu.Unlock()
			if note {
				mine = append(mine, result.UID)
			}
		}
	}
	group.Go(func() { send(tenants, rate, true) })
	if len(others) > 0 {
		group.Go(func() { send(others, otherRate, false) })
	}
	group.Wait()
	f.settle(t, tenants, 30*time.Second)
	rows, err := f.env.Pool.Query(context.Background(),
		`SELECT job_uid::text, min(started_at) FROM headgate.outcomes WHERE job_uid = ANY ($1::text[]::uuid[]) GROUP BY 1`, mine)
	require.NoError(t, err)
	var waits []time.Duration
	var uid string
	var started time.Time
	_, err = pgx.ForEachRow(rows, []any{&uid, &started}, func() error {
		waits = append(waits, started.Sub(f.sent[uid]))
		return nil
	})
	require.NoError(t, err)
	require.Len(t, waits, len(mine))
	slices.Sort(waits)
	return waits
}

// asleep has n jobs of a tenant asleep in their transactions.
func (f *flow) asleep(t *testing.T, db *jobstest.Database, tenant string, n int) {
	t.Helper()
	for range n {
		_, err := f.env.Client.Enqueue(context.Background(), tenant, Touch{Bytes: 1, MS: 2500}, nil)
		require.NoError(t, err)
		f.accepted[tenant]++
	}
	require.Eventually(t, func() bool {
		var sleeping int
		err := db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'`).Scan(&sleeping)
		return err == nil && sleeping == n
	}, 10*time.Second, 5*time.Millisecond)
}

// settle waits until no job of the tenants is unfinished.
func (f *flow) settle(t *testing.T, tenants []string, bound time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		var left int
		err := f.env.Pool.QueryRow(context.Background(), `
SELECT count(*) FROM river_job j JOIN headgate.tenants t ON t.id::text = j.metadata->>'tenant'
WHERE t.slug = ANY ($1) AND j.state IN ('available', 'running', 'retryable', 'scheduled')`, tenants).Scan(&left)
		return err == nil && left == 0
	}, bound, 20*time.Millisecond, "jobs of %v are unfinished", tenants)
}

// reasons are the sentences of attempts that ended in none of some classes.
func (f *flow) reasons(t *testing.T, tenant string, classes []string) []string {
	t.Helper()
	rows, err := f.env.Pool.Query(context.Background(), `
SELECT DISTINCT format('%s after %s: %s', class, date_trunc('second', ended_at - started_at), message)
FROM headgate.outcomes o JOIN headgate.tenants t ON t.id = o.tenant_id
WHERE t.slug = $1 AND o.state <> 'succeeded' AND NOT class = ANY ($2) LIMIT 10`, tenant, classes)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// total is how many jobs were accepted for tenants.
func (f *flow) total(tenants []string) (n int) {
	for _, tenant := range tenants {
		n += f.accepted[tenant]
	}
	return n
}
