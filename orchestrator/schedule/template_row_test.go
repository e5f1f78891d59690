package schedule_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

func columnsOf(t *testing.T, env *jobstest.Env, table string) map[string]string {
	t.Helper()
	rows, err := env.Pool.Query(context.Background(), `
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = ('headgate.' || $1)::regclass AND attnum > 0 AND NOT attisdropped`, table)
	require.NoError(t, err)
	types := map[string]string{}
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error { types[name] = kind; return nil })
	require.NoError(t, err)
	return types
}

// otherwise is a value of each type, and of each column that takes few, that is none of
// the test's.
var otherwise = map[string]string{
	"gap": `'skip'`, "repeat": `'last'`, "overlap": `'allow'`, "catch_up": `'all'`,
	"text": `'other'`, "jsonb": `'{"text": 1.0}'`, "smallint": `3`, "integer": `7`, "boolean": `true`, "timestamp with time zone": `'2039-01-01'`, "text[]": `'{other}'`,
}

// A row that somebody has changed by SQL, in whichever field, is seen by drift and
// by plan, and put right by apply. The fields are the columns that templates and schedules
// have in common: one that is added tomorrow is among them.
func TestDriftSeesEveryField(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	file := func() schedule.File {
		return schedule.File{Name: "site", Templates: []schedule.TemplateParams{{
			Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily"}, Overrides: []schedule.Override{{Tenant: "brick", Cron: "@hourly"}},
		}}}
	}
	_, err := env.Schedules.Files.Apply(ctx, file())
	require.NoError(t, err)
	roomtest.Do(t, env, `INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name) SELECT id, org_id, 7, 'north' FROM headgate.tenants WHERE slug = 'acme'`)
	templates, schedules := columnsOf(t, env, "fleets"), columnsOf(t, env, "schedules")
	seen := 0
	for name, kind := range templates {
		if _, both := schedules[name]; !both || name == "id" || name == "name" || name == "version" || name == "created_at" {
			continue
		}
		seen++
		roomtest.Do(t, env, fmt.Sprintf(`UPDATE headgate.schedules SET %s = %s WHERE tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme')`, name, cmp.Or(otherwise[name], otherwise[kind])))
		steps, rows, err := env.Schedules.Files.Drift(ctx, file())
		require.NoError(t, err)
		require.Empty(t, steps)
		require.Len(t, rows, 1, name)
		require.True(t, strings.HasPrefix(rows[0].Is, "changed: "), rows[0].Is)
		require.Equal(t, "acme", rows[0].Tenant)
		steps, err = env.Schedules.Files.Plan(ctx, file())
		require.NoError(t, err)
		require.Len(t, steps, 1, name)
		require.Equal(t, []string{"rows of 1 tenant: put right"}, steps[0].Fields)
		others := roomtest.Count(t, env, `SELECT sum(version) FROM headgate.schedules WHERE tenant_id <> (SELECT id FROM headgate.tenants WHERE slug = 'acme')`)
		_, err = env.Schedules.Files.Apply(ctx, file())
		require.NoError(t, err)
		require.Equal(t, others, roomtest.Count(t, env, `SELECT sum(version) FROM headgate.schedules WHERE tenant_id <> (SELECT id FROM headgate.tenants WHERE slug = 'acme')`), "the others' rows are not written")
		steps, rows, err = env.Schedules.Files.Drift(ctx, file())
		require.NoError(t, err)
		require.Empty(t, steps, name)
		require.Empty(t, rows, name)
	}
	require.GreaterOrEqual(t, seen, 22, "the fields that a schedule has from its template")
}

// notTimes are the fields of a schedule that say nothing about when it names a time.
var notTimes = []string{"id", "name", "version", "created_at", "kind", "args", "queue", "priority", "max_attempts", "overlap", "buffer_max", "catch_up", "catch_up_max", "catch_up_window", "pause_after", "maintenance", "brand_id"}

// Whichever field of its times somebody changes while the schedule is due, the times that
// it had are kept with that field. A field that is added tomorrow is among them.
func TestFormerTimesKnowEveryField(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	dueSchedules(t, env, 1)
	templates, schedules := columnsOf(t, env, "fleets"), columnsOf(t, env, "schedules")
	ctx := context.Background()
	change := func(column, value string) schedule.Spec {
		roomtest.Do(t, env, `UPDATE headgate.schedules SET former = '[]', fresh = false, next_nominal_at = now() - interval '1 minute'`)
		roomtest.Do(t, env, fmt.Sprintf(`UPDATE headgate.schedules SET %s = %s`, column, value))
		var had []schedule.Former
		require.NoError(t, env.Pool.QueryRow(ctx, `SELECT former FROM headgate.schedules`).Scan(&had))
		require.Len(t, had, 1, column)
		return schedule.TimesWith(had[0], schedule.Spec{})
	}
	seen := 0
	for column, kind := range schedules {
		if _, both := templates[column]; !both || slices.Contains(notTimes, column) {
			continue
		}
		var before string
		require.NoError(t, env.Pool.QueryRow(ctx, fmt.Sprintf(`SELECT quote_nullable(%s) FROM headgate.schedules`, column)).Scan(&before))
		was := change(column, cmp.Or(otherwise[column], otherwise[kind]))
		other := change(column, before)
		require.NotEqual(t, was, other, column)
		seen++
	}
	require.GreaterOrEqual(t, seen, 10, "the fields of a schedule's times")
}

// A paused row is shown and left paused; one that is paused and changed is put right
// and left paused.
func TestApplyLeavesWhatAPersonHasPaused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	file := schedule.File{Name: "site", Templates: []schedule.TemplateParams{{Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily"}}}}
	_, err := env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET paused = true, paused_note = 'audit', next_run_at = NULL WHERE tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme')`)
	steps, err := env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Empty(t, steps)
	roomtest.Do(t, env, `UPDATE headgate.schedules SET priority = 4 WHERE tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'acme')`)
	_, rows, err := env.Schedules.Files.Drift(ctx, file)
	require.NoError(t, err)
	require.Equal(t, []schedule.Drift{{Schedule: "nightly", Tenant: "acme", Is: "paused: audit; changed: priority: 4 -> 1"}}, rows)
	steps, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	require.Len(t, steps, 1)
	_, rows, err = env.Schedules.Files.Drift(ctx, file)
	require.NoError(t, err)
	require.Equal(t, []schedule.Drift{{Schedule: "nightly", Tenant: "acme", Is: "paused: audit"}}, rows)
}

// What a file has is not changed past it: not by SetTemplate, which an application calls.
func TestAFilesTemplateIsChangedByItsFileOnly(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	_, err := env.Schedules.Files.Apply(ctx, schedule.File{Name: "site", Templates: []schedule.TemplateParams{{Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily"}}}})
	require.NoError(t, err)
	_, err = env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@hourly"}})
	require.ErrorIs(t, err, schedule.ErrConflict)
	require.ErrorContains(t, err, "comes from the file site")
	_, err = env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "all"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@hourly"}, ManagedBy: "other"})
	require.ErrorIs(t, err, schedule.ErrConflict)
	require.Equal(t, 2, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules WHERE cron = '@daily'`))
}
