package catalogcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const prepareLong = `Make what is cluster-wide on a server, which no owner of a database may: the
role headgate_job, the group of all job logins. It is done once for a server, and
doing it again changes nothing.

Either an administrator runs what --dry-run prints, or Headgate does it with an
administrator's address, from HEADGATE_ADMIN_URL, HEADGATE_ADMIN_URL_FILE or
--admin-url-file. The address is used once and never stored.`

func serverPrepare(app *cli.App) *cobra.Command {
	var dryRun bool
	var file string
	cmd := &cobra.Command{
		Use:   "prepare NAME [--dry-run]",
		Short: "Make the roles that a server needs once",
		Long:  prepareLong,
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if dryRun {
				return app.Print("%s", migrations.ServerSQL)
			}
			admin, err := app.AddressFrom(ctx, "--admin-url-file", file, "HEADGATE_ADMIN_URL")
			if err != nil {
				return err
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				server, err := cli.FindServer(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				return prepare(ctx, app, target{server, catalog.NewAuthorities(central.Pool)}, admin)
			})
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the SQL, connect to nothing")
	cmd.Flags().StringVar(&file, "admin-url-file", "", "the file with the administrator's address, - for standard input")
	return cmd
}

func prepare(ctx context.Context, app *cli.App, t target, admin address.Address) error {
	conn, err := t.connect(ctx, "the administrator's", admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to lose
	if err := migrations.PrepareServer(ctx, conn); err != nil {
		return err
	}
	app.Say("server %s is prepared: it has the role headgate_job", t.server.Name)
	app.Say("next: make each job login with CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_job, then headgate database add")
	return nil
}
