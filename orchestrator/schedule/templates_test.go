package schedule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
	"github.com/headgate/headgate/orchestrator/selector"
)

func selecting(t *testing.T, expression string) selector.Selector {
	t.Helper()
	s, err := selector.Parse(expression)
	require.NoError(t, err)
	return s
}

func setTemplate(t *testing.T, env *jobstest.Env, params schedule.TemplateParams) schedule.Template {
	t.Helper()
	if params.Args == nil {
		params.Args = roomtest.Note{Text: params.Name}
	}
	template, err := env.Schedules.Templates.Set(context.Background(), params)
	require.NoError(t, err)
	return template
}

// Tenants have the schedules of the templates that select them, each in its own zone,
// from the scheduler's next pass on after they are added or changed.
func TestATemplateFollowsItsTenants(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	add := func(slug, plan, zone string, labels map[string]string) {
		_, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: slug, Name: slug, Database: "shared", Plan: plan, Timezone: zone, Labels: labels})
		require.NoError(t, err)
	}
	have := func(name string) (zones map[string]string) {
		all, _, err := env.Schedules.List(ctx, schedule.Filter{Page: jobs.Page{Limit: 1000}})
		require.NoError(t, err)
		zones = map[string]string{}
		for _, s := range all {
			if s.Name == name && s.Template == name {
				zones[s.Tenant] = s.Zone
			}
		}
		return zones
	}
	add("gold-1", "pro", "Asia/Tokyo", map[string]string{"tier": "gold"})
	add("tin-1", "pro", "Europe/Paris", map[string]string{"tier": "tin"})
	roomtest.Do(t, env, `INSERT INTO headgate.regions (name) VALUES ('eu')`)
	roomtest.Do(t, env, `UPDATE headgate.servers SET region = 'eu'`)
	roomtest.Do(t, env, `INSERT INTO headgate.features (name, type) VALUES ('reports', 'boolean')`)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET features = '{"reports": true}' WHERE slug = 'gold-1'`)
	template := setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "plan=pro and label.tier=gold"), Spec: schedule.Spec{Cron: "0 7 * * MON-FRI"}})
	require.Equal(t, 1, template.Tenants)
	require.Equal(t, map[string]string{"gold-1": "Asia/Tokyo"}, have("nightly"))
	setTemplate(t, env, schedule.TemplateParams{Name: "regional", Select: selecting(t, "region=eu and feature.reports and label.tier = gold"), Spec: schedule.Spec{Cron: "@daily", Zone: "UTC"}})
	require.Equal(t, map[string]string{"gold-1": "UTC"}, have("regional"))
	setTemplate(t, env, schedule.TemplateParams{Name: "everybody", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@daily"}})
	require.Len(t, have("everybody"), 4)

	add("gold-2", "pro", "America/New_York", map[string]string{"tier": "gold"})
	require.Positive(t, pass(t, env))
	require.Equal(t, map[string]string{"gold-1": "Asia/Tokyo", "gold-2": "America/New_York"}, have("nightly"))
	s, err := env.Schedules.Get(ctx, of("gold-2", "nightly"))
	require.NoError(t, err)
	require.True(t, s.NextRunAt.After(time.Now()))
	zone, err := time.LoadLocation("America/New_York")
	require.NoError(t, err)
	require.Equal(t, "07:00", s.NextRunAt.In(zone).Format("15:04"))
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`), "a fresh row is computed, not fired")

	_, err = env.Pool.Exec(ctx, `UPDATE headgate.tenants SET labels = '{"tier": "tin"}' WHERE slug = 'gold-1'`)
	require.NoError(t, err)
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.tenants SET timezone = 'Asia/Kathmandu' WHERE slug = 'gold-2'`)
	require.NoError(t, err)
	_ = pass(t, env)
	require.Equal(t, map[string]string{"gold-2": "Asia/Kathmandu"}, have("nightly"))
	require.Empty(t, have("regional"))

	// Suspended tenants keep theirs, and record that they were.
	require.NoError(t, env.Catalog.SetStatus(ctx, "gold-2", catalog.Suspended))
	_, err = env.Pool.Exec(ctx, `UPDATE headgate.schedules SET next_nominal_at = now() - interval '1 minute', next_run_at = now() - interval '1 minute' WHERE name = 'nightly'`)
	require.NoError(t, err)
	require.Positive(t, pass(t, env))
	s, err = env.Schedules.Get(ctx, of("gold-2", "nightly"))
	require.NoError(t, err)
	require.Equal(t, "suspended 1", outcomes(t, env, s))
	require.NoError(t, env.Catalog.SetStatus(ctx, "gold-2", catalog.Archived))
	_ = pass(t, env)
	require.Empty(t, have("nightly"))
	require.NoError(t, env.Catalog.SetStatus(ctx, "gold-2", catalog.Active))

	// A change of the template reaches the rows; an override is its tenant's alone.
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 8 * * *"}, Overrides: []schedule.Override{
		{Tenant: "tin-1", Cron: "0 9 * * *", Zone: "UTC", Args: json.RawMessage(`{"text": "mine"}`)},
	}})
	require.Len(t, have("nightly"), 3)
	s, err = env.Schedules.Get(ctx, of("tin-1", "nightly"))
	require.NoError(t, err)
	require.Equal(t, []string{"0 9 * * *", "UTC", `{"text": "mine"}`}, []string{s.Cron, s.Zone, string(s.Args)})
	_, err = env.Schedules.Edit(ctx, of("tin-1", "nightly"), schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@daily"}})
	require.ErrorIs(t, err, schedule.ErrConflict)
	require.ErrorIs(t, env.Schedules.Delete(ctx, of("tin-1", "nightly"), ""), schedule.ErrConflict)

	// A tenant's own schedule of that name stays its own.
	create(t, env, "acme", "mine", "@daily")
	template = setTemplate(t, env, schedule.TemplateParams{Name: "mine", Select: selecting(t, "tenant=acme"), Spec: schedule.Spec{Cron: "@hourly"}})
	require.Zero(t, template.Tenants)
	s, err = env.Schedules.Get(ctx, of("acme", "mine"))
	require.NoError(t, err)
	require.Equal(t, "@daily", s.Cron)
	there, err := env.Schedules.Templates.Get(ctx, "everybody")
	require.NoError(t, err)
	other := there.Tenants + 1
	require.ErrorIs(t, env.Schedules.Templates.Delete(ctx, "everybody", schedule.TemplateDeletion{Actor: "ines", ExpectTenants: &other}), catalog.ErrExpectation)
	_, err = env.Schedules.Templates.Get(ctx, "everybody")
	require.NoError(t, err, "nothing was removed")
	require.NoError(t, env.Schedules.Templates.Delete(ctx, "everybody", schedule.TemplateDeletion{Actor: "ines", ExpectTenants: &there.Tenants}))
	require.Empty(t, have("everybody"))

	for says, params := range map[string]schedule.TemplateParams{
		"template is named": {Name: "nightly", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}, New: true},
		"never fires":       {Name: "n", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "* * 31 2 *"}},
		"whole database":    {Name: "n", Args: roomtest.Tidy{}, Spec: schedule.Spec{Cron: "@daily"}},
		"override for acme": {Name: "n", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}, Overrides: []schedule.Override{{Tenant: "acme", Cron: "@Daily"}}},
		"unknown tenant":    {Name: "n", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}, Overrides: []schedule.Override{{Tenant: "nobody"}}},
	} {
		_, err := env.Schedules.Templates.Set(ctx, params)
		require.ErrorContains(t, err, says)
	}
	// Somebody has written, by SQL, a text that does not parse: the others are still read, and
	// the template can be given another.
	setTemplate(t, env, schedule.TemplateParams{Name: "odd", Spec: schedule.Spec{Cron: "@daily"}})
	roomtest.Do(t, env, `UPDATE headgate.fleets SET selector = 'plna = pro' WHERE name = 'odd'`)
	odd, err := env.Schedules.Templates.Get(ctx, "odd")
	require.NoError(t, err)
	require.Equal(t, "plna = pro", odd.Select.String())
	_, err = env.Schedules.Templates.Edit(ctx, "odd", schedule.TemplateEdit{})
	require.ErrorAs(t, err, new(*jobs.InputError))
	require.ErrorContains(t, err, `unknown attribute "plna" (did you mean plan?)`)
	all := selector.Selector{}
	_, err = env.Schedules.Templates.Edit(ctx, "odd", schedule.TemplateEdit{Select: &all})
	require.NoError(t, err)
}

// crowd makes tenants on servers of their own, in the catalog only: nothing of
// theirs is connected to.
func crowd(t *testing.T, env *jobstest.Env, tenants, servers int) {
	t.Helper()
	_, err := env.Pool.Exec(context.Background(), `
