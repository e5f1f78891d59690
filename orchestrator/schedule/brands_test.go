package schedule_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

func ofBrand(n int) *int { return &n }

func setBrand(t *testing.T, env *jobstest.Env, tenant string, brand int) {
	t.Helper()
	_, err := env.Catalog.Brands().Set(context.Background(), tenant, brand, "a brand")
	require.NoError(t, err)
}

// daily is a schedule of a tenant's that is limited to a brand; nil is all brands.
func daily(name string, brand *int) schedule.Params {
	return schedule.Params{Tenant: "acme", Name: name, Args: roomtest.Note{Text: name}, Spec: schedule.Spec{Cron: "@daily", Brand: brand}}
}

// A schedule's brand is looked for when the schedule is made, and when its brand is changed:
// with arguments or without them. Its jobs have the brand.
func TestAScheduleIsOfABrandOfItsTenant(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := t.Context()
	setBrand(t, env, "acme", 1)
	setBrand(t, env, "brick", 2)
	_, err := env.Schedules.Create(ctx, daily("x", ofBrand(2)))
	require.ErrorIs(t, err, jobs.ErrUnknownBrand)
	require.ErrorContains(t, err, "tenant acme has no brand 2: `headgate tenant brand list acme`")
	_, err = env.Schedules.Create(ctx, daily("x", ofBrand(10_000)))
	require.ErrorContains(t, err, "give 0 to 9999")
	made, err := env.Schedules.Create(ctx, daily("x", ofBrand(1)))
	require.NoError(t, err)

	edit := func(e schedule.Edit) error {
		_, err := env.Schedules.Edit(ctx, of("acme", "x"), e)
		return err
	}
	to := func(brand *int, args jobs.Args) schedule.Edit {
		return schedule.Edit{Fields: []string{"brand"}, Spec: schedule.Spec{Brand: brand}, Args: args}
	}
	for _, args := range []jobs.Args{nil, roomtest.Note{Text: "y"}} {
		require.ErrorIs(t, edit(to(ofBrand(2), args)), jobs.ErrUnknownBrand)
		for _, n := range []int{-1, 10_000} {
			var wrong *jobs.InputError
			require.ErrorAs(t, edit(to(ofBrand(n), args)), &wrong)
			require.Equal(t, "brand", wrong.Field)
		}
	}
	require.NoError(t, edit(schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@hourly"}}))
	got, err := env.Schedules.Get(ctx, of("acme", "x"))
	require.NoError(t, err)
	require.Equal(t, ofBrand(1), got.Brand)
	require.Equal(t, 2, got.Version, "what was refused has changed nothing")

	makeDue(t, env)
	require.Positive(t, pass(t, env))
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job WHERE metadata->'brand' = '1'`))
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET brand_id = 2 WHERE id = $1`, made.ID)
	require.ErrorContains(t, err, "schedules_brand", "nor does SQL")
	require.NoError(t, edit(to(nil, nil)))
	require.NoError(t, env.Catalog.Brands().Remove(ctx, "acme", 1))

	tidy := schedule.Params{Database: "shared", Name: "tidy", Args: roomtest.Tidy{}, Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(1)}}
	_, err = env.Schedules.Create(ctx, tidy)
	require.ErrorContains(t, err, "works on a whole database: give no brand")
	tidy.Brand = nil
	_, err = env.Schedules.Create(ctx, tidy)
	require.NoError(t, err)
	_, err = env.Schedules.Edit(ctx, schedule.Key{Database: "shared", Name: "tidy"}, to(ofBrand(1), nil))
	require.ErrorContains(t, err, "works on a whole database: give no brand")
}

