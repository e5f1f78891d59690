package catalogcmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/migrations"
)

const centralPrepareLong = `Make the roles of the central database, which belong to the whole server, and
schema headgate where there is none. It is done once, before "headgate migrate up" or
after, and doing it again changes nothing.

  headgate_owner    who runs "headgate migrate up": everything of Headgate's is the role's
  headgate_worker   "headgate serve", "headgate worker", your own worker programs
  headgate_api      applications with the Go client, and the other commands
  headgate_enqueue  programs in any language: the function headgate.enqueue, nothing else
  headgate_read     dashboards and reports: the views of schema headgate_api

No role may log in: a login is made a member of one. "headgate migrate up" grants the
roles what they need. Of two central databases on one server each has a --prefix.

Either an administrator runs what --dry-run prints, in the central database, or Headgate
does it with an administrator's address of the central database, from HEADGATE_ADMIN_URL,
HEADGATE_ADMIN_URL_FILE or --admin-url-file. The address is used once and never stored. Its
login needs CREATEROLE and the ownership of the database, and need not be a superuser.`

func centralPrepare(app *cli.App) *cobra.Command {
	var dryRun bool
	var file string
	prefix := migrations.DefaultPrefix
	cmd := &cobra.Command{
		Use:     "prepare [--prefix NAME] [--dry-run]",
		Short:   "Make the roles that the central database's programs work as",
		Long:    centralPrepareLong,
		Example: "  headgate central prepare --dry-run\n  HEADGATE_ADMIN_URL_FILE=admin.url headgate central prepare",
		Args:    cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			sql, err := migrations.CentralSQL(prefix)
			if err != nil {
				return cli.BadValue(err)
			}
			if dryRun {
				return app.Print("%s", sql)
			}
			return prepareCentral(ctx, app, file, prefix)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the SQL, connect to nothing")
	cmd.Flags().StringVar(&file, "admin-url-file", "", "the file with the administrator's address, - for standard input")
	cmd.Flags().StringVar(&prefix, "prefix", prefix, "what the names of the roles begin with")
	return cmd
}

func prepareCentral(ctx context.Context, app *cli.App, file, prefix string) error {
	conn, err := app.AdminConn(ctx, "--admin-url-file", file, "HEADGATE_ADMIN_URL")
	if err != nil {
		return err
	}
	defer cli.CloseConn(ctx, conn)
	placed, err := migrations.PrepareCentral(ctx, conn, prefix)
	if err != nil {
		return err
	}
	names := make([]string, len(migrations.RoleNames))
	for i, end := range migrations.RoleNames {
		names[i] = prefix + "_" + end
	}
	app.Say("the central database is prepared: the server has the roles %s", strings.Join(names, ", "))
	next := "headgate migrate up"
	if !placed {
		next = fmt.Sprintf("headgate migrate up --prefix %s", prefix)
	}
	app.Say("next: make a login for each program with CREATE ROLE … LOGIN PASSWORD … IN ROLE %s, or another of these, then %s", names[1], next)
	return nil
}