INSERT INTO headgate.servers (id, name, hosts) SELECT gen_random_uuid(), 'server-' || i, '{db.example}' FROM generate_series(1, $1::int) i`, servers)
	require.NoError(t, err)
	_, err = env.Pool.Exec(context.Background(), `
INSERT INTO headgate.databases (id, name, server_id, dbname, kind, job_login, owner_login, signing_key)
SELECT gen_random_uuid(), 'db-' || s.name, s.id, s.name, 'shared', '\x00', '\x00', '\x00' FROM headgate.servers s WHERE s.name LIKE 'server-%'`)
	require.NoError(t, err)
	_, err = env.Pool.Exec(context.Background(), `
INSERT INTO headgate.tenants (id, org_id, slug, name, plan, timezone, database_id, database_kind)
SELECT gen_random_uuid(), 100000 + i, 'c' || i, 'c' || i, 'crowd', 'Europe/Paris', d.id, 'shared'
FROM generate_series(1, $1::int) i
JOIN headgate.databases d ON d.name = 'db-server-' || (1 + hashint4(i) % $2::int + CASE WHEN hashint4(i) % $2::int < 0 THEN $2::int ELSE 0 END)`, tenants, servers)
	require.NoError(t, err)
}

// At midnight: the starts of a template with a spread of ten minutes are even on each
// server, do not move, and are what the forecast has said.
func TestMidnightIsSpread(t *testing.T) {
	t.Parallel()
	midnight(t, 2000, 2)
}

func midnight(t *testing.T, tenants, servers int) {
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	crowd(t, env, tenants, servers)
	setTemplate(t, env, schedule.TemplateParams{Name: "midnight", Select: selecting(t, "plan=crowd"), Spec: schedule.Spec{Cron: "0 0 * * *", Policy: schedule.Policy{Spread: 10 * time.Minute}}})
	roomtest.ShadowClock(t, env)
	until := func() {
		s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{MaxSkew: 1000 * time.Hour}) // a new one each time: nothing is remembered
		for {
			n, _, err := s.RunOnce(ctx)
			require.NoError(t, err)
			if n == 0 {
				return
			}
		}
	}
	until()
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
	began := time.Now()
	planned, err := env.Schedules.Forecast(ctx, time.Time{}, 24*time.Hour)
	require.NoError(t, err)
	took := time.Since(began)
	night := func() map[string]int {
		_, err := env.Pool.Exec(ctx, `UPDATE skew.clock SET by = by + interval '24 hours'`)
		require.NoError(t, err)
		until()
		rows, err := env.Pool.Query(ctx, `
