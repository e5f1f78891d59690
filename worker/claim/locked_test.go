package claim_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
)

// try claims up to n jobs, or none if the claim fails.
func (p *process) try(n int) []*rivertype.JobRow {
	result, err := p.pilot.JobGetAvailable(context.Background(), p.exec, p.state, &riverdriver.JobGetAvailableParams{
		ClientID: "test", Kind: p.kinds, MaxAttemptedBy: 100, MaxToLock: n, Queue: p.queue})
	if err != nil {
		p.f.t.Log(err)
		return nil
	}
	return result.Jobs
}

// eventually claims until a tenant's jobs have come, and returns how many of the other's
// came meanwhile.
func (f *fleet) eventually(p *process, tenant string, want int) (others int) {
	f.t.Helper()
	began, mine := time.Now(), 0
	require.Eventually(f.t, func() bool {
		for _, job := range p.try(10) {
			if tenantOf(job) == tenant {
				mine++
			} else {
				others++
			}
		}
		return mine >= want
	}, 30*time.Second, 20*time.Millisecond)
	f.t.Logf("claimed after %s", time.Since(began).Round(time.Millisecond))
	return others
}

// Rows of ours that somebody's transaction has locked, or is about to delete, delay the
// jobs of the tenant whose rows they are, and of the process whose row it is.
func TestALockedLaneDelaysItsOwnerOnly(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"lane":           `SELECT FROM headgate.lanes WHERE lane = $1 FOR UPDATE`,
		"lane for share": `SELECT FROM headgate.lanes WHERE lane = $1 FOR SHARE`,
		"lane deleted":   `DELETE FROM headgate.lanes WHERE lane = $1`,
		"wake-up":        `SELECT FROM headgate.wakeups WHERE lane = $1 FOR UPDATE`,
		"wake-up gone":   `DELETE FROM headgate.wakeups WHERE lane = $1`, // which makes the lane active
		"rate":           `SELECT FROM headgate.lane_rates WHERE lane = $1 FOR UPDATE`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, 1)
			p, other := f.process(10, "a"), f.process(10, "a")
			one, two := f.tenant(1), f.tenant(2)
			f.exec(`INSERT INTO headgate.tenant_limits (tenant_id, rate, rate_period) VALUES ($1, 1000, '1 second')`, one)
			f.exec(addJobs, 4, "a", 1, 2)
			require.Len(t, p.claim(context.Background(), 4), 4) // the rows are there
			f.exec(addJobs, 20, "a", 1, 2)
			tx := f.hold(sql, one)
			require.Zero(t, f.eventually(p, two, 10), "the owner's own jobs wait")
			f.exec(addJobs, 10, "a", 2, 2)
			require.Zero(t, f.eventually(other, two, 10), "another process finds it out too")
			require.NotEmpty(t, p.lease.Stats().Failing, "it is told")
			require.Contains(t, p.lease.Stats().Failing[0].Error, "tenant t1 ")
			require.NoError(t, tx.Rollback(context.Background()))
			f.eventually(p, one, 10)
			require.Empty(t, p.lease.Stats().Failing)
		})
	}
	for name, sql := range map[string]string{
		"clock":  `SELECT FROM headgate.lane_clocks FOR UPDATE`,
		"groups": `SELECT FROM headgate.lane_groups FOR UPDATE`,
		"hand":   `SELECT FROM headgate.hands WHERE incarnation::text = $1 FOR UPDATE`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, 1)
			p, other := f.process(10, "a"), f.process(10, "a")
			f.exec(addJobs, 300, "a", 1, 2)
			require.Len(t, p.claim(context.Background(), 4), 4)
			if name == "hand" {
				f.hold(sql, p.lease.Incarnation())
				require.Empty(t, p.try(1))
				require.Contains(t, p.lease.Stats().Failing[0].Error, "claims wait for session")
				f.eventually(other, f.tenant(1), 5)
				return
			}
			f.hold(sql)
			f.eventually(p, f.tenant(1), 140)
		})
	}
}

// A table that somebody has locked holds up all claims, and the claim's error names the
// session, whatever the claim was waiting with.
func TestALockedTableIsTold(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"river_job", "headgate.lanes", "headgate.tenants"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 2, 1)
			p := f.process(10, "a")
			f.exec(addJobs, 4, "a", 1, 2)
			tx := f.hold(`LOCK TABLE ` + table + ` IN ACCESS EXCLUSIVE MODE`)
			var pid int
			require.NoError(t, tx.QueryRow(context.Background(), `SELECT pg_backend_pid()`).Scan(&pid))
			require.Eventually(t, func() bool { // the first may come before the lock is half a second old
				p.try(4)
				return strings.Contains(p.lease.Stats().Failing[0].Error, fmt.Sprintf("claims wait for session %d of ", pid))
			}, time.Minute, time.Millisecond)
			require.NotContains(t, p.lease.Stats().Failing[0].Error, "LOCK TABLE", "a query's text")
			require.NoError(t, tx.Rollback(context.Background()))
			f.eventually(p, f.tenant(1), 2)
			require.Empty(t, p.lease.Stats().Failing)
		})
	}
}

// Many processes meet the same locked lane, each in a turn of its own, and all go on.
func TestManyProcessesPassOverALockedLane(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(addJobs, 4, "a", 1, 2)
	require.Len(t, f.process(10, "a").claim(context.Background(), 4), 4)
	f.exec(addJobs, 2000, "a", 1, 2)
	f.hold(`SELECT FROM headgate.lanes WHERE lane = $1 FOR UPDATE`, f.tenant(1))
	began := time.Now()
	var all sync.WaitGroup
	for range 8 {
		p := f.process(10, "a")
		all.Go(func() {
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
				if len(p.try(10)) > 0 {
					return
				}
			}
			t.Error("a process has claimed nothing in a minute")
		})
	}
	all.Wait()
	t.Logf("all of them have claimed after %s", time.Since(began).Round(time.Millisecond))
}
