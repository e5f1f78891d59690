package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
)

func serverHost(app *cli.App) *cobra.Command {
	return cli.Group("host", "The hosts that addresses on a server may name", serverHostAdd(app), serverHostRemove(app), serverHostReplace(app))
}

func serverHostAdd(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "add SERVER HOST",
		Short: "Let addresses on a server name one more host",
		Args:  cli.Args("SERVER", "HOST"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				concerned, err := onServer(ctx, central, args[0])
				if err != nil {
					return err
				}
				var server catalog.Server
				err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					server, err = central.Catalog.Hosting().AddHostTx(ctx, tx, args[0], args[1])
					return err
				})
				if err != nil {
					return err
				}
				defer dry.Say(app, concerned)
				return cli.One(app, server, serverColumns)
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

func serverHostRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "remove SERVER HOST",
		Short: "Let no address name a host of a server; needs the key",
		Args:  cli.Args("SERVER", "HOST"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			ring, err := app.Keys()
			if err != nil {
				return err
			}
			return app.Open(ctx, ring, func(central cli.Central) error {
				concerned, err := onServer(ctx, central, args[0])
				if err != nil {
					return err
				}
				var server catalog.Server
				err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					server, err = central.Catalog.Hosting().RemoveHostTx(ctx, tx, args[0], args[1])
					return err
				})
				if err != nil {
					return err
				}
				defer dry.Say(app, concerned)
				return cli.One(app, server, serverColumns)
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

var hostReplacedColumns = []cli.Column[catalog.HostReplaced]{
	{Name: "databases", Of: func(r catalog.HostReplaced) any { return r.Databases }},
	{Name: "tenants", Of: func(r catalog.HostReplaced) any { return r.Tenants }},
	{Name: "addresses", Of: func(r catalog.HostReplaced) any { return r.Addresses }},
}

const serverHostReplaceLong = `Put one host of a server in the place of another, in the server and in all
addresses of its databases that name the old one: the server has got another host
name. One database is tried by the new host first. The addresses are sealed anew
with HEADGATE_KEY in one transaction; workers use them with the next connection.`

func serverHostReplace(app *cli.App) *cobra.Command {
	var confirm cli.Confirmation
	var dry cli.DryRun
	var r catalog.HostReplacement
	cmd := &cobra.Command{
		Use:   "replace SERVER OLD NEW",
		Short: "Lead all addresses of a server from one host to another",
		Long:  serverHostReplaceLong,
		Args:  cli.Args("SERVER", "OLD", "NEW"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		r.Server, r.Old, r.New = args[0], args[1], args[2]
		ring, err := app.Keys()
		if err != nil {
			return err
		}
		return app.Open(ctx, ring, func(central cli.Central) error {
			return confirm.Do(ctx, app, func() error { return replaceHost(ctx, app, central, r, &dry, confirm.Check("server "+r.Server+" has")) })
		})
	})
	dry.Flag(cmd)
	confirm.Flags(cmd)
	return cmd
}

// replaceHost tries the new host and leads the addresses there. A dry run does the same, and
// undoes the change, so that whatever refuses the run refuses the dry run.
func replaceHost(ctx context.Context, app *cli.App, central cli.Central, r catalog.HostReplacement, dry *cli.DryRun, check func(tenants int) error) error {
	server, err := cli.FindServer(ctx, central.Catalog, r.Server)
	if err != nil {
		return err
	}
	hosting := central.Catalog.Hosting()
	plan := r
	plan.DryRun = true
	replaced, err := hosting.ReplaceHost(ctx, plan)
	if err != nil {
		return err
	}
	if !dry.On() {
		if err := check(replaced.Tenants); err != nil {
			return err
		}
	}
	if err := tryHost(ctx, app, central, server, r); err != nil {
		return err
	}
	r.ExpectTenants = &replaced.Tenants
	err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
		replaced, err = hosting.ReplaceHostTx(ctx, tx, r)
		return err
	})
	if err != nil {
		return err
	}
	replaced.DryRun = dry.On()
	app.Say("server %s: addresses that lead to %s now: %s of %s", server.Name, r.New, jobs.Thousands(replaced.Addresses), jobs.Count(replaced.Databases, "database"))
	defer dry.Say(app, jobs.Count(replaced.Tenants, "tenant"))
	return cli.One(app, replaced, hostReplacedColumns)
}

// mostTried is how many databases tryHost asks.
const mostTried = 5

// tryHost logs in at the new host with a job login that names the old one. Where the server
// refuses the login or has not the database, another database is asked: what is wrong with one
// database is not the host's fault. Attached ones are asked first. The error is of the first.
func tryHost(ctx context.Context, app *cli.App, central cli.Central, server catalog.Server, r catalog.HostReplacement) error {
	from, err := server.Transport.CheckHost(r.Old) // addresses have this notation
	if err != nil {
		return err
	}
	to, err := server.Transport.CheckHost(r.New)
	if err != nil {
		return err
	}
	server.Hosts = append(slices.Clone(server.Hosts), to)
	databases, err := cli.All(func(page jobs.Page) ([]catalog.Database, string, error) { return central.Catalog.Databases(ctx, page) })
	if err != nil {
		return err
	}
	databases = slices.DeleteFunc(databases, func(d catalog.Database) bool { return d.ServerID != server.ID || !d.Installed })
	slices.SortStableFunc(databases, func(a, b catalog.Database) int {
		return cmp.Compare(a.State, b.State) // attached, detached
	})
	var first error
	tried := 0
	for _, d := range databases {
		place, err := central.Catalog.Hosting().Place(ctx, d.ID, jobs.LoginJob)
		if err != nil {
			return err
		}
		a, err := place.Open(ctx)
		if err != nil {
			return err
		}
		if a.Host != from {
			continue
		}
		a.Host = to
		err = (target{server, catalog.NewAuthorities(central.Pool)}).try(ctx, jobs.LoginJob, a, d)
		if err == nil {
			app.Say("tried with database %s: it is the one that the catalog means", d.Name)
			return nil
		}
		first = cmp.Or(first, err)
		if tried++; tried == mostTried || !answered(err) {
			return first
		}
	}
	if first == nil {
		app.Say("nothing is tried: no job login of an installed database names host %s", from)
	}
	return first
}

// answered says that there is no connection because the server refuses it.
func answered(err error) bool {
	var failed *tenantdb.ConnectError
	var pgErr *pgconn.PgError
	return errors.As(err, &failed) && errors.As(err, &pgErr)
}
