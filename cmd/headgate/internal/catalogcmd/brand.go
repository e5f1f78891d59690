package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var brandColumns = []cli.Column[catalog.Brand]{
	{Name: "tenant", Of: func(b catalog.Brand) any { return b.Tenant }},
	{Name: "brand_id", Of: func(b catalog.Brand) any { return b.BrandID }},
	{Name: "org_brand_id", Of: func(b catalog.Brand) any { return b.OrgBrandID }},
	{Name: "name", Of: func(b catalog.Brand) any { return b.Name }},
}

func tenantBrand(app *cli.App) *cobra.Command {
	return cli.Group("brand", "Subdivisions of a tenant, to which a job can be limited", brandSet(app), brandList(app), brandRemove(app))
}

func brandSet(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "set SLUG BRAND_ID BRAND_NAME", Short: "Add a brand of a tenant, or give it another name", Args: cli.Args("SLUG", "BRAND_ID", "BRAND_NAME"),
		Example: "  headgate tenant brand set acme 1 'Acme Outdoor'",
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			id, err := brandID(args[1])
			if err != nil {
				return err
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				var brand catalog.Brand
				err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					brand, err = central.Catalog.Brands().SetTx(ctx, tx, args[0], id, args[2])
					return err
				})
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				defer dry.Say(app, "")
				return cli.One(app, brand, brandColumns)
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

func brandList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list SLUG", Short: "List a tenant's brands", Args: cli.Args("SLUG"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				brands, err := cli.All(func(page jobs.Page) ([]catalog.Brand, string, error) {
					return central.Catalog.Brands().List(ctx, args[0], page)
				})
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				return cli.List(app, brands, "it has no brands: `headgate tenant brand set SLUG BRAND_ID BRAND_NAME`", brandColumns)
			})
		}),
	}
}

func brandRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "remove SLUG BRAND_ID", Short: "Take a brand out; rows that bear its number stay", Args: cli.Args("SLUG", "BRAND_ID"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			id, err := brandID(args[1])
			if err != nil {
				return err
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Brands().RemoveTx(ctx, tx, args[0], id) })
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				app.Say("removed: brand %d of tenant %s; rows that bear its number stay", id, args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

func brandID(text string) (int, error) {
	id, ok := cli.Whole(text)
	if !ok || id >= jobs.MostBrands {
		return 0, cli.Usagef("BRAND_ID: %s is no number of a brand: give 0 to %d", cli.Quote(text), jobs.MostBrands-1)
	}
	return id, nil
}
