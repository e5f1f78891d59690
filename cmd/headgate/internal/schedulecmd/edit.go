package schedulecmd

import (
	"cmp"
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/schedule"
)

const editLong = `Change a schedule. What is not given stays. A firing is either before the edit or
after it, never half of both. A schedule in error is set going again.

With --template it is the schedule for a selector of that name, and with it those of
all its tenants.`

// editing is what schedule edit was asked for.
type editing struct {
	owner
	specFlags
	cmd              *cobra.Command
	kind, args, note string
	version          int
	template         bool
	selecting        cli.Selecting
	confirm          cli.Confirmation
	dry              cli.DryRun
}

func scheduleEdit(app *cli.App) *cobra.Command {
	var e editing
	cmd := &cobra.Command{
		Use:     "edit NAME --tenant TENANT | --database DATABASE | --template",
		Short:   "Change a schedule; what is not given stays",
		Long:    editLong,
		Example: "  headgate schedule edit nightly --tenant acme --cron '0 4 * * *' --overlap buffer_one\n  headgate schedule edit nightly --template --select 'plan = pro' --confirm 120",
		Args:    cli.Args("NAME"),
	}
	e.cmd = cmd
	single := onSchedule(app, &e.owner, func(ctx context.Context, central cli.Central, of schedule.Key) error {
		return editSchedule(ctx, app, central, of, &e)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !e.template && e.selecting.Given():
			return cli.Usagef("--select is for the schedule of a selector: give --template with it")
		case !e.template:
			return single(cmd, args)
		}
		return onTemplate(app, &e.owner, func(ctx context.Context, central cli.Central, name string) error {
			return editTemplate(ctx, app, central, name, &e)
		})(cmd, args)
	}
	e.owner.flags(cmd)
	e.actorFlag(app, cmd)
	e.specFlags.flags(cmd)
	e.confirm.Flags(cmd)
	e.dry.Flag(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&e.template, "template", false, "the schedule for a selector of that name, and those of all its tenants")
	e.selecting.Flag(cmd, "with --template: for all tenants that this expression selects from now on")
	flags.StringVar(&e.Zone, "zone", "", "the IANA time zone, instead of the tenant's")
	flags.StringVar(&e.kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&e.args, "args", "", "the arguments: JSON, @FILE, or - for standard input")
	flags.StringVar(&e.note, "note", "", "why, for the record of changes")
	cli.IntIn(flags, &e.version, "version", 0, 1, 0, "only change the schedule if it has this version")
	return cmd
}

func editSchedule(ctx context.Context, app *cli.App, central cli.Central, of schedule.Key, e *editing) error {
	edit, err := e.read(ctx, app, func() (string, []byte, error) {
		s, err := central.Schedules.Get(ctx, of)
		return s.Kind, s.Args, err
	})
	if err != nil {
		return err
	}
	var s schedule.Schedule
	err = e.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
		s, err = central.Schedules.EditTx(ctx, tx, of, edit)
		return err
	})
	if err != nil {
		return err
	}
	announce(ctx, app, central, s)
	defer e.dry.Say(app, "")
	return cli.One(app, s, scheduleColumns)
}

func editTemplate(ctx context.Context, app *cli.App, central cli.Central, name string, e *editing) error {
	change, err := e.read(ctx, app, func() (string, []byte, error) {
		f, err := central.Schedules.Templates.Get(ctx, name)
		return f.Kind, f.Args, err
	})
	if err != nil {
		return err
	}
	edit, what := schedule.TemplateEdit{Edit: change}, "template "+name+" is for"
	if e.selecting.Given() {
		parsed, err := e.selecting.Read()
		if err != nil {
			return err
		}
		edit.Select, what = &parsed, "the change of template "+name+" touches"
	}
	return e.confirm.Do(ctx, app, func() error {
		edit.DryRun = true
		if e.dry.On() {
			would, err := central.Schedules.Templates.Edit(ctx, name, edit)
			if err != nil {
				return err
			}
			return showTemplate(app, would, would.Touched, e.dry)
		}
		edit.ExpectTenants, err = e.confirm.Expect(what, func() (int, error) {
			would, err := central.Schedules.Templates.Edit(ctx, name, edit)
			return would.Touched, err
		})
		if err != nil {
			return err
		}
		edit.DryRun = false
		after, err := central.Schedules.Templates.Edit(ctx, name, edit)
		if err != nil {
			return err
		}
		return showTemplate(app, after, after.Touched, e.dry)
	})
}

// read makes the edit of what was given; now says what the schedule's kind and
// arguments are, which is asked only where one of them is given without the other.
func (e *editing) read(ctx context.Context, app *cli.App, now func() (kind string, args []byte, err error)) (edit schedule.Edit, err error) {
	flags := e.cmd.Flags()
	if err := cli.NotZero(e.cmd, "cron", "zone", "kind"); err != nil {
		return edit, err
	}
	if err := e.specFlags.read(); err != nil {
		return edit, err
	}
	edit = schedule.Edit{Fields: e.given(flags), Spec: e.Spec, Version: e.version, Actor: e.actor, Note: e.note}
	if !flags.Changed("args") && !flags.Changed("kind") {
		return edit, nil
	}
	kind, args, err := now()
	if err != nil {
		return edit, err
	}
	if !flags.Changed("args") {
		e.args = string(args)
	}
	a := kinds.Request{Tenant: e.tenant, Database: e.database, Args: e.args}
	edit.Args, err = a.Read(ctx, app, cmp.Or(e.kind, kind))
	return edit, err
}