// A template of a brand is for the selected tenants that have the brand. The others are named,
// have no schedule and are no drift, and get theirs with the brand.
func TestATemplateIsForTheTenantsThatHaveItsBrand(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := t.Context()
	setBrand(t, env, "acme", 7)
	params := schedule.TemplateParams{Name: "branded", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(7)}}
	file := schedule.File{Name: "site", Templates: []schedule.TemplateParams{params}}
	const warning = "1 of the selected tenants lack brand 7 and get the schedule once they have the brand: brick; `headgate tenant brand set SLUG 7 BRAND_NAME` gives it"
	steps, err := env.Schedules.Files.Plan(ctx, file)
	require.NoError(t, err)
	require.Equal(t, []string{warning}, steps[0].Warnings)
	require.Equal(t, 1, steps[0].Tenants)
	steps, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Equal(t, 1, steps[0].Tenants)
	got, err := env.Schedules.Templates.Get(ctx, "branded")
	require.NoError(t, err)
	require.Equal(t, &schedule.Lacking{Tenants: 1, First: []string{"brick"}}, got.Lacking)
	require.Equal(t, warning, got.Lacking.Warning(7))
	require.Equal(t, []string{"acme branded @daily UTC"}, rowsOf(t, env))
	steps, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Empty(t, steps, "a second time is nothing")
	steps, drift, err := env.Schedules.Files.Drift(ctx, file)
	require.NoError(t, err)
	require.Empty(t, steps)
	require.Empty(t, drift)

	setBrand(t, env, "brick", 7)
	_ = pass(t, env)
	both := []string{"acme branded @daily UTC", "brick branded @daily UTC"}
	require.Equal(t, both, rowsOf(t, env))
	require.ErrorIs(t, env.Catalog.Brands().Remove(ctx, "brick", 7), catalog.ErrReferred)
	_ = pass(t, env)
	require.Equal(t, both, rowsOf(t, env))

	// Another brand, of which no tenant is: all rows go, and the tenants are named.
	file.Templates[0].Brand = ofBrand(8)
	steps, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Contains(t, steps[0].Warnings[0], "2 of the selected tenants lack brand 8")
	require.Contains(t, steps[0].Fields, "brand: 7 -> 8")
	require.Empty(t, rowsOf(t, env))
	require.NoError(t, env.Catalog.Brands().Remove(ctx, "brick", 7))
	file.Templates[0].Brand = nil
	_, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Equal(t, both, rowsOf(t, env), "without a brand it is for all")
	wrong := params
	wrong.Name, wrong.Brand = "wrong", ofBrand(-1)
	_, err = env.Schedules.Templates.Set(ctx, wrong)
	require.ErrorContains(t, err, "give 0 to 9999")
}

// Of many tenants that lack a template's brand five are named.
func TestManyTenantsLackABrand(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	for _, slug := range []string{"a", "b", "c", "d", "e"} {
		env.Tenant("many-"+slug, "shared")
	}
	template := setTemplate(t, env, schedule.TemplateParams{Name: "branded", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(3)}})
	require.Zero(t, template.Tenants)
	require.Contains(t, template.Lacking.Warning(3), "7 of the selected tenants lack brand 3")
	require.Contains(t, template.Lacking.Warning(3), "acme, brick, many-a, many-b, many-c and 2 more;")
}

