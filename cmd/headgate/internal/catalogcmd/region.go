package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Region is the verbs on regions.
func Region(app *cli.App) *cobra.Command {
	return cli.Group("region", "Parts of the world, where servers stand", regionAdd(app), regionList(app), regionRemove(app))
}

var regionColumns = []cli.Column[catalog.Region]{
	{Name: "name", Of: func(r catalog.Region) any { return r.Name }},
	{Name: "servers", Of: func(r catalog.Region) any { return r.Servers }},
	{Name: "note", Of: func(r catalog.Region) any { return r.Note }},
}

func regionAdd(app *cli.App) *cobra.Command {
	var note string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Enter a region, which servers can be set to",
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Hosting().AddRegionTx(ctx, tx, args[0], note) })
				if err != nil {
					return err
				}
				defer dry.Say(app, "")
				dry.Next(app, "`headgate server set NAME --region %s`", args[0])
				return cli.One(app, catalog.Region{Name: args[0], Note: note}, regionColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&note, "note", "", "what it is, for people")
	dry.Flag(cmd)
	return cmd
}

func regionList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the regions and how many servers stand in each",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				regions, err := cli.All(func(page jobs.Page) ([]catalog.Region, string, error) {
					return central.Catalog.Hosting().Regions(ctx, page)
				})
				if err != nil {
					return err
				}
				return cli.List(app, regions, "no regions yet: `headgate region add NAME`", regionColumns)
			})
		}),
	}
}

func regionRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a region that no server stands in",
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Hosting().RemoveRegionTx(ctx, tx, args[0]) })
				if err != nil {
					return err
				}
				app.Say("removed: region %s", args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}
