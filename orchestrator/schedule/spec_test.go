package schedule_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// leaves are the fields of a Spec, its policy's among them, by their names in Go.
func leaves(s *schedule.Spec) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for _, whole := range []reflect.Value{reflect.ValueOf(s).Elem(), reflect.ValueOf(&s.Policy).Elem()} {
		for i := range whole.NumField() {
			if name := whole.Type().Field(i).Name; name != "Policy" {
				all[name] = whole.Field(i)
			}
		}
	}
	return all
}

// full is a spec in which nothing is as it is by default.
func full() schedule.Spec {
	brand := 7
	start, end := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC)
	return schedule.Spec{
		Kind: "note", Args: json.RawMessage(`{"text": "x"}`), Queue: "slow", Priority: 3, MaxAttempts: 7, Cron: "0 3 * * *", Zone: "Asia/Tokyo", Brand: &brand,
		Policy: schedule.Policy{
			Gap: "skip", Repeat: "both", Start: &start, End: &end, Max: 9, Calendars: []string{"holidays"}, Windows: []string{"01:00-05:00"}, Spread: 10 * time.Minute,
			Overlap: schedule.OverlapBufferAll, BufferMax: 5, CatchUp: schedule.CatchUpAll, CatchUpMax: 4, CatchUpWindow: time.Hour, PauseAfter: 2, Maintenance: true,
		},
	}
}

// A field of a Spec is in every list, form and table, or this fails: a field that is
// added tomorrow is among them.
func TestASpecsFieldsAreEverywhere(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	whole := full()
	for name, value := range leaves(&whole) {
		require.False(t, value.IsZero(), "%s is set in this test", name)
	}

	columns := strings.FieldsFunc(schedule.SpecColumns, func(r rune) bool { return strings.ContainsRune(", \n", r) })
	require.Equal(t, columns, schedule.SpecFields(), "the SQL list and the Go list")
	at := map[uintptr]bool{}
	for _, column := range columns {
		at[reflect.ValueOf(schedule.Field(&whole, column)).Pointer()] = true
		require.Contains(t, columnsOf(t, env, "schedules"), column)
		require.Contains(t, columnsOf(t, env, "fleets"), column)
	}
	for name, value := range leaves(&whole) {
		require.True(t, at[value.Addr().Pointer()], "%s is in the list", name)
	}
	for name := range columnsOf(t, env, "fleets") {
		if name != "id" && name != "name" && name != "managed_by" && name != "version" && name != "created_at" && name != "selector" && name != "selection" {
			require.Contains(t, columns, name, "the column of a template")
		}
	}

	require.NoError(t, env.Schedules.Calendars.Set(ctx, "holidays", nil))
	roomtest.Do(t, env, `INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name) SELECT id, org_id, 7, 'seven' FROM headgate.tenants`)
	args := roomtest.Note{Text: "x"}
	made, err := env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "all", Args: args, Spec: whole})
	require.NoError(t, err)
	same(t, whole, made.Spec, "create")
	read, err := env.Schedules.Get(ctx, of("acme", "all"))
	require.NoError(t, err)
	same(t, whole, read.Spec, "get")

	plain, err := env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "plain", Args: roomtest.Note{}, Spec: schedule.Spec{Cron: "@daily"}})
	require.NoError(t, err)
	require.NotEqual(t, whole, plain.Spec)
	edited, err := env.Schedules.Edit(ctx, of("acme", "plain"), schedule.Edit{Args: args, Fields: schedule.EditableFields(), Spec: whole})
	require.NoError(t, err)
	same(t, whole, edited.Spec, "edit")
	require.False(t, edited.Follows)

	var changed []string
	require.NoError(t, env.Pool.QueryRow(ctx, `
		SELECT array_agg(c->>'field') FROM headgate.audit, jsonb_array_elements(changes) c
		WHERE object = 'schedule' AND name = 'plain' AND action = 'change'`).Scan(&changed))
	for _, column := range schedule.SpecFields() {
		if column != "kind" { // an edit leaves it
			require.Contains(t, changed, column, "the audit")
		}
	}

	file := schedule.File{Name: "site", Calendars: nil, Templates: []schedule.TemplateParams{{Name: "every", Select: selecting(t, "all"), Args: args, Spec: schedule.Spec{Cron: "@daily"}}}}
	_, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	file.Templates[0].Spec = whole
	steps, err := env.Schedules.Files.Plan(ctx, file)
	require.NoError(t, err)
	require.Len(t, steps, 1)
	shown := strings.Join(steps[0].Fields, "\n")
	for _, name := range schedule.EditableFields() {
		require.Contains(t, shown, name+": ", "the plan")
	}
	_, err = env.Schedules.Files.Apply(ctx, file)
	require.NoError(t, err)
	template, err := env.Schedules.Templates.Get(ctx, "every")
	require.NoError(t, err)
	same(t, whole, template.Spec, "template")
	row, err := env.Schedules.Get(ctx, of("brick", "every"))
	require.NoError(t, err)
	same(t, whole, row.Spec, "a tenant's row of a template")
	steps, err = env.Schedules.Files.Plan(ctx, file)
	require.NoError(t, err)
	require.Empty(t, steps)
}

func same(t *testing.T, want, got schedule.Spec, where string) {
	t.Helper()
	is := leaves(&got)
	for name, value := range leaves(&want) {
		if name == "Args" {
			require.JSONEq(t, string(want.Args), string(got.Args), where)
			continue
		}
		require.Equal(t, fmt.Sprintf("%+v", deref(value)), fmt.Sprintf("%+v", deref(is[name])), "%s: %s", where, name)
	}
}

func deref(v reflect.Value) any {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem().Interface()
	}
	return v.Interface()
}

// An edit refuses what no field is called, and the kind, which Args brings.
func TestAnEditNamesItsFields(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	create(t, env, "acme", "nightly", "@daily")
	for _, name := range []string{"kind", "args", "window", ""} {
		_, err := env.Schedules.Edit(context.Background(), of("acme", "nightly"), schedule.Edit{Fields: []string{name}})
		require.ErrorContains(t, err, "kind and args are changed by Edit.Args")
	}
}
