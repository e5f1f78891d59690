package schedule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/maintenance"
	"github.com/headgate/headgate/jobs/report"
	"github.com/headgate/headgate/jobs/sqlscript"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Bill is a kind that checks its arguments.
type Bill struct {
	Month string `json:"month"`
}

func (Bill) Kind() string { return "bill" }

func (b Bill) Check() error {
	if len(b.Month) != len("2026-12") {
		return fmt.Errorf("month %q: write it as 2026-12", b.Month)
	}
	return nil
}

// doors are all the ways by which arguments enter.
func doors(env *jobstest.Env, args jobs.Args) map[string]func(context.Context) error {
	c, store := env.Client, env.Schedules
	inTx := func(ctx context.Context, work func(pgx.Tx) error) error {
		return pgx.BeginFunc(ctx, env.Pool, work)
	}
	// Who ignores an error in a transaction must not find half of a job in it.
	return map[string]func(context.Context) error{
		"Enqueue": func(ctx context.Context) error { _, err := c.Enqueue(ctx, "acme", args, nil); return err },
		"EnqueueTx": func(ctx context.Context) (err error) {
			return errors.Join(inTx(ctx, func(tx pgx.Tx) error { _, err = c.EnqueueTx(ctx, tx, "acme", args, nil); return nil }), err)
		},
		"EnqueueMany": func(ctx context.Context) error {
			_, err := c.EnqueueMany(ctx, []jobs.EnqueueParams{{Tenant: "acme", Args: roomtest.Note{Text: "good"}}, {Tenant: "acme", Args: args}})
			return err
		},
		"CreateSchedule": func(ctx context.Context) error {
			_, err := store.Create(ctx, schedule.Params{Tenant: "acme", Name: "new", Spec: schedule.Spec{Cron: "@daily"}, Args: args})
			return err
		},
		"EditSchedule": func(ctx context.Context) error {
			_, err := store.Edit(ctx, of("acme", "old"), schedule.Edit{Args: args})
			return err
		},
		"SetTemplate": func(ctx context.Context) error {
			_, err := store.Templates.Set(ctx, schedule.TemplateParams{Name: "all", Spec: schedule.Spec{Cron: "@daily"}, Args: args})
			return err
		},
		"EditTemplate": func(ctx context.Context) error {
			_, err := store.Templates.Edit(ctx, "standing", schedule.TemplateEdit{Edit: schedule.Edit{Args: args}})
			return err
		},
		"PlanSchedules":  func(ctx context.Context) error { _, err := store.Files.Plan(ctx, fileOf(args)); return err },
		"ApplySchedules": func(ctx context.Context) error { _, err := store.Files.Apply(ctx, fileOf(args)); return err },
		"Follow":         func(context.Context) error { _, err := wire.Follow(nil, true, args, nil); return err },
	}
}

func fileOf(args jobs.Args) schedule.File {
	return schedule.File{Name: "site", Templates: []schedule.TemplateParams{{Name: "filed", Spec: schedule.Spec{Cron: "@daily"}, Args: args}}}
}

// behindTheDoor is what has come in.
const behindTheDoor = `SELECT (SELECT count(*) FROM river_job) + (SELECT count(*) FROM headgate.schedules WHERE kind <> 'note') + (SELECT count(*) FROM headgate.fleets WHERE kind <> 'note')`

// Arguments that no attempt can work with are refused wherever they enter, with one
// sentence that names the field, and nothing is written.
func TestArgumentsAreCheckedAtEveryDoor(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.CreateWith(t, env, "old", "@daily", schedule.Policy{})
	_, err := env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "standing", Spec: schedule.Spec{Cron: "@daily"}, Args: roomtest.Note{Text: "x"}})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		args jobs.Args
		want string
	}{
		"own kind":           {Bill{"december"}, `args of kind bill: month "december": write it as 2026-12`},
		"own kind, pointer":  {&Bill{"december"}, `args of kind bill: month "december"`},
		"purge, empty":       {maintenance.Purge{}, `args of kind headgate.purge: table "": want name or schema.name`},
		"purge, table":       {maintenance.Purge{Table: "a b", Column: "x", OlderThan: "1d"}, `args of kind headgate.purge: table "a b": want name or schema.name`},
		"purge, age":         {maintenance.Purge{Table: "a", Column: "x", OlderThan: "soon"}, `args of kind headgate.purge: older_than "soon": write a whole number with its unit`},
		"report, name":       {report.Args{Name: "../x", Query: "SELECT 1"}, `args of kind headgate.report: name "../x": write 1 to 64`},
		"report, no query":   {report.Args{Name: "x"}, `args of kind headgate.report: query is empty: write one SELECT`},
		"report, DELETE":     {report.Args{Name: "x", Query: "delete from events"}, `args of kind headgate.report: query begins with DELETE: a report is one SELECT`},
		"report, value":      {report.Args{Name: "x", Query: "SELECT 1", Args: report.Scalars{"surplus-s3cret"}}, `args of kind headgate.report: args[0]: the query has no $1`},
		"sql":                {sqlscript.Args{SQL: "COMMIT"}, `args of kind headgate.sql: statement 1: transaction control is not allowed`},
		"nothing":            {nil, "args are missing: give a value of the kind's struct"},
		"a nil pointer":      {(*Bill)(nil), "args are missing: a nil *schedule_test.Bill is given"},
		"a nil Note pointer": {(*roomtest.Note)(nil), "args are missing: a nil *roomtest.Note is given"},
	} {
		for door, enter := range doors(env, c.args) {
			if c.args == nil && (door == "EditSchedule" || door == "EditTemplate") {
				continue // it means that they stay
			}
			err := enter(ctx)
			require.ErrorContains(t, err, c.want, "%s: %s", name, door)
			require.NotContains(t, err.Error(), "s3cret")
			require.Zero(t, roomtest.Count(t, env, behindTheDoor), "%s: %s", name, door)
		}
	}
	for door, enter := range doors(env, Bill{"2026-12"}) {
		if door == "Follow" {
			continue // its job has no tenant here
		}
		require.NoError(t, enter(ctx), door)
	}
}

