package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

func databaseOneColumns() []cli.Column[catalog.Database] {
	return append(append([]cli.Column[catalog.Database]{}, databaseColumns...),
		cli.Column[catalog.Database]{Name: "state", Of: func(d catalog.Database) any { return string(d.State) }},
		cli.Column[catalog.Database]{Name: "state_reason", Of: func(d catalog.Database) any { return d.StateReason }},
		cli.Column[catalog.Database]{Name: "state_by", Of: func(d catalog.Database) any { return d.StateBy }},
		cli.Column[catalog.Database]{Name: "state_since", Of: func(d catalog.Database) any { return d.StateSince }},
		cli.Column[catalog.Database]{Name: "max_tenants", Of: func(d catalog.Database) any { return d.MaxTenants }},
		cli.Column[catalog.Database]{Name: "plans", Of: func(d catalog.Database) any { return d.Plans }})
}

func databaseShow(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one database, its state, and how many tenants it takes",
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				database, err := cli.FindDatabase(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				sayNotInstalled(app, []catalog.Database{database})
				return cli.Upright(app, database, databaseOneColumns())
			})
		}),
	}
}

func databaseRename(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "rename NAME TO",
		Short: "Give a database another name in the catalog",
		Args:  cli.Args("NAME", "TO"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				database, err := cli.FindDatabase(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					database, err = central.Catalog.Hosting().RenameDatabaseTx(ctx, tx, database.Name, args[1])
					return err
				})
				if err != nil {
					return err
				}
				defer dry.Say(app, jobs.Count(database.Tenants, "tenant"))
				return cli.One(app, database, databaseColumns)
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

const databaseDetachLong = `Let no job of a database start until "headgate database reattach": the database is
being moved to another server, or restored. Its tenants' jobs wait and use no
attempt; those that run go on to their end. Workers keep no connection to it a few
seconds after its last job.`

func databaseDetach(app *cli.App) *cobra.Command {
	var confirm cli.Confirmation
	var why catalog.Decision
	var dry bool
	cmd := &cobra.Command{
		Use:   "detach NAME --reason TEXT",
		Short: "Let the jobs of a database wait while it is moved or restored",
		Long:  databaseDetachLong,
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		if err := cli.Required(cmd, "reason"); err != nil {
			return err
		}
		why.Actor = app.Actor()
		return app.Open(ctx, nil, func(central cli.Central) error {
			return confirm.Do(ctx, app, func() error {
				database, err := cli.FindDatabase(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				if dry {
					cli.SayDryRun(app, "")
					return cli.One(app, catalog.Concerned{Databases: 1, Tenants: database.Tenants, DryRun: true}, concernedColumns)
				}
				if err := confirm.Check("database " + database.Name + " has")(database.Tenants); err != nil {
					return err
				}
				if database, err = central.Catalog.Hosting().Detach(ctx, database.Name, why); err != nil {
					return err
				}
				app.Say("the jobs of %s wait; `headgate database reattach %s` lets them run again", jobs.Count(database.Tenants, "tenant"), database.Name)
				return cli.One(app, database, databaseOneColumns())
			})
		})
	})
	cmd.Flags().StringVar(&why.Reason, "reason", "", "why the jobs wait, for who asks later")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say how many tenants that concerns")
	confirm.Flags(cmd)
	return cmd
}

const databaseRemoveLong = `Take a database out of the catalog that no tenant lives in. On its server nothing
is changed: the database, Headgate's schema in it and the two logins stay there.

The rows of tenants that were removed may lie in it yet. With --rows-stay the
catalog forgets where: nobody can erase them by Headgate any more.`

func databaseRemove(app *cli.App) *cobra.Command {
	var r catalog.DatabaseRemoval
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a database out of the catalog that no tenant lives in",
		Long:  databaseRemoveLong,
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				database, err := cli.FindDatabase(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				r.Database = database.Name
				removed, err := central.Catalog.Hosting().RemoveDatabase(ctx, r)
				if err != nil {
					return err
				}
				if r.DryRun {
					cli.SayDryRun(app, "")
				} else {
					app.Say("database %s is out of the catalog", removed.Name)
				}
				app.Say("left on server %s: database %s with its rows, its schema headgate and its logins; drop them there if nobody needs them", removed.Server, removed.DBName)
				if removed.Removed > 0 {
					app.Say("among them are the rows of %s", jobs.Count(removed.Removed, "removed tenant"))
				}
				return cli.One(app, removed.Database, databaseColumns)
			})
		}),
	}
	cmd.Flags().BoolVar(&r.RowsStay, "rows-stay", false, "although the rows of removed tenants lie there yet")
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "only say what would be left")
	return cmd
}
