package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// rowsOf are the schedules that tenants have of selectors, as "tenant name cron zone".
func rowsOf(t *testing.T, env *jobstest.Env) []string {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `
SELECT concat_ws(' ', t.slug, s.name, s.cron, s.zone)
FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id
WHERE s.fleet_id IS NOT NULL ORDER BY t.slug, s.name`)
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return texts
}

// Two writers that each read what the other writes: an application's transaction on
// tenants, and a change of templates that begins and ends meanwhile. No
// tenant is left without its schedule, or with a stale one.
func TestTenantsChangedBesideSelectors(t *testing.T) {
	t.Parallel()
	late := catalog.TenantParams{Slug: "late", Name: "late", Database: "shared", Plan: "pro"}
	add := func(t *testing.T, env *jobstest.Env, tx pgx.Tx) {
		_, err := env.Catalog.AddTenantTx(context.Background(), tx, late)
		require.NoError(t, err)
	}
	file := func(cron string) schedule.File {
		return schedule.File{Name: "site", Templates: []schedule.TemplateParams{{Name: "raced", Select: selecting(t, "plan = pro"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: cron}}}}
	}
	apply := func(t *testing.T, env *jobstest.Env, cron string) {
		_, err := env.Schedules.Files.Apply(context.Background(), file(cron))
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		before func(t *testing.T, env *jobstest.Env)
		change func(t *testing.T, env *jobstest.Env, tx pgx.Tx) // of tenants, not committed yet
		beside func(t *testing.T, env *jobstest.Env)            // of templates
		want   []string
	}{
		"a new tenant and a new selector": {
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) {
				setTemplate(t, env, schedule.TemplateParams{Name: "raced", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
			},
			want: []string{"late raced 0 7 * * * UTC"},
		},
		"a change of plan and a selector of the new plan": {
			before: func(t *testing.T, env *jobstest.Env) {
				_, err := env.Pool.Exec(context.Background(), `UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'brick'`)
				require.NoError(t, err)
				setTemplate(t, env, schedule.TemplateParams{Name: "raced", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
				require.Equal(t, []string{"brick raced 0 7 * * * UTC"}, rowsOf(t, env))
			},
			change: func(t *testing.T, _ *jobstest.Env, tx pgx.Tx) {
				_, err := tx.Exec(context.Background(), `UPDATE headgate.tenants SET plan = 'free' WHERE slug = 'brick'`)
				require.NoError(t, err)
			},
			beside: func(t *testing.T, env *jobstest.Env) {
				setTemplate(t, env, schedule.TemplateParams{Name: "other", Select: selecting(t, "plan=free"), Spec: schedule.Spec{Cron: "0 8 * * *"}})
			},
			want: []string{"brick other 0 8 * * * UTC"},
		},
		"a new tenant and a file that has changed": {
			before: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 7 * * *") },
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 8 * * *") },
			want:   []string{"late raced 0 8 * * * UTC"},
		},
		"a new tenant and the first of a file": {
			change: add,
			beside: func(t *testing.T, env *jobstest.Env) { apply(t, env, "0 8 * * *") },
			want:   []string{"late raced 0 8 * * * UTC"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			if c.before != nil {
				c.before(t, env)
			}
			tx, err := env.Pool.Begin(context.Background())
			require.NoError(t, err)
			c.change(t, env, tx)
			c.beside(t, env)
			_ = pass(t, env)
			require.NoError(t, tx.Commit(context.Background()))
			_ = pass(t, env)
			require.Equal(t, c.want, rowsOf(t, env))
		})
	}
}

// A tenant's own schedule hides the selector's of the same name only while it is there.
func TestASelectorsScheduleComesBack(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	create(t, env, "acme", "shadow", "@daily")
	setTemplate(t, env, schedule.TemplateParams{Name: "shadow", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@hourly"}})
	require.Equal(t, []string{"brick shadow @hourly UTC"}, rowsOf(t, env))
	require.NoError(t, env.Schedules.Delete(context.Background(), of("acme", "shadow"), ""))
	_ = pass(t, env)
	require.Equal(t, []string{"acme shadow @hourly UTC", "brick shadow @hourly UTC"}, rowsOf(t, env))
}

// expected are the rows that tenants should have by the catalog and the selectors,
// worked out one by one.
func expected(t *testing.T, env *jobstest.Env) (rows []string) {
	t.Helper()
	ctx := context.Background()
	templates, err := env.Schedules.Templates.List(ctx)
	require.NoError(t, err)
	found, err := env.Pool.Query(ctx, `SELECT slug, plan, status, timezone, ARRAY(SELECT name FROM headgate.schedules s WHERE s.tenant_id = t.id AND fleet_id IS NULL) FROM headgate.tenants t`)
	require.NoError(t, err)
	var slug, plan, status, zone string
	var own []string
	_, err = pgx.ForEachRow(found, []any{&slug, &plan, &status, &zone, &own}, func() error {
		for _, f := range templates {
			selected := status != "archived" && !slices.Contains(own, f.Name)
			for _, name := range f.Select.Names() {
				selected = selected && name.Attribute == "plan" && name.Value == plan
			}
			if selected {
				rows = append(rows, strings.Join([]string{slug, f.Name, f.Cron, zone}, " "))
			}
		}
		return nil
	})
	require.NoError(t, err)
	slices.Sort(rows)
	return rows
}

// Whatever writers do at the same time, in transactions that overlap: when they are
// done and the scheduler has passed, every tenant has the schedules of the selectors
// that select it, and no others.
func TestSelectorsUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plans, zones, names := []string{"free", "pro", "max"}, []string{"UTC", "Europe/Paris", "Asia/Tokyo"}, []string{"one", "two", "three"}
	pick := func(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	one := func(r *rand.Rand, worker, n int) error {
		name := pick(r, names)
		switch r.IntN(7) {
		case 0, 1, 2: // the application changes tenants, for a while
			tx, err := env.Pool.Begin(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback(ctx) }()
			if r.IntN(2) == 0 {
				_, err = env.Catalog.AddTenantTx(ctx, tx, catalog.TenantParams{Slug: fmt.Sprintf("w%d-%d", worker, n), Name: "x", Database: "shared", Plan: pick(r, plans), Timezone: pick(r, zones)})
			} else {
				_, err = tx.Exec(ctx, `
UPDATE headgate.tenants SET plan = $1, timezone = $2, status = CASE WHEN random() < 0.2 THEN 'archived' ELSE 'active' END
WHERE id = (SELECT id FROM headgate.tenants ORDER BY random() LIMIT 1)`, pick(r, plans), pick(r, zones))
			}
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, r.Float64()*0.03); err != nil {
				return err
			}
			return tx.Commit(ctx)
		case 3, 4:
			_, err := env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: name, Select: selecting(t, "plan = "+pick(r, plans)), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: fmt.Sprintf("%d 3 * * *", r.IntN(60))}})
			return err
		case 5:
			if err := env.Schedules.Templates.Delete(ctx, name, schedule.TemplateDeletion{}); err != nil && !strings.Contains(err.Error(), "no template") {
				return err
			}
		default: // a schedule of a tenant's own, that hides the selector's for a moment
			_, err := env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: name, Args: roomtest.Note{Text: "own"}, Spec: schedule.Spec{Cron: "@daily"}})
			switch {
			case err == nil && r.IntN(2) == 0:
				return env.Schedules.Delete(ctx, of("acme", name), "")
			case err != nil && !errors.Is(err, schedule.ErrExists) && !strings.Contains(err.Error(), "archived"):
				return err
			}
		}
		return nil
	}
	var writers, schedulers sync.WaitGroup
	for worker := range 4 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			r := rand.New(rand.NewPCG(uint64(seed), uint64(worker)))
			for n := range 40 {
				if err := one(r, worker, n); err != nil {
					t.Errorf("writer %d, step %d: %v", worker, n, err)
				}
			}
		}()
	}
	done, stop := context.WithCancel(ctx)
	for range 2 {
		schedulers.Add(1)
		go func() {
			defer schedulers.Done()
			for s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{}); done.Err() == nil; {
				if _, _, err := s.RunOnce(ctx); err != nil {
					t.Errorf("scheduler: %v", err)
				}
			}
		}()
	}
	writers.Wait()
	stop()
	schedulers.Wait()
	require.Eventually(t, func() bool {
		_ = pass(t, env)
		return roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`) == 0
	}, 20*time.Second, 20*time.Millisecond)
	require.ElementsMatch(t, expected(t, env), rowsOf(t, env))
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Reconciled, "the janitor finds nothing to put right")
}

// What another transaction has locked, and a selector that cannot be given to
// anybody, delay themselves only.
func TestALockedScheduleDelaysItsTenantOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, name := range []string{"one", "two"} {
		setTemplate(t, env, schedule.TemplateParams{Name: name, Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@daily"}})
	}
	_ = pass(t, env)
	release := roomtest.Locked(t, env, `SELECT FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE t.slug = 'acme' AND s.name = 'one' FOR UPDATE OF s`)
	roomtest.Do(t, env, `UPDATE headgate.fleets SET overlap = 'odd', version = version + 1 WHERE name = 'two'`)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET timezone = 'Asia/Tokyo'`)
	_ = pass(t, env)
	require.Equal(t, []string{"acme one @daily UTC", "acme two @daily UTC", "brick one @daily Asia/Tokyo", "brick two @daily UTC"}, rowsOf(t, env))
	answers, err := env.Schedules.Why(ctx, of("acme", "one"), time.Now())
	require.NoError(t, err)
	require.Contains(t, answers[0].Because, "not yet applied")
	require.Contains(t, answers[0].Because, "and tries again what failed: schedule one: ERROR: canceling statement due to lock timeout")
	answers, err = env.Schedules.Why(ctx, of("brick", "two"), time.Now())
	require.NoError(t, err)
	require.Contains(t, answers[0].Because, "schedules_overlap_check")

	release()
	roomtest.Do(t, env, `UPDATE headgate.fleets SET overlap = 'skip' WHERE name = 'two'`)
	roomtest.Do(t, env, `UPDATE headgate.selector_changes SET not_before = now()`)
	_ = pass(t, env)
	require.Equal(t, []string{"acme one @daily Asia/Tokyo", "acme two @daily Asia/Tokyo", "brick one @daily Asia/Tokyo", "brick two @daily Asia/Tokyo"}, rowsOf(t, env))
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`))
}

// However often tenants change while no scheduler runs, a tenant waits once; a
// change that commits after its row was looked at is not passed over; and transactions
// of other isolation levels work as ever.
func TestATenantWaitsOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_ = pass(t, env)
	setTemplate(t, env, schedule.TemplateParams{Name: "pros", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "@daily"}})
	for i := range 50 {
		roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = $1`, fmt.Sprint("plan-", i))
	}
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`))

	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }() // also if the test fails: the pool's end waits for it
	_, err = tx.Exec(ctx, `UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'acme'`)
	require.NoError(t, err)
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`), "it goes by the row that is there")
	_ = pass(t, env)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`), "and keeps it from being taken")
	require.NoError(t, tx.Commit(ctx))
	_ = pass(t, env)
	require.Equal(t, []string{"acme pros @daily UTC"}, rowsOf(t, env))

	roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'max' WHERE slug = 'brick'`)
	strict, err := env.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer func() { _ = strict.Rollback(ctx) }()
	_, err = strict.Exec(ctx, `SELECT FROM headgate.selector_changes`) // its snapshot has the row
	require.NoError(t, err)
	_ = pass(t, env)
	_, err = strict.Exec(ctx, `UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'brick'`)
	require.NoError(t, err)
	require.NoError(t, strict.Commit(ctx))
	_ = pass(t, env)
	require.Equal(t, []string{"acme pros @daily UTC", "brick pros @daily UTC"}, rowsOf(t, env))

	roomtest.Do(t, env, `UPDATE headgate.tenants SET name = 'Acme Inc.', generation = generation + 1`)
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`), "no selector asks for these")
}

// Why says that a change of the tenant has not reached its schedules yet.
func TestWhySaysNotYetApplied(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
	_, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "late", Name: "late", Database: "shared", Plan: "pro", Timezone: "Asia/Tokyo"})
	require.NoError(t, err)
	at := time.Date(2037, 3, 4, 7, 0, 0, 0, time.UTC)
	answers, err := env.Schedules.Why(ctx, of("late", "nightly"), at)
	require.NoError(t, err)
	require.Equal(t, "not_yet_applied", answers[0].Answer)
	require.Equal(t, "2037-03-04T07:00:00+09:00", answers[0].Local)
	require.Contains(t, answers[0].Because, "not yet applied: the tenant was added or changed at ")
	_, err = env.Schedules.Why(ctx, of("late", "weekly"), at)
	require.ErrorIs(t, err, schedule.ErrUnknown)
	_ = pass(t, env)
	answers, err = env.Schedules.Why(ctx, of("late", "nightly"), at)
	require.NoError(t, err)
	require.Equal(t, "ahead", answers[0].Answer)
	require.NotContains(t, answers[0].Because, "not yet applied")
	_, err = env.Schedules.Why(ctx, of("acme", "nightly"), at)
	require.ErrorIs(t, err, schedule.ErrUnknown)
}

// The janitor finds and heals what is not as the selectors say.
func TestTheJanitorComparesSelectors(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
	_ = pass(t, env)
	want := rowsOf(t, env)
	require.Len(t, want, 2)
	j := roomtest.Janitor(t, env, retention.Config{PruneEvery: time.Nanosecond})
	require.Zero(t, roomtest.Sweep(t, j).Reconciled)
	roomtest.Do(t, env, `DELETE FROM headgate.schedules WHERE tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme')`)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET fleet_version = 0, cron = '@hourly'`)
	require.Equal(t, 2, roomtest.Sweep(t, j).Reconciled)
	require.Equal(t, want, rowsOf(t, env))
	roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'x' WHERE slug = 'acme'`)
	roomtest.Do(t, env, `DELETE FROM headgate.schedules`)
	require.Equal(t, 1, roomtest.Sweep(t, j).Reconciled, "what waits for the scheduler is left to it")
	_ = pass(t, env)
	require.Equal(t, want, rowsOf(t, env))
}

// An edit of a template reaches the schedules that somebody has paused, and they stay so.
func TestAnEditOfATemplateKeepsPauses(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	require.NoError(t, env.Schedules.Pause(ctx, of("acme", "nightly"), nil))
	require.NoError(t, env.Schedules.Pause(ctx, of("brick", "nightly"), &schedule.PauseOpts{Until: until}))
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "0 8 * * *"}})
	for range 2 {
		for tenant, want := range map[string]time.Time{"acme": {}, "brick": until} {
			s, err := env.Schedules.Get(ctx, of(tenant, "nightly"))
			require.NoError(t, err)
			require.Equal(t, "0 8 * * *", s.Cron)
			require.True(t, s.Paused)
			var next *time.Time
			require.NoError(t, env.Pool.QueryRow(ctx, `SELECT next_run_at FROM headgate.schedules WHERE id = $1`, s.ID).Scan(&next))
			if want.IsZero() {
				require.Nil(t, next)
			} else {
				require.True(t, want.Equal(*next))
			}
		}
		_ = pass(t, env)
	}
}

// A tenant's change is followed although a transaction goes on that has changed another
// tenant again.
func TestALockedChangeDelaysItsTenantOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	setTemplate(t, env, schedule.TemplateParams{Name: "paid", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
	_ = pass(t, env)
	_, err := env.Pool.Exec(ctx, `UPDATE headgate.tenants SET plan = 'pro'`)
	require.NoError(t, err)
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `UPDATE headgate.tenants SET plan = 'max' WHERE slug = 'acme'`)
	require.NoError(t, err)
	_ = pass(t, env)
	require.Equal(t, []string{"brick paid 0 7 * * * UTC"}, rowsOf(t, env))
	require.NoError(t, tx.Rollback(ctx))
	_ = pass(t, env)
	require.Equal(t, []string{"acme paid 0 7 * * * UTC", "brick paid 0 7 * * * UTC"}, rowsOf(t, env))
}
