package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/worker"
)

func create(t *testing.T, env *jobstest.Env, tenant, name, cron string) schedule.Schedule {
	t.Helper()
	s, err := env.Schedules.Create(context.Background(), schedule.Params{
		Tenant: tenant, Name: name, Args: roomtest.Note{Text: name}, Spec: schedule.Spec{Cron: cron, Zone: "Europe/Paris"},
	})
	require.NoError(t, err)
	return s
}

func of(tenant, name string) schedule.Key {
	return schedule.Key{Tenant: tenant, Name: name}
}

// makeDue moves schedules into the past, as if their time had come.
func makeDue(t *testing.T, env *jobstest.Env) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.schedules SET next_run_at = now() - interval '1 minute' WHERE next_run_at IS NOT NULL`)
	require.NoError(t, err)
}

// A schedule fires into a job that a worker runs in the tenant's database.
func TestScheduleRuns(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	create(t, env, "acme", "nightly", "0 3 * * *")
	makeDue(t, env)
	ran := make(chan jobs.Info, 1)
	env.Work(nil, func(w *worker.Worker) {
		worker.InTx(w, func(_ context.Context, _ pgx.Tx, job *jobs.Job[roomtest.Note]) error {
			ran <- job.Info
			return nil
		})
	})
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{MaxSleep: 20 * time.Millisecond})
	require.NoError(t, s.Start(t.Context()))
	require.ErrorContains(t, s.Start(t.Context()), "the scheduler: it runs already")
	defer func() { require.NoError(t, s.Stop(context.Background())) }()
	select {
	case info := <-ran:
		env.Wait(info.UID) // else the next time is skipped
		require.Equal(t, "nightly", info.Schedule)
		require.Equal(t, "acme", info.Tenant.Slug)
		require.WithinDuration(t, time.Now().Add(-time.Minute), info.Nominal, 10*time.Second)
	case <-time.After(20 * time.Second):
		t.Fatal("the schedule did not fire")
	}
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Stop(t.Context()))
	list, _, err := env.Schedules.List(context.Background(), schedule.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotNil(t, list[0].LastRunAt)
	paris, err := time.LoadLocation("Europe/Paris")
	require.NoError(t, err)
	next := list[0].NextRunAt.In(paris)
	require.Equal(t, "03:00", next.Format("15:04"))
	require.True(t, next.After(time.Now()))

	roomtest.Do(t, env, `UPDATE headgate.schedules SET next_run_at = now()`)
	require.NoError(t, s.Start(t.Context())) // again
	select {
	case <-ran:
	case <-time.After(20 * time.Second):
		t.Fatal("a scheduler that was started again fires nothing")
	}
}

// Three schedulers at once fire each due schedule once.
func TestSchedulersShareTheWork(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at)
SELECT gen_random_uuid(), t.id, 's' || i, 'note', '0 3 * * *', 'UTC', now() - interval '1 second'
FROM headgate.tenants t, generate_series(1, 1500) i`)
	require.NoError(t, err)
	var wg sync.WaitGroup
	total := make([]int, 3)
	for i := range total {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{Batch: 100})
			for {
				n, _, err := s.RunOnce(ctx)
				if err != nil {
					t.Errorf("firing: %v", err)
				}
				if total[i] += n; n == 0 {
					return
				}
			}
		}()
	}
	wg.Wait()
	require.Equal(t, 3000, total[0]+total[1]+total[2])
	require.Equal(t, 3000, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Equal(t, 3000, roomtest.Count(t, env, `SELECT count(DISTINCT (metadata->>'tenant', metadata->>'schedule')) FROM river_job`))
}

// A paused schedule does not fire, a resumed one does, and a suspended tenant's
// moves on without a job.
func TestPauseAndSuspend(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	create(t, env, "acme", "nightly", "@daily")
	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "nightly"), &schedule.PauseOpts{Note: "audit until Friday"}))
	makeDue(t, env)
	n, _, err := s.RunOnce(ctx)
	require.NoError(t, err)
	require.Zero(t, n)
	list, _, err := env.Schedules.List(ctx, schedule.Filter{Tenant: "acme"})
	require.NoError(t, err)
	require.True(t, list[0].Paused)
	require.Nil(t, list[0].NextRunAt)
	require.Equal(t, "audit until Friday", list[0].PausedNote)

	require.NoError(t, env.Schedules.Resume(ctx, of("acme", "nightly"), "ines"))
	require.NoError(t, env.Catalog.SetStatus(ctx, "acme", catalog.Suspended))
	makeDue(t, env)
	n, _, err = s.RunOnce(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE next_run_at > now()`))

	require.ErrorIs(t, env.Schedules.Pause(ctx, of("acme", "weekly"), nil), schedule.ErrUnknown)
	require.ErrorIs(t, env.Schedules.Resume(ctx, of("acme", "weekly"), ""), schedule.ErrUnknown)
}

// A schedule that cannot be computed any more is marked, and stops nobody else's.
func TestABrokenScheduleStopsAlone(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	create(t, env, "acme", "good", "@hourly")
	create(t, env, "acme", "bad", "@hourly")
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.schedules SET cron = '* * 31 2 *' WHERE name = 'bad'`)
	require.NoError(t, err)
	makeDue(t, env)
	n, _, err := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{}).RunOnce(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	list, _, err := env.Schedules.List(ctx, schedule.Filter{})
	require.NoError(t, err)
	require.Equal(t, "bad", list[0].Name)
	require.Contains(t, list[0].Error, "never fires")
	require.Nil(t, list[0].NextRunAt)
}

