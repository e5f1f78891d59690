package catalogcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Central is the verbs on the central database itself.
func Central(app *cli.App) *cobra.Command {
	return cli.Group("central", "The central database itself", centralPrepare(app), centralAdopt(app))
}

var adoptedColumns = []cli.Column[catalog.Adopted]{
	{Name: "databases", Of: func(a catalog.Adopted) any { return a.Databases }},
	{Name: "tenants", Of: func(a catalog.Adopted) any { return a.Tenants }},
	{Name: "centre", Of: func(a catalog.Adopted) any { return a.Centre }},
}

const centralAdoptLong = `Take tenant databases over from another central database: after this one was
restored from a dump, moved to another server or upgraded with pg_upgrade, or was
a copy that is now to do the work.

A tenant database bears the mark of the central database that works it. Jobs of
another one wait there, as wrong_centre, and use no attempt: two that work the
same tenants would fire each schedule twice. Stop "headgate serve" and the workers
of the other one first; it waits from then on.

The decision is kept until a worker meets each database, which may be at its next
job. It holds once: a database that changes hands again is not taken back.`

func centralAdopt(app *cli.App) *cobra.Command {
	var params catalog.AdoptParams
	var confirm cli.Confirmation
	cmd := &cobra.Command{
		Use:     "adopt --database NAME | --all",
		Short:   "Take over tenant databases of another central database",
		Long:    centralAdoptLong,
		Example: "  headgate central adopt --all --dry-run\n  headgate central adopt --database acme",
		Args:    cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			if (params.Database == "") != params.All {
				return cli.Usagef("which databases? give one of --database and --all")
			}
			what := "these databases hold"
			if params.All {
				what = "all databases hold"
			}
			check := confirm.Check(what)
			return app.Open(ctx, nil, func(central cli.Central) error {
				return confirm.Do(ctx, app, func() error {
					dry := params
					dry.DryRun = true
					adopted, err := central.Catalog.Adopt(ctx, dry)
					if err != nil {
						return err
					}
					if params.DryRun {
						cli.SayDryRun(app, "")
						return cli.One(app, adopted, adoptedColumns)
					}
					if err := check(adopted.Tenants); err != nil {
						return err
					}
					params.ExpectTenants = &adopted.Tenants
					if adopted, err = central.Catalog.Adopt(ctx, params); err != nil {
						return err
					}
					return cli.One(app, adopted, adoptedColumns)
				})
			})
		}),
	}
	cmd.Flags().StringVar(&params.Database, "database", "", "one database, by its name or UUID")
	cmd.Flags().BoolVar(&params.All, "all", false, "all databases of the catalog")
	cmd.Flags().BoolVar(&params.DryRun, "dry-run", false, "only say how many that would be")
	cmd.Flags().StringVar(&params.Actor, "actor", "", "who decides, for the record (default: $USER)")
	params.Actor = app.Actor()
	confirm.Flags(cmd)
	return cmd
}