SELECT v.name, count(*), (extract(epoch FROM o.effective_at)::bigint / 10)::bigint
FROM headgate.occurrences o JOIN headgate.schedules s ON s.id = o.schedule_id JOIN headgate.tenants t ON t.id = s.tenant_id
JOIN headgate.databases d ON d.id = t.database_id JOIN headgate.servers v ON v.id = d.server_id
WHERE o.outcome = 'fired' GROUP BY 1, 3`)
		require.NoError(t, err)
		defer rows.Close()
		slots := map[string]int{}
		for rows.Next() {
			var server string
			var n int
			var slot int64
			require.NoError(t, rows.Scan(&server, &n, &slot))
			slots[fmt.Sprintf("%s %d", server, slot)] = n
		}
		return slots
	}
	first := night()
	enqueued := map[string]int{}
	worst, sum, perServer := 0.0, 0, map[string]int{}
	for key, n := range first {
		var server string
		var slot int64
		_, err := fmt.Sscan(key, &server, &slot)
		require.NoError(t, err)
		enqueued[fmt.Sprintf("%s %s", server, time.Unix(slot*10, 0).UTC().Truncate(schedule.SlotLength).Format(time.RFC3339))] += n
		perServer[server] += n
		sum += n
	}
	for key, n := range first {
		var server string
		_, err := fmt.Sscan(key, &server)
		require.NoError(t, err)
		worst = max(worst, float64(n)/(float64(perServer[server])/60))
	}
	require.Equal(t, tenants, sum)
	forecast := map[string]int{}
	for _, s := range planned {
		forecast[fmt.Sprintf("%s %s", s.Server, s.At.Format(time.RFC3339))] = s.Starts
	}
	require.Equal(t, forecast, enqueued, "the forecast is what was then enqueued")
	require.LessOrEqual(t, worst, 1.5, "the fullest ten seconds of a server against its mean")

	_, err = env.Pool.Exec(ctx, `TRUNCATE headgate.occurrences, river_job`)
	require.NoError(t, err)
	second := night()
	for key, n := range first {
		var server string
		var slot int64
		_, err := fmt.Sscan(key, &server, &slot)
		require.NoError(t, err)
		require.Equal(t, n, second[fmt.Sprintf("%s %d", server, slot+24*360)], "the places stay, night for night")
	}
	t.Logf("%d tenants on %d servers at midnight, spread 10 min: max/mean per 10 s %.2f; forecast of %d starts in %s equals what was enqueued", tenants, servers, worst, sum, took.Round(time.Millisecond))
}
