package catalogcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

const databaseInstallLong = `Install Headgate's schema in databases that are in the catalog already, as an
import has entered them, with the owner login of each, and try the job login. A
database that has the schema is left as it is, or brought up to this program's
version. Running the command again after a failure is safe.`

// installed is what became of one database.
type installed struct {
	Database string   `json:"database"`
	Applied  []string `json:"applied"` // migrations
	Error    string   `json:"error,omitempty"`
}

var installedColumns = []cli.Column[installed]{
	{Name: "database", Of: func(i installed) any { return i.Database }},
	{Name: "applied", Of: func(i installed) any { return len(i.Applied) }},
	{Name: "error", Of: func(i installed) any { return i.Error }},
}

func databaseInstall(app *cli.App) *cobra.Command {
	limit, all := time.Hour, false
	cmd := &cobra.Command{
		Use:   "install NAME...|--all",
		Short: "Install Headgate in databases that an import has entered",
		Long:  databaseInstallLong,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case all:
			return cli.Args()(cmd, args)
		case len(args) == 0:
			return cli.Usagef("NAME is missing: name the databases, or give --all")
		}
		return nil
	}
	cmd.RunE = cli.Within(&limit, "; the command may be run again: raise --timeout", func(ctx context.Context, names []string) error {
		ring, err := app.Keys()
		if err != nil {
			return err
		}
		return app.Open(ctx, ring, func(central cli.Central) error {
			for _, name := range names { // before the first is touched
				if _, err := cli.FindDatabase(ctx, central.Catalog, name); err != nil {
					return err
				}
			}
			if all {
				databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
				if err != nil {
					return err
				}
				for _, d := range databases {
					names = append(names, d.Name)
				}
			}
			return installMany(ctx, app, central, slices.Compact(names))
		})
	})
	cmd.Flags().BoolVar(&all, "all", false, "all databases of the catalog")
	cli.DurationVar(cmd.Flags(), &limit, "timeout", limit, "how long it may take")
	return cmd
}

// installMany goes on behind a database that fails.
func installMany(ctx context.Context, app *cli.App, central cli.Central, names []string) error {
	rows, failed := make([]installed, 0, len(names)), 0
	var first error
	for _, name := range names {
		row := installed{Database: name, Applied: []string{}}
		applied, err := installOne(ctx, app, central, name)
		row.Applied = append(row.Applied, applied...)
		if err != nil && ctx.Err() != nil { // what is installed is told before why the rest is not
			if listErr := cli.List(app, rows, "nothing is installed yet", installedColumns); listErr != nil {
				return listErr
			}
			return err
		}
		if err != nil {
			failed++
			row.Error = strings.Join(strings.Fields(err.Error()), " ")
			if first == nil {
				first = err
			}
		}
		rows = append(rows, row)
	}
	if err := cli.List(app, rows, "no databases yet: `headgate database create NAME --server SERVER --kind shared`", installedColumns); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %s failed, the first: %w", failed, jobs.Count(len(names), "database"), first)
	}
	return nil
}

func installOne(ctx context.Context, app *cli.App, central cli.Central, name string) ([]string, error) {
	place, err := central.Catalog.ResolveDatabase(ctx, name, jobs.LoginOwner)
	if err != nil {
		return nil, err
	}
	key, err := place.SigningKey(ctx)
	if err != nil {
		return nil, err
	}
	var centre string
	if err := pgx.BeginFunc(ctx, central.Pool, func(tx pgx.Tx) (err error) { centre, err = catalog.CentreMark(ctx, tx); return err }); err != nil {
		return nil, err
	}
	owner, _, err := loginOf(ctx, central, name, jobs.LoginOwner)
	if err != nil {
		return nil, err
	}
	defer cli.CloseConn(ctx, owner)
	applied, err := migrations.UpTenant(ctx, owner, migrations.Identity{DatabaseID: place.DatabaseID, SigningKey: key, Centre: centre}, nil)
	if err != nil {
		return applied, fmt.Errorf("installing in database %s: %w", name, err)
	}
	job, a, err := loginOf(ctx, central, name, jobs.LoginJob)
	if err != nil {
		return applied, err
	}
	defer cli.CloseConn(ctx, job)
	if err := tryJobLogin(ctx, app, job, catalog.DatabaseParams{ID: place.DatabaseID, Job: a}); err != nil {
		return applied, err
	}
	if err := central.Catalog.Hosting().Installed(ctx, place.DatabaseID); err != nil {
		return applied, err
	}
	return applied, central.Catalog.Hosting().ResetBreaker(ctx, name)
}

// loginOf connects with a login of the catalog, past a pooler where there is a way.
func loginOf(ctx context.Context, central cli.Central, name string, login jobs.Login) (*pgx.Conn, address.Address, error) {
	place, err := central.Catalog.ResolveDatabase(ctx, name, login)
	if err != nil {
		return nil, address.Address{}, err
	}
	server, err := cli.FindServer(ctx, central.Catalog, place.Server)
	if err != nil {
		return nil, address.Address{}, err
	}
	open, t := place.Open, target{server, catalog.NewAuthorities(central.Pool)}
	if place.OpenDirect != nil {
		open, t = place.OpenDirect, t.past()
	}
	a, err := open(ctx)
	if err != nil {
		return nil, a, err
	}
	conn, err := t.connect(ctx, "the "+login.String()+"'s", a)
	return conn, a, err
}
