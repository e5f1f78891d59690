package main

import (
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/auditcmd"
	"github.com/headgate/headgate/cmd/headgate/internal/catalogcmd"
	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/headgate/internal/keycmd"
	"github.com/headgate/headgate/cmd/headgate/internal/schedulecmd"
	"github.com/headgate/headgate/cmd/headgate/internal/workcmd"
	"github.com/headgate/headgate/cmd/internal/cli"
)

const rootLong = `Headgate runs background jobs across the databases of a SaaS's tenants: each job
in its tenant's own database, exactly once, from one queue in a central Postgres.

  headgate dev                    try it: a private Postgres, nothing to set up
  headgate migrate up             make the tables in the central database
  headgate serve                  fire schedules and run jobs

The central database is --database-url, else DATABASE_URL, else the contents of
DATABASE_URL_FILE, else what PGHOST and its like say. Behind a PgBouncer in
transaction mode say so with --central-pooler transaction, and give the address
past it in DATABASE_DIRECT_URL, for migrations and for hearing of new work. The
addresses of tenant databases are sealed with HEADGATE_KEY, or the key in
HEADGATE_KEY_FILE.`

func root(app *cli.App) *cobra.Command {
	root := &cobra.Command{
		Use:     "headgate",
		Short:   "Background jobs across tenant databases",
		Long:    rootLong,
		Args:    cli.UnknownCommand,
		Version: thisVersion().Version,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	app.Root(root)
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "catalog", Title: "Say where tenants live:"},
		&cobra.Group{ID: "limits", Title: "Say whose work may run, and how much of it:"},
		&cobra.Group{ID: "work", Title: "Ask for work and see what became of it:"},
	)
	tenants := catalogcmd.Tenant(app)
	tenants.AddCommand(workcmd.TenantExplain(app))
	root.AddCommand(
		in("run", devCommand(app)), in("run", serveCommand(app)), in("run", workerCommand(app)), in("run", migrateCommand(app)), in("run", doctor.Command(app)), in("run", healthcheckCommand(app)),
		in("catalog", catalogcmd.Server(app)), in("catalog", catalogcmd.Region(app)), in("catalog", catalogcmd.Database(app)), in("catalog", tenants), in("catalog", catalogcmd.Selector(app)), in("catalog", catalogcmd.Plan(app)), in("catalog", catalogcmd.Feature(app)), in("catalog", catalogcmd.Central(app)), in("catalog", keycmd.Key(app)), in("catalog", catalogcmd.CA(app)), in("catalog", auditcmd.Audit(app)),
		in("limits", workcmd.Limit(app)), in("limits", workcmd.Pause(app)), in("limits", workcmd.Resume(app)), in("limits", workcmd.EnqueueGrant(app)),
		in("work", workcmd.Job(app)), in("work", schedulecmd.Schedule(app)),
		versionCommand(app),
	)
	app.CompleteNames(root)
	return root
}

func in(group string, cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = group
	return cmd
}