// A refusal of input names its field; the others are of what is stored.
func TestCreateScheduleRefuses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	past, next := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(1, 0, 0)
	for name, c := range map[string]struct {
		change func(p *schedule.Params)
		field  string // "" where no input is refused
		says   string
	}{
		"twice":    {func(p *schedule.Params) { p.Name = "nightly" }, "", "has a schedule named"},
		"tenant":   {func(p *schedule.Params) { p.Tenant = "nobody" }, "", "unknown tenant"},
		"name":     {func(p *schedule.Params) { p.Name = "Nightly!" }, "schedule name", `schedule name "Nightly!": give 1 to 63`},
		"never":    {func(p *schedule.Params) { p.Cron = "* * 31 2 *" }, "cron", "never fires"},
		"panics":   {func(p *schedule.Params) { p.Cron = "TZ=UTC" }, "cron", "zone"},
		"zone":     {func(p *schedule.Params) { p.Zone = "Mars/Phobos" }, "timezone", "Mars/Phobos"},
		"kind":     {func(p *schedule.Params) { p.Args = roomtest.Tidy{} }, "tenant", "whole database"},
		"gap":      {func(p *schedule.Params) { p.Policy.Gap = "jump" }, "gap", "write next"},
		"repeat":   {func(p *schedule.Params) { p.Policy.Repeat = "thrice" }, "repeat", "write first, last or both"},
		"window":   {func(p *schedule.Params) { p.Policy.Windows = []string{"noon"} }, "windows", "noon"},
		"calendar": {func(p *schedule.Params) { p.Policy.Calendars = []string{"none"} }, "calendars", `unknown calendar "none"`},
		"start":    {func(p *schedule.Params) { p.Policy.Start, p.Policy.End = &next, &past }, "end", "is before start"},
		"early":    {func(p *schedule.Params) { p.Policy.Start = new(time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)) }, "start", "from 1970"},
		"end":      {func(p *schedule.Params) { p.Policy.End = &past }, "end", "it has no time left"},
		"max":      {func(p *schedule.Params) { p.Policy.Max = 3 }, "max", "without a start"},
		"spread":   {func(p *schedule.Params) { p.Policy.Spread = time.Second / 2 }, "spread", "whole seconds"},
		"overlap":  {func(p *schedule.Params) { p.Policy.Overlap = "pile" }, "overlap", "give skip, buffer_one"},
	} {
		t.Run(name, func(t *testing.T) {
			p := schedule.Params{Tenant: "acme", Name: "n", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}}
			c.change(&p)
			_, err := env.Schedules.Create(ctx, p)
			require.ErrorContains(t, err, c.says)
			var refused *jobs.InputError
			if c.field == "" {
				require.False(t, errors.As(err, &refused), err)
				return
			}
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.field, refused.Field)
		})
	}
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules`))
}

// The claim walks the index on next_run_at and reads no more than it takes,
// whatever is stored, with statistics or without.
func TestClaimDuePlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Pool.Exec(ctx, `
INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at)
SELECT gen_random_uuid(), t.id, 's' || i, 'note', '0 3 * * *', 'UTC', now() + (i - 1000) * interval '1 second'
FROM headgate.tenants t, generate_series(1, 5000) i`)
	require.NoError(t, err)
	for _, when := range []string{"before ANALYZE", "after ANALYZE"} {
		require.NoError(t, pgx.BeginFunc(ctx, env.Pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, schedule.NoBitmapScan, "5000")
			require.NoError(t, err)
			rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) `+schedule.ClaimDueSQL, time.Now(), 100, time.Time{}, uuid.Nil)
			require.NoError(t, err)
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			text := fmt.Sprint(plan)
			require.Contains(t, text, "schedules_due", "%s: %s", when, text)
			require.NotContains(t, text, "Seq Scan on schedules", when)
			require.NotContains(t, text, "Sort Key: s.", "%s: %s", when, text)
			return nil
		}))
		_, err := env.Pool.Exec(ctx, `ANALYZE headgate.schedules`)
		require.NoError(t, err)
	}
}
