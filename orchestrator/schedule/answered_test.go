package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// An occurrence that had its answer before gets no second job, also where the row of
// its schedule says that it is due: a row that was restored or written by hand.
func TestAnAnsweredOccurrenceGetsNoSecondJob(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "restored", "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
	other := roomtest.CreateWith(t, env, "other", "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
	dueNow(t, env, s, time.Second)
	dueNow(t, env, other, time.Second)
	roomtest.Do(t, env, `CREATE TABLE before AS SELECT id, next_run_at, next_nominal_at, answered_at FROM headgate.schedules WHERE name = 'restored'`)
	require.Equal(t, 2, pass(t, env))
	roomtest.Do(t, env, `UPDATE headgate.schedules s SET next_run_at = b.next_run_at, next_nominal_at = b.next_nominal_at, answered_at = b.answered_at FROM before b WHERE s.id = b.id`)
	dueNow(t, env, other, 0)
	require.Equal(t, 2, pass(t, env), "both were due")
	require.Equal(t, 1, jobsOf(t, env, "restored"))
	require.Equal(t, 2, jobsOf(t, env, "other"), "one that was not answered before has its job in the same batch")
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences WHERE schedule_id = $1`, s.ID))
	restored, err := env.Schedules.Get(ctx, of("acme", "restored"))
	require.NoError(t, err)
	require.True(t, restored.NextRunAt.After(time.Now()), "it goes on")
}

// A tenant's occurrences are fired while it is active or moving, when its jobs wait;
// those of one that is suspended are answered as that.
func TestWhatATenantsStatusMeansForItsOccurrences(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for _, c := range []struct {
		status catalog.Status
		want   string
		jobs   int
	}{
		{catalog.Moving, "fired 1", 1},
		{catalog.Suspended, "suspended 1", 0},
	} {
		s := roomtest.CreateWith(t, env, string(c.status), "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
		require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", c.status))
		dueNow(t, env, s, time.Second)
		require.Equal(t, 1, pass(t, env))
		require.Equal(t, c.want, outcomes(t, env, s))
		require.Equal(t, c.jobs, jobsOf(t, env, s.Name))
		require.NoError(t, env.Catalog.SetStatus(context.Background(), "acme", catalog.Active))
	}
}

// An occurrence is answered feature_off while its tenant lacks a feature that the schedule,
// or its kind, needs, or may not have the kind; and fires when that is over. A tenant that
// takes no work, for however long, has one answer.
func TestOccurrencesOfWhatATenantMayNotHave(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "nightly", "0 0 1 1 *", schedule.Policy{Overlap: "allow"})
	roomtest.Do(t, env, `INSERT INTO headgate.features (name, type) VALUES ('nights', 'boolean')`)
	jobs := 0
	for _, c := range []struct{ on, off, note string }{
		{`INSERT INTO headgate.feature_gates (feature, schedule) VALUES ('nights', 'nightly')`, `DELETE FROM headgate.feature_gates`, "schedule nightly needs feature nights, which the tenant does not have"},
		{`INSERT INTO headgate.feature_gates (feature, kind) SELECT 'nights', kind FROM headgate.schedules`, `UPDATE headgate.tenants SET features = '{"nights": true}'`, "kind " + s.Kind + " needs feature nights, which the tenant does not have"},
		{`UPDATE headgate.tenants SET kinds = '{}'`, `UPDATE headgate.tenants SET kinds = NULL`, "kind " + s.Kind + " is not among the tenant's own kinds"},
		{`UPDATE headgate.tenants SET status = 'archived'`, `UPDATE headgate.tenants SET status = 'active'`, "the tenant is archived"},
		// A removal takes the schedule along. One that a scheduler has read before is answered.
		{`ALTER TABLE headgate.tenants DISABLE TRIGGER leave; UPDATE headgate.tenants SET status = 'removed', slug = id::text, database_id = NULL, database_kind = NULL WHERE id = (SELECT tenant_id FROM headgate.schedules WHERE name = 'nightly')`,
			`DO $$ BEGIN
				ALTER TABLE headgate.tenants DISABLE TRIGGER USER;
				UPDATE headgate.tenants SET status = 'active', slug = 'acme', features = '{"nights": true}', (database_id, database_kind) = (SELECT id, kind FROM headgate.databases LIMIT 1) WHERE id = (SELECT tenant_id FROM headgate.schedules WHERE name = 'nightly');
				ALTER TABLE headgate.tenants ENABLE TRIGGER USER;
			END $$`, "the tenant is removed"},
	} {
		roomtest.Do(t, env, c.on)
		for range 3 {
			dueNow(t, env, s, time.Second)
			require.Equal(t, 1, pass(t, env))
		}
		var count, rows int
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT sum(count), count(*) FROM headgate.occurrences WHERE schedule_id = $1 AND note = $2`, s.ID, c.note).Scan(&count, &rows), c.note)
		require.Equal(t, []int{3, 1}, []int{count, rows}, c.note)
		require.Equal(t, jobs, jobsOf(t, env, s.Name), c.note)
		roomtest.Do(t, env, c.off)
		dueNow(t, env, s, time.Second)
		require.Equal(t, 1, pass(t, env))
		jobs++
		require.Equal(t, jobs, jobsOf(t, env, s.Name), "it goes on after: "+c.note)
	}
}

