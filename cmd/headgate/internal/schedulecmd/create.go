package schedulecmd

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/schedule"
)

const scheduleLong = `Give a tenant a schedule: a job of this kind, with these arguments, whenever the
cron text says so. A database has schedules too, of the kinds that work on a whole
one.

The text has five fields (minute hour day month weekday), or is @hourly, @daily,
@weekly, @monthly, @yearly, or @every with a duration. It goes by the time zone,
daylight saving included: a time that the clocks skip fires at the end of the
jump, a time that comes twice fires once; --gap and --repeat choose otherwise.`

func scheduleCreate(app *cli.App) *cobra.Command {
	var a kinds.Request
	var kind string
	var f specFlags
	var o owner
	var selecting cli.Selecting
	var confirm cli.Confirmation
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:     "create NAME --tenant TENANT --kind KIND --cron CRON",
		Short:   "Give a tenant, a database or a selector a schedule",
		Long:    scheduleLong,
		Example: "  headgate schedule create nightly --tenant acme --kind headgate.purge --cron '30 2 * * *' --zone Europe/Berlin \\\n    --args '{\"table\": \"events\", \"column\": \"at\", \"older_than\": \"90d\"}'",
		Args:    cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.Required(cmd, "kind", "cron"); err != nil {
			return err
		}
		if err := cli.NotZero(cmd, "queue"); err != nil {
			return err
		}
		if err := f.read(); err != nil {
			return err
		}
		f.Queue, f.Priority, f.MaxAttempts = a.Opts.Queue, a.Opts.Priority, a.Opts.MaxAttempts
		if selecting.Given() {
			return createTemplate(ctx, app, args[0], kind, &selecting, &a, &f, o.actor, &confirm, dry)
		}
		if (a.Tenant == "") == (a.Database == "") {
			return cli.Usagef("--tenant is missing: whose schedule? give one of --tenant, --database and --select")
		}
		kindArgs, err := a.Read(ctx, app, kind)
		if err != nil {
			return err
		}
		switch scope := jobs.KindOptsOf(kindArgs).Scope; {
		case scope == jobs.ScopeDatabase && a.Database == "":
			return cli.Usagef("kind %s works on a whole database; give --database instead of --tenant", kind)
		case scope != jobs.ScopeDatabase && a.Database != "":
			return cli.Usagef("kind %s works for one tenant; give --tenant instead of --database", kind)
		}
		return createSchedule(ctx, app, schedule.Params{
			Tenant: a.Tenant, Database: a.Database, Name: args[0], Args: kindArgs, Spec: f.Spec, Actor: o.actor,
		}, dry)
	})
	dry.Flag(cmd)
	a.Flags(cmd)
	f.flags(cmd)
	o.actorFlag(app, cmd)
	confirm.Flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&a.Database, "database", "", "the database, for kinds that work on a whole one")
	selecting.Flag(cmd, "for all tenants that an expression selects, as in 'plan = pro and not feature.beta'; or all")
	flags.StringVar(&kind, "kind", "", "the kind of its jobs")
	flags.StringVar(&f.Zone, "zone", "", "the IANA time zone (default: the tenant's, also when that changes)")
	cli.Complete(cmd, "kind", kinds.Names())
	return cmd
}

// createTemplate is create with --select.
func createTemplate(ctx context.Context, app *cli.App, name, kind string, selecting *cli.Selecting, a *kinds.Request, f *specFlags, actor string, confirm *cli.Confirmation, dry cli.DryRun) error {
	if a.Tenant != "" || a.Database != "" {
		return cli.Usagef("whose schedule? give one of --tenant, --database and --select")
	}
	selector, err := selecting.Read()
	if err != nil {
		return err
	}
	params := schedule.TemplateParams{Name: name, Select: selector, Spec: f.Spec, Actor: actor, New: true}
	if params.Args, err = a.Read(ctx, app, kind); err != nil {
		return err
	}
	return app.Open(ctx, nil, func(central cli.Central) error {
		return confirm.Do(ctx, app, func() error {
			params.DryRun = true
			if dry.On() {
				template, err := central.Schedules.Templates.Set(ctx, params)
				if err != nil {
					return cli.BadValue(err)
				}
				return showTemplate(app, template, template.Tenants, dry)
			}
			params.ExpectTenants, err = confirm.Expect(selector.String()+" matches", func() (int, error) {
				template, err := central.Schedules.Templates.Set(ctx, params)
				return template.Tenants, cli.BadValue(err)
			})
			if err != nil {
				return err
			}
			params.DryRun = false
			template, err := central.Schedules.Templates.Set(ctx, params)
			if err != nil {
				return cli.BadValue(err)
			}
			return showTemplate(app, template, template.Tenants, dry)
		})
	})
}

// showTemplate prints what was stored, or in a dry run would be; tenants is how many of them
// the change touches.
func showTemplate(app *cli.App, template schedule.Template, tenants int, dry cli.DryRun) error {
	sayLacking(app, template)
	defer dry.Say(app, jobs.Count(tenants, "tenant"))
	return cli.One(app, template, templateColumns)
}

// sayLacking tells who has no schedule of a template, because they lack its brand.
func sayLacking(app *cli.App, template schedule.Template) {
	if template.Lacking != nil {
		app.Say("warning: %s", template.Lacking.Warning(*template.Brand))
	}
}

func createSchedule(ctx context.Context, app *cli.App, params schedule.Params, dry cli.DryRun) error {
	return app.Open(ctx, nil, func(central cli.Central) error {
		var created schedule.Schedule
		err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
			created, err = central.Schedules.CreateTx(ctx, tx, params)
			return err
		})
		if err != nil {
			return cli.BadValue(cli.NearOwner(ctx, central, params.Tenant, params.Database, err))
		}
		announce(ctx, app, central, created)
		defer dry.Say(app, "")
		return cli.One(app, created, scheduleColumns)
	})
}

// announce tells what is probably not meant, and the first times.
func announce(ctx context.Context, app *cli.App, central cli.Central, s schedule.Schedule) {
	table, err := central.Schedules.Timetable(ctx, s)
	if err != nil || s.NextRunAt == nil {
		return // the client has just accepted it
	}
	warnings := table.Warnings()
	for _, warning := range warnings {
		app.Say("warning: %s", warning)
	}
	if app.Output != "table" && len(warnings) == 0 {
		return
	}
	app.Say("fires %s, …", strings.Join(firstTimes(table.Upcoming(s.Nominal.Add(-time.Second), 5)), ", "))
	if s.DelaySeconds > 0 {
		app.Say("its place in the spread: %s later", time.Duration(s.DelaySeconds)*time.Second)
	}
}

// firstTimes writes occurrences for people, with seconds where one has any.
func firstTimes(occurrences []calendar.Occurrence) (times []string) {
	form := "Mon 2006-01-02 15:04 MST"
	for _, o := range occurrences {
		if o.At.Second() != 0 {
			form = "Mon 2006-01-02 15:04:05 MST"
		}
	}
	for _, o := range occurrences {
		times = append(times, o.At.Format(form))
	}
	return times
}