// Two writers: who removes a brand, and who limits a schedule to it. The second waits for the
// first, and is told. No schedule is left with a brand that is gone.
func TestABrandIsRemovedBesideASchedule(t *testing.T) {
	t.Parallel()
	limiting := map[string]func(ctx context.Context, env *jobstest.Env, tx pgx.Tx) error{
		"create": func(ctx context.Context, env *jobstest.Env, tx pgx.Tx) error {
			_, err := env.Schedules.CreateTx(ctx, tx, daily("x", ofBrand(1)))
			return err
		},
		"edit": func(ctx context.Context, env *jobstest.Env, tx pgx.Tx) error {
			_, err := env.Schedules.EditTx(ctx, tx, of("acme", "plain"), schedule.Edit{Fields: []string{"brand"}, Spec: schedule.Spec{Brand: ofBrand(1)}})
			return err
		},
		"edit from another": func(ctx context.Context, env *jobstest.Env, tx pgx.Tx) error {
			_, err := env.Schedules.EditTx(ctx, tx, of("acme", "other"), schedule.Edit{Fields: []string{"brand"}, Spec: schedule.Spec{Brand: ofBrand(1)}, Args: roomtest.Note{Text: "y"}})
			return err
		},
		"template": func(ctx context.Context, env *jobstest.Env, tx pgx.Tx) error {
			_, err := env.Schedules.Templates.SetTx(ctx, tx, schedule.TemplateParams{Name: "x", Select: selecting(t, "tenant = acme"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(1)}})
			return err
		},
	}
	for name, limit := range limiting {
		for _, removed := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " first", true: " second"}[removed], func(t *testing.T) {
				t.Parallel()
				env := roomtest.Setup(t)
				ctx := t.Context()
				setBrand(t, env, "acme", 1)
				setBrand(t, env, "acme", 2)
				for name, brand := range map[string]*int{"plain": nil, "other": ofBrand(2)} {
					_, err := env.Schedules.Create(ctx, daily(name, brand))
					require.NoError(t, err)
				}
				first := func(tx pgx.Tx) error { return limit(ctx, env, tx) }
				second := func(tx pgx.Tx) error { return env.Catalog.Brands().RemoveTx(ctx, tx, "acme", 1) }
				if removed {
					first, second = second, first
				}
				tx, err := env.Pool.Begin(ctx)
				require.NoError(t, err)
				require.NoError(t, first(tx))
				done := make(chan error, 1)
				go func() { done <- pgx.BeginFunc(ctx, env.Pool, second) }()
				awaitBlocked(t, env, done)
				require.NoError(t, tx.Commit(ctx))
				err = <-done
				schedules := roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE brand_id = 1`)
				brands := roomtest.Count(t, env, `SELECT count(*) FROM headgate.brands WHERE brand_id = 1`)
				switch {
				case !removed:
					require.ErrorIs(t, err, catalog.ErrReferred)
					require.Equal(t, []int{1, 1}, []int{schedules, brands})
				case name == "template":
					require.NoError(t, err)
					require.Equal(t, []int{0, 0}, []int{schedules, brands}, "the tenant lacks the brand now")
				default:
					require.ErrorIs(t, err, jobs.ErrUnknownBrand)
					require.Equal(t, []int{0, 0}, []int{schedules, brands})
				}
			})
		}
	}
}

// awaitBlocked waits until a session waits for a lock. done must not have ended before.
func awaitBlocked(t *testing.T, env *jobstest.Env, done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		var n int
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n))
		if n > 0 {
			return
		}
		select {
		case err := <-done:
			require.FailNow(t, "it ended without waiting", "%v", err)
		default:
		}
	}
}

// A client that freezes while it removes a brand holds up the schedules of that tenant only.
func TestAFrozenRemovalOfABrandHoldsUpItsTenantOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	setBrand(t, env, "acme", 1)
	setTemplate(t, env, schedule.TemplateParams{Name: "branded", Select: selecting(t, "plan = pro"), Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(1)}})
	require.Empty(t, rowsOf(t, env))
	_ = pass(t, env)
	release := roomtest.Locked(t, env, `SELECT FROM headgate.brands WHERE tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme') FOR UPDATE`)
	setBrand(t, env, "brick", 1)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'pro'`)
	_ = pass(t, env)
	require.Equal(t, []string{"brick branded @daily UTC"}, rowsOf(t, env))
	release()
	roomtest.Do(t, env, `UPDATE headgate.selector_changes SET not_before = NULL`)
	_ = pass(t, env)
	require.Equal(t, []string{"acme branded @daily UTC", "brick branded @daily UTC"}, rowsOf(t, env))
}

// Two writers that each read what the other writes: who gives a tenant a brand, and who makes
// a template of the brand meanwhile.
func TestABrandIsGivenBesideATemplate(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := t.Context()
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = env.Catalog.Brands().SetTx(ctx, tx, "acme", 1, "Fern")
	require.NoError(t, err)
	setTemplate(t, env, schedule.TemplateParams{Name: "raced", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@daily", Brand: ofBrand(1)}})
	_ = pass(t, env)
	require.Empty(t, rowsOf(t, env))
	require.NoError(t, tx.Commit(ctx))
	_ = pass(t, env)
	require.Equal(t, []string{"acme raced @daily UTC"}, rowsOf(t, env))
}

// While no scheduler runs, brands of a tenant are noted once.
func TestBrandsAreNotedOnce(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	_ = pass(t, env)
	for n := range 20 {
		setBrand(t, env, "acme", n)
	}
	roomtest.Do(t, env, `INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name) SELECT id, org_id, b, 'b' FROM headgate.tenants, generate_series(100, 199) b WHERE slug = 'acme'`)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.selector_changes`))
}

// What is refused because schedules are limited to a brand names five of them and how many
// there are, and what to do.
func TestARefusedRemovalNamesTheSchedules(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := t.Context()
	setBrand(t, env, "acme", 1)
	for _, name := range strings.Fields("e d c b a f g") {
		_, err := env.Schedules.Create(ctx, daily(name, ofBrand(1)))
		require.NoError(t, err)
	}
	err := env.Catalog.Brands().Remove(ctx, "acme", 1)
	require.ErrorIs(t, err, catalog.ErrReferred)
	require.EqualError(t, err, "remove brand 1 of tenant \"acme\": 7 schedules are limited to it: a, b, c, d, e and 2 more; "+
		"`headgate schedule edit a --tenant acme --brand all` makes it one of all brands, `headgate schedule delete a --tenant acme` removes it")
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.brands`))
}
