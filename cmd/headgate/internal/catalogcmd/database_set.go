package catalogcmd

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const databaseSetLong = `Decide what becomes of the jobs of a shared database that does not keep its
tenants apart. With enforce, which every database begins with, they wait, class
unprotected, and use no attempt. With observe they run, workers log what is open,
and doctor fails; that needs a reason, which is kept with who gave it. Running
workers follow within seconds.

Or decide how many tenants it takes, and of which plans. A tenant that is added
without a database is placed in the shared one that has the fewest, among those that
take it. Tenants that live there already stay.`

var protections = []string{string(catalog.ProtectionEnforced), string(catalog.ProtectionObserved)}

func databaseSet(app *cli.App) *cobra.Command {
	var to, reason string
	var most int
	var plans []string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "set NAME [--protection enforce|observe [--reason TEXT]] [--max-tenants N] [--plan PLAN]...",
		Short: "Decide whether jobs wait while unprotected, and whom it takes",
		Long:  databaseSetLong,
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		var room catalog.Room
		if cmd.Flags().Changed("max-tenants") {
			room.MaxTenants = &most
		}
		if cmd.Flags().Changed("plan") {
			named := slices.DeleteFunc(slices.Clone(plans), func(plan string) bool { return plan == "any" })
			room.Plans = &named
			if len(named) < len(plans) && len(plans) > 1 {
				return cli.Usagef("--plan any stands alone: it lets tenants of every plan in")
			}
		}
		if to == "" && room == (catalog.Room{}) {
			return cli.Usagef("nothing to change: give --protection, --max-tenants or --plan")
		}
		if to != "" {
			if err := cli.OneOf("--protection", to, protections); err != nil {
				return err
			}
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			s := setting{protection: catalog.ProtectionChange{Database: args[0], To: catalog.Protection(to), Reason: reason, Actor: app.Actor()}, room: room, dry: dry}
			return s.run(ctx, app, central)
		})
	})
	cmd.Flags().StringVar(&to, "protection", "", "enforce (jobs wait) or observe (jobs run)")
	cmd.Flags().StringVar(&reason, "reason", "", "why jobs may run although one tenant's may reach another's rows")
	cli.IntIn(cmd.Flags(), &most, "max-tenants", 0, 0, 1_000_000, "how many tenants it takes, 1 to 1000000 (0: any number)")
	cmd.Flags().StringArrayVar(&plans, "plan", nil, "a plan whose tenants it takes, \"\" for those without one; may be repeated, and replaces the list; any: of every plan")
	cli.Complete(cmd, "protection", protections)
	dry.Flag(cmd)
	return cmd
}

// setting is one `database set`. A protection whose To is "" stays, and so does a room that is
// zero.
type setting struct {
	protection catalog.ProtectionChange
	room       catalog.Room
	dry        cli.DryRun
}

func (s setting) run(ctx context.Context, app *cli.App, central cli.Central) error {
	database, err := cli.FindDatabase(ctx, central.Catalog, s.protection.Database)
	if err != nil {
		return err
	}
	if s.room.Plans != nil {
		if err := warnOfPlans(ctx, app, central, *s.room.Plans); err != nil {
			return err
		}
	}
	err = s.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
		if s.protection.To != "" {
			if _, err := central.Catalog.SetProtectionTx(ctx, tx, s.protection); err != nil {
				return err
			}
		}
		if s.room != (catalog.Room{}) {
			database, err = central.Catalog.Hosting().SetRoomTx(ctx, tx, database.Name, s.room)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer s.dry.Say(app, jobs.Count(database.Tenants, "tenant"))
	if s.protection.To == catalog.ProtectionObserved {
		s.dry.Next(app, "`headgate database protect %s` lists what is open", s.protection.Database)
	}
	if s.room == (catalog.Room{}) {
		return nil
	}
	if most := database.MaxTenants; most != nil && database.Tenants >= *most {
		app.Say("database %s has %s and takes %s: no further one is placed there", database.Name, jobs.Count(database.Tenants, "tenant"), jobs.Thousands(*most))
	}
	return cli.One(app, database, databaseOneColumns())
}

// warnOfPlans says which of the plans nobody has made: one that is to be made later is allowed,
// and a name that nobody knows is more often mistyped.
func warnOfPlans(ctx context.Context, app *cli.App, central cli.Central, plans []string) error {
	found, err := cli.All(func(page jobs.Page) ([]catalog.Plan, string, error) {
		return central.Catalog.Plans().List(ctx, page)
	})
	if err != nil {
		return err
	}
	known := make([]string, len(found))
	for i, plan := range found {
		known[i] = plan.Name
	}
	for _, plan := range plans {
		if plan != "" && !slices.Contains(known, plan) {
			app.Say("warning: there is no plan %s%s", cli.Quote(plan), cli.DidYouMean(cli.Nearest(plan, known, "")...))
		}
	}
	return nil
}

// protectionOf is what a list shows; a dedicated database has nobody to protect.
func protectionOf(d catalog.Database) string {
	if d.Kind == catalog.KindDedicated {
		return "-"
	}
	return string(d.Protection)
}