// An occurrence that waited for the run before it does not start inside a blackout, but
// behind it; nor for a tenant that was suspended meanwhile.
func TestAnOccurrenceThatWaitedHeedsWhatHoldsItNow(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	waits := func(name string) schedule.Schedule {
		s := roomtest.CreateWith(t, env, name, "0 0 1 1 *", schedule.Policy{Overlap: "buffer_one"})
		for range 2 {
			dueNow(t, env, s, 2*time.Second)
			require.Equal(t, 1, pass(t, env))
		}
		require.Equal(t, 1, jobsOf(t, env, name))
		finish(t, env, name)
		return s
	}
	again := func() {
		roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = clock_timestamp() WHERE buffered <> '[]'`)
		require.Equal(t, 1, pass(t, env))
	}
	waits("closed")
	require.NoError(t, env.Schedules.Calendars.SetBlackout(ctx, schedule.Blackout{Name: "freeze", Tenant: "acme", Spans: []string{"00:00-24:00"}}))
	again()
	require.Equal(t, 1, jobsOf(t, env, "closed"), "it started inside the blackout")
	roomtest.Do(t, env, `DELETE FROM headgate.closures`)
	again()
	require.Equal(t, 2, jobsOf(t, env, "closed"))

	s := waits("suspended")
	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", catalog.Suspended))
	again()
	require.Equal(t, 1, jobsOf(t, env, "suspended"))
	require.Contains(t, outcomes(t, env, s), "suspended 1")
}

// A job that waits between two attempts is settled by its ledger whatever has ended the
// one before: each of these may have left an attempt open.
func TestCancelBehindAnAttemptThatMayBeOpen(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for _, class := range []jobs.Class{jobs.ClassInterrupted, jobs.ClassLostWorker, jobs.ClassConflict, jobs.ClassTimeout} {
		job := roomtest.Enqueue(t, env)
		roomtest.Do(t, env, `UPDATE river_job SET attempt = 0, attempted_at = now(), attempted_by = '{0190aaaa-0000-7000-8000-000000000001:1}' WHERE id = $1`, env.RowOf(job.UID))
		roomtest.Outcome(t, env, job, "snoozed", class, "", time.Now())
		result, err := env.Client.Cancel(context.Background(), job.UID, nil)
		require.NoError(t, err)
		require.Equal(t, jobs.Cancelling, result.State, class)
		require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE id = $1 AND state = 'available' AND finalized_at IS NULL`, env.RowOf(job.UID)), class)
	}
}