// What enters without its Go type is looked at too: an override of a selector's
// schedule by the type of the schedule's own arguments, and what a row holds by
// the client's Check.
func TestRawArgumentsAreCheckedAtTheDoor(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	override := func(args string) []schedule.Override {
		return []schedule.Override{{Tenant: "acme", Args: json.RawMessage(args)}}
	}
	for args, want := range map[string]string{
		`{"month": "soon"}`:   `override for acme: args of kind bill: month "soon": write it as 2026-12`,
		`{"month": 12}`:       `override for acme: args of kind bill do not fit its struct`,
		`["2026-12"]`:         `override for acme: args of kind bill encode as an array: they must be a JSON object`,
		`{`:                   `override for acme: args of kind bill are not JSON`,
		`{"month": "\u0000"}`: `override for acme: args hold the character U+0000`,
	} {
		_, err := env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "bills", Spec: schedule.Spec{Cron: "@daily"}, Args: Bill{"2026-12"}, Overrides: override(args)})
		require.ErrorContains(t, err, want)
		file := fileOf(Bill{"2026-12"})
		file.Templates[0].Overrides = override(args)
		_, err = env.Schedules.Files.Plan(ctx, file)
		require.ErrorContains(t, err, want)
	}
	require.Zero(t, roomtest.Count(t, env, behindTheDoor))

	check := func(kind string, args []byte) error {
		if kind == "bill" {
			return orchestrator.CheckStored(Bill{}, args)
		}
		return nil
	}
	client, err := orchestrator.New(orchestrator.Config{Pool: env.Pool, Catalog: env.Catalog, Logger: env.Log, Check: check})
	require.NoError(t, err)
	checked, err := schedule.New(schedule.Config{Pool: env.Pool, Catalog: env.Catalog, Logger: env.Log, Check: check})
	require.NoError(t, err)
	_, err = env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "bills", Spec: schedule.Spec{Cron: "@daily"}, Args: Bill{"2026-12"}, Overrides: override(`{"month": "2027-01"}`)})
	require.NoError(t, err)
	bill, err := env.Client.Enqueue(ctx, "acme", Bill{"2026-12"}, nil)
	require.NoError(t, err)
	_, err = env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: "own", Spec: schedule.Spec{Cron: "@daily"}, Args: Bill{"2026-12"}})
	require.NoError(t, err)
	for _, table := range []string{"river_job", "headgate.schedules", "headgate.fleets"} {
		_, err = env.Pool.Exec(ctx, `UPDATE `+table+` SET args = '{"month": "?"}' WHERE kind = 'bill'`)
		require.NoError(t, err)
	}
	const want = `args of kind bill: month "?": write it as 2026-12`
	_, err = client.Rerun(ctx, bill.UID, nil)
	require.ErrorContains(t, err, want)
	_, err = checked.Trigger(ctx, of("acme", "own"), nil)
	require.ErrorContains(t, err, want)
	_, err = checked.Edit(ctx, of("acme", "own"), schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@weekly"}})
	require.ErrorContains(t, err, want)
	_, err = checked.Templates.Edit(ctx, "bills", schedule.TemplateEdit{Edit: schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "@weekly"}}})
	require.ErrorContains(t, err, want)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM river_job`))
}

// The zero time is no bound, and is not taken for none.
func TestTheZeroTimeIsRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	zero := &time.Time{}
	for want, policy := range map[string]schedule.Policy{"start: the zero time": {Start: zero}, "end: the zero time": {End: zero}} {
		_, err := env.Schedules.Create(context.Background(), schedule.Params{Tenant: "acme", Name: "s", Spec: schedule.Spec{Cron: "@daily", Policy: policy}, Args: roomtest.Note{}})
		require.ErrorContains(t, err, want)
	}
}

func TestABlackoutOfAnUnknownServer(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	err := env.Schedules.Calendars.SetBlackout(context.Background(), schedule.Blackout{Name: "c", Server: "nope", Spans: []string{"00:00-24:00"}, Zone: "UTC"})
	require.ErrorIs(t, err, catalog.ErrUnknownServer)
	require.NotErrorIs(t, err, schedule.ErrUnknownBlackout)
}
