package schedulecmd

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/calendar"
)

// calendarView is one exclusion calendar.
type calendarView struct {
	Name string              `json:"name"`
	Days []calendar.DayRange `json:"days"`
}

var calendarColumns = []cli.Column[calendarView]{
	{Name: "name", Of: func(v calendarView) any { return v.Name }},
	{Name: "days", Of: func(v calendarView) any {
		var texts []string
		for _, r := range v.Days {
			text := r.From
			if r.To != r.From {
				text += ".." + r.To
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ", ")
	}},
}

func scheduleCalendar(app *cli.App) *cobra.Command {
	var days []string
	var setting, removing cli.DryRun
	set := &cobra.Command{
		Use:     "set NAME --day 2026-12-25 --day 2026-12-27..2026-12-31",
		Short:   "Store an exclusion calendar, or another of that name",
		Example: "  headgate schedule calendar set holidays --day 2026-12-25 --day 2027-01-01",
		Args:    cli.Args("NAME"),
	}
	set.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		return app.Open(ctx, nil, func(central cli.Central) error {
			var all map[string]calendar.Days
			err := setting.Do(ctx, central, func(tx pgx.Tx) (err error) {
				if err := central.Schedules.Calendars.SetTx(ctx, tx, args[0], calendarDays(days)); err != nil {
					return err
				}
				all, err = central.Schedules.Calendars.ListTx(ctx, tx)
				return err
			})
			if err != nil {
				return cli.BadValue(err)
			}
			defer setting.Say(app, "")
			return cli.One(app, calendarView{args[0], all[args[0]].Ranges}, calendarColumns)
		})
	})
	set.Flags().StringArrayVar(&days, "day", nil, "a day, or a range FROM..TO; may be repeated")
	setting.Flag(set)
	show := &cobra.Command{
		Use: "list", Short: "List exclusion calendars", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				all, err := central.Schedules.Calendars.List(ctx)
				if err != nil {
					return err
				}
				var views []calendarView
				for _, name := range slices.Sorted(maps.Keys(all)) {
					views = append(views, calendarView{name, all[name].Ranges})
				}
				return cli.List(app, views, "no calendars: `headgate schedule calendar set NAME --day 2026-12-25`", calendarColumns)
			})
		}),
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Remove an exclusion calendar that no schedule names", Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := removing.Do(ctx, central, func(tx pgx.Tx) error { return central.Schedules.Calendars.DeleteTx(ctx, tx, args[0]) })
				if err != nil {
					return cli.BadValue(err)
				}
				defer removing.Say(app, "")
				return cli.One(app, calendarView{Name: args[0], Days: []calendar.DayRange{}}, calendarColumns)
			})
		}),
	}
	removing.Flag(remove)
	return cli.Group("calendar", "Days on which nothing fires, shared by schedules", set, show, remove)
}

// calendarDays reads days as on the command line: 2026-12-24 or
// 2026-12-24..2026-12-26.
func calendarDays(texts []string) (ranges []calendar.DayRange) {
	for _, text := range texts {
		from, to, _ := strings.Cut(text, "..")
		ranges = append(ranges, calendar.DayRange{From: from, To: to})
	}
	return ranges
}
