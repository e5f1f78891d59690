package catalogcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

const databaseSetLong = `Decide what becomes of the jobs of a shared database that does not keep its
tenants apart. With enforce, which every database begins with, they wait, class
unprotected, and use no attempt. With observe they run, workers log what is open,
and doctor fails; that needs a reason, which is kept with who gave it.

Running workers follow within seconds.`

var protections = []string{string(catalog.ProtectionEnforced), string(catalog.ProtectionObserved)}

func databaseSet(app *cli.App) *cobra.Command {
	var to, reason string
	cmd := &cobra.Command{
		Use:   "set NAME --protection enforce|observe [--reason TEXT]",
		Short: "Decide whether jobs wait while a shared database is unprotected",
		Long:  databaseSetLong,
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.Required(cmd, "protection"); err != nil {
			return err
		}
		if err := cli.OneOf("--protection", to, protections); err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			_, err := central.Catalog.SetProtection(ctx, catalog.ProtectionChange{
				Database: args[0], To: catalog.Protection(to), Reason: reason, Actor: app.Actor(),
			})
			if err == nil && catalog.Protection(to) == catalog.ProtectionObserved {
				app.Say("next: `headgate database protect %s` lists what is open", args[0])
			}
			return err
		})
	})
	cmd.Flags().StringVar(&to, "protection", "", "enforce (jobs wait) or observe (jobs run)")
	cmd.Flags().StringVar(&reason, "reason", "", "why jobs may run although one tenant's may reach another's rows")
	cli.Complete(cmd, "protection", protections)
	return cmd
}

// protectionOf is what a list shows; a dedicated database has nobody to protect.
func protectionOf(d catalog.Database) string {
	if d.Kind == catalog.KindDedicated {
		return "-"
	}
	return string(d.Protection)
}
