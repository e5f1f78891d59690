package schedulecmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/schedule"
)

var templateColumns = []cli.Column[schedule.Template]{
	{Name: "name", Of: func(f schedule.Template) any { return f.Name }},
	{Name: "select", Of: func(f schedule.Template) any { return f.Select.String() }},
	{Name: "tenants", Of: func(f schedule.Template) any { return f.Tenants }},
	{Name: "kind", Of: func(f schedule.Template) any { return f.Kind }},
	{Name: "cron", Of: func(f schedule.Template) any { return f.Cron }},
	{Name: "zone", Of: func(f schedule.Template) any { return f.Zone }},
	{Name: "file", Of: func(f schedule.Template) any { return f.ManagedBy }},
}

func scheduleList(app *cli.App) *cobra.Command {
	var filter schedule.Filter
	var templates bool
	var selecting cli.Selecting
	most := 1000
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List schedules: of databases, then of tenants by name",
		Args:  cli.Args(),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, _ []string) (err error) {
		if selecting.Given() {
			if filter.Select, err = selecting.Read(); err != nil {
				return err
			}
		}
		if rest := filter; templates && rest != (schedule.Filter{}) {
			return cli.Usagef("--templates lists all schedules for selectors: leave --tenant, --select, --kind, --template, --paused, --failing and --after out")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if templates {
				all, err := central.Schedules.Templates.List(ctx)
				if err != nil {
					return err
				}
				return cli.List(app, all, "no templates: `headgate schedule create NAME --select all --kind KIND --cron CRON`", templateColumns)
			}
			if filter.Tenant != "" {
				found, err := central.Catalog.Tenant(ctx, filter.Tenant)
				if err != nil {
					return cli.Near(ctx, central.Admission, admission.OfTenant, filter.Tenant, err)
				}
				filter.Tenant = found.Slug
			}
			schedules, next, err := schedulePages(ctx, central.Schedules, filter, most)
			if err != nil {
				return err
			}
			if next != "" {
				app.Say("there are more than these %d: add --after %s, or --limit 0 for all; --tenant, --select, --kind, --template, --paused and --failing select", most, next)
			}
			none := "no schedules: `headgate schedule create NAME --tenant TENANT --kind KIND --cron CRON`"
			if filter != (schedule.Filter{}) {
				none = "no schedule is like that: `headgate schedule list` shows all"
			}
			return cli.List(app, schedules, none, scheduleColumns)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&filter.Tenant, "tenant", "", "only this tenant's, by slug, UUID or org_id")
	selecting.Flag(cmd, "only those of tenants that an expression selects, as in 'region = eu and plan = pro'")
	flags.StringVar(&filter.Kind, "kind", "", "only those of this kind")
	flags.StringVar(&filter.Template, "template", "", "only those that come from the schedule of this name for a selector")
	flags.BoolVar(&filter.Paused, "paused", false, "only those that are paused")
	flags.BoolVar(&filter.Failing, "failing", false, "only those that cannot fire")
	flags.StringVar(&filter.After, "after", "", "go on behind this one, as the list before said")
	cli.IntVar(flags, &most, "limit", most, "at most so many; 0: all")
	flags.BoolVar(&templates, "templates", false, "list the schedules for selectors instead of the tenants' own rows")
	cli.Complete(cmd, "kind", kinds.Names())
	return cmd
}

// schedulePages reads up to most schedules (0: all), and says where those behind them begin.
func schedulePages(ctx context.Context, store *schedule.Store, filter schedule.Filter, most int) (all []schedule.Schedule, next string, err error) {
	for {
		filter.Limit = 1000 // of one query
		if most > 0 {
			filter.Limit = min(filter.Limit, most-len(all))
		}
		schedules, next, err := store.List(ctx, filter)
		if err != nil {
			return nil, "", err
		}
		if all = append(all, schedules...); next == "" || len(all) == most {
			return all, next, nil
		}
		filter.After = next
	}
}
