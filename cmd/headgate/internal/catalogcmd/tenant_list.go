package catalogcmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// page is how many rows one query of a longer list asks for.
const page = 1000

func tenantList(app *cli.App) *cobra.Command {
	var filter catalog.TenantFilter
	var status string
	var limit int
	var selecting cli.Selecting
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tenants, by slug",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			if status != "" {
				if err := cli.OneOf("--status", status, tenantStates); err != nil {
					return err
				}
			}
			filter.Status = catalog.Status(status)
			if selecting.Given() {
				read, err := selecting.Read()
				if err != nil {
					return err
				}
				filter.Select = read
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				if filter.Database != "" {
					database, err := cli.FindDatabase(ctx, central.Catalog, filter.Database)
					if err != nil {
						return err
					}
					filter.Database = database.ID
				}
				tenants, next, err := tenantPages(ctx, central.Catalog, filter, limit)
				if err != nil {
					return err
				}
				defer cli.More(app, next)
				none := "no tenants: `headgate tenant add SLUG --database DATABASE`"
				switch {
				case selecting.Given():
					none = "no tenant is like that: `headgate selector test EXPRESSION` says why"
				case filter.Database != "" || filter.Plan != "" || status != "":
					none = "no tenant is like that: `headgate tenant list` shows all"
				}
				return cli.List(app, tenants, none, tenantColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Database, "database", "", "only those that live in this database")
	flags.StringVar(&filter.Plan, "plan", "", "only those on this plan")
	flags.StringVar(&status, "status", "", "only those with this status: "+strings.Join(tenantStates, ", "))
	selecting.Flag(cmd, "only those that an expression selects, as in 'plan in (pro, enterprise) and not feature.beta'")
	cli.IntVar(flags, &limit, "limit", 0, "at most so many (0: all)")
	flags.StringVar(&filter.After, "after", "", "go on behind this one, as the list before said")
	cli.Complete(cmd, "status", tenantStates)
	return cmd
}

var tenantStates = []string{
	string(catalog.Provisioning), string(catalog.Active), string(catalog.Suspended), string(catalog.Moving), string(catalog.Archived), string(catalog.Removed),
}

// tenantPages reads up to limit tenants, all if it is 0, and where the rest begins.
func tenantPages(ctx context.Context, c *catalog.Catalog, filter catalog.TenantFilter, limit int) (all []tenantView, next string, err error) {
	for {
		filter.Limit = page
		if limit > 0 {
			filter.Limit = min(page, limit-len(all))
		}
		var tenants []catalog.Tenant
		if tenants, next, err = c.Tenants(ctx, filter); err != nil {
			return nil, "", err
		}
		for _, t := range tenants {
			all = append(all, viewTenant(t))
		}
		if next == "" || len(all) == limit {
			return all, next, nil
		}
		filter.After = next
	}
}
