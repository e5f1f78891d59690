package schedulecmd

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var blackoutColumns = []cli.Column[schedule.Blackout]{
	{Name: "name", Of: func(b schedule.Blackout) any { return b.Name }},
	{Name: "tenant", Of: func(b schedule.Blackout) any { return b.Tenant }},
	{Name: "server", Of: func(b schedule.Blackout) any { return b.Server }},
	{Name: "spans", Of: func(b schedule.Blackout) any { return strings.Join(b.Spans, ", ") }},
	{Name: "zone", Of: func(b schedule.Blackout) any { return b.Zone }},
	{Name: "from", Of: func(b schedule.Blackout) any { return b.From }},
	{Name: "until", Of: func(b schedule.Blackout) any { return b.Until }},
	{Name: "note", Of: func(b schedule.Blackout) any { return b.Note }},
}

// windowCommand is what blackouts and maintenance windows have in common. A maintenance
// window has the fields of a blackout.
type windowCommand struct {
	verb, one, many     string
	none                string // what is said when there are none
	short, long, sample string
	set                 func(context.Context, pgx.Tx, *schedule.Calendars, schedule.Blackout) error
	list                func(context.Context, *schedule.Calendars) ([]schedule.Blackout, error)
	remove              func(context.Context, pgx.Tx, *schedule.Calendars, string) error
}

func scheduleBlackout(app *cli.App) *cobra.Command {
	return windowCommand{
		verb: "blackout", one: "a blackout", many: "blackouts", none: "no blackouts: `headgate schedule blackout set NAME`", short: "Blackouts: times in which no schedule starts",
		long: `Store a blackout, in which no schedule of a tenant, or of the tenants of a server,
starts. What is enqueued or triggered by hand, and what is tried again, runs all the
same; headgate pause holds that.`,
		sample: "  headgate schedule blackout set black-friday --server eu-1 --span 08:00-20:00 --zone Europe/Paris --from 2026-11-27T00:00:00Z --until 2026-11-28T00:00:00Z",
		set: func(ctx context.Context, tx pgx.Tx, c *schedule.Calendars, b schedule.Blackout) error {
			return c.SetBlackoutTx(ctx, tx, b)
		},
		list: func(ctx context.Context, c *schedule.Calendars) ([]schedule.Blackout, error) {
			return c.Blackouts(ctx)
		},
		remove: func(ctx context.Context, tx pgx.Tx, c *schedule.Calendars, name string) error {
			return c.DeleteBlackoutTx(ctx, tx, name)
		},
	}.group(app)
}

func scheduleMaintenanceWindow(app *cli.App) *cobra.Command {
	return windowCommand{
		verb: "maintenance-window", one: "a maintenance window", many: "maintenance windows",
		none:  "no maintenance windows: `headgate schedule maintenance-window set NAME`",
		short: "Maintenance windows: the only times for maintenance",
		long: `Store a maintenance window: where a tenant or its server has any, the schedules for
maintenance (schedule create --maintenance) start in one of them and at no other time.
Other schedules do not mind it.`,
		sample: "  headgate schedule maintenance-window set nights --tenant acme --span 'MON-FRI 01:00-05:00'",
		set: func(ctx context.Context, tx pgx.Tx, c *schedule.Calendars, b schedule.Blackout) error {
			return c.SetMaintenanceWindowTx(ctx, tx, schedule.MaintenanceWindow(b))
		},
		list: func(ctx context.Context, c *schedule.Calendars) (all []schedule.Blackout, err error) {
			found, err := c.MaintenanceWindows(ctx)
			for _, w := range found {
				all = append(all, schedule.Blackout(w))
			}
			return all, err
		},
		remove: func(ctx context.Context, tx pgx.Tx, c *schedule.Calendars, name string) error {
			return c.DeleteMaintenanceWindowTx(ctx, tx, name)
		},
	}.group(app)
}

func (w windowCommand) group(app *cli.App) *cobra.Command {
	var b schedule.Blackout
	var from, until string
	var setting, removing cli.DryRun
	set := &cobra.Command{
		Use: "set NAME --tenant TENANT | --server SERVER --span SPAN", Short: "Store " + w.one, Long: w.long, Example: w.sample, Args: cli.Args("NAME"),
	}
	set.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		begin, err := cli.TimeFlag("from", from)
		if err != nil {
			return err
		}
		end, err := cli.TimeFlag("until", until)
		if err != nil {
			return err
		}
		b.Name, b.From, b.Until = args[0], pointer(begin), pointer(end)
		return app.Open(ctx, nil, func(central cli.Central) error {
			err := setting.Do(ctx, central, func(tx pgx.Tx) error { return w.set(ctx, tx, central.Schedules.Calendars, b) })
			if err != nil {
				return cli.BadValue(err)
			}
			defer setting.Say(app, "")
			return cli.One(app, b, blackoutColumns)
		})
	})
	flags := set.Flags()
	flags.StringVar(&b.Tenant, "tenant", "", "whose, by slug, UUID or org_id")
	flags.StringVar(&b.Server, "server", "", "of all tenants on this server")
	flags.StringArrayVar(&b.Spans, "span", nil, "a span of the day, as in 'SAT,SUN 00:00-24:00'; may be repeated")
	flags.StringVar(&b.Zone, "zone", "", "the IANA time zone of the spans (default: each tenant's own)")
	flags.StringVar(&from, "from", "", "only from then on, RFC 3339")
	flags.StringVar(&until, "until", "", "only until then, RFC 3339")
	flags.StringVar(&b.Note, "note", "", "why")
	setting.Flag(set)
	show := &cobra.Command{
		Use: "list", Short: "List " + w.many, Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				all, err := w.list(ctx, central.Schedules.Calendars)
				if err != nil {
					return err
				}
				return cli.List(app, all, w.none, blackoutColumns)
			})
		}),
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Remove " + w.one, Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := removing.Do(ctx, central, func(tx pgx.Tx) error { return w.remove(ctx, tx, central.Schedules.Calendars, args[0]) })
				if err != nil {
					return err
				}
				defer removing.Say(app, "")
				return cli.One(app, schedule.Blackout{Name: args[0], Spans: []string{}}, blackoutColumns)
			})
		}),
	}
	removing.Flag(remove)
	return cli.Group(w.verb, w.short, set, show, remove)
}
