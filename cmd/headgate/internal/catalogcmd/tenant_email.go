package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// tenantEmail is the verbs on the domains of e-mail addresses.
func tenantEmail(app *cli.App) *cobra.Command {
	return cli.Group("email", "Domains of the e-mail addresses of a tenant's people", tenantEmailAdd(app), tenantEmailList(app), tenantEmailRemove(app))
}

var emailColumns = []cli.Column[catalog.EmailDomain]{
	{Name: "domain", Of: func(e catalog.EmailDomain) any { return e.Domain }},
	{Name: "tenant", Of: func(e catalog.EmailDomain) any { return e.Tenant }},
	{Name: "created_at", Of: func(e catalog.EmailDomain) any { return e.CreatedAt }},
}

const tenantEmailAddLong = `Make e-mail addresses at a domain mean a tenant: at this very domain, and not below
it. Whoever signs in with such an address belongs to the tenant, so all addresses
there must be the tenant's people's. The domains of the largest public providers are
refused, because anybody can have an address there.`

func tenantEmailAdd(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "add SLUG DOMAIN", Short: "Make e-mail addresses at a domain mean a tenant", Long: tenantEmailAddLong, Args: cli.Args("SLUG", "DOMAIN"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Domains().AddEmailTx(ctx, tx, args[0], args[1]) })
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				app.Say("added: addresses at %s mean tenant %s", args[1], args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

func tenantEmailList(app *cli.App) *cobra.Command {
	var page jobs.Page
	cmd := &cobra.Command{
		Use: "list [SLUG]", Short: "List the e-mail domains, of one tenant or of all", Args: oneTenantAtMost,
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			tenant := ""
			if len(args) == 1 {
				tenant = args[0]
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				emails, next, err := central.Catalog.Domains().Emails(ctx, tenant, page)
				if err != nil {
					return cli.NearOwner(ctx, central, tenant, "", err)
				}
				defer cli.More(app, next)
				return cli.List(app, emails, "no e-mail domains: `headgate tenant email add SLUG DOMAIN`", emailColumns)
			})
		}),
	}
	cli.IntIn(cmd.Flags(), &page.Limit, "limit", 0, 1, 10_000, "at most so many, 1 to 10000 (default 200)")
	cmd.Flags().StringVar(&page.After, "after", "", "go on behind this one, as the list before said")
	return cmd
}

func tenantEmailRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "remove SLUG DOMAIN", Short: "Make e-mail addresses at a domain mean the tenant no more", Args: cli.Args("SLUG", "DOMAIN"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Domains().RemoveEmailTx(ctx, tx, args[0], args[1]) })
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				app.Say("removed: addresses at %s no longer mean tenant %s", args[1], args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}
