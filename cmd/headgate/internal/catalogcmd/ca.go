package catalogcmd

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// CA is the verbs on certificate authorities.
func CA(app *cli.App) *cobra.Command {
	return cli.Group("ca", "The authorities that sign the certificates of servers", caAdd(app), caList(app), caRemove(app))
}

var authorityColumns = []cli.Column[catalog.Authority]{
	{Name: "name", Of: func(a catalog.Authority) any { return a.Name }},
	{Name: "certificates", Of: func(a catalog.Authority) any { return len(a.Fingerprints) }},
	{Name: "not_after", Of: func(a catalog.Authority) any { return a.NotAfter }},
	{Name: "databases", Of: func(a catalog.Authority) any { return a.Databases }},
}

const caAddLong = `Keep the certificates of an authority in the catalog, from a file in PEM form (- reads
standard input). An address then names them by sslrootcert=NAME, and every worker
trusts them for that address, and nothing else. Without sslrootcert an address is
held to the roots of the worker's system.

The file may hold several certificates. Each must be an authority's and not expired.
A file with a private key in it is refused.

--replace puts them in the place of those of that name, for all addresses that name
them: give the old and the new one in one file before an authority is renewed.`

func caAdd(app *cli.App) *cobra.Command {
	params := catalog.AuthorityParams{Actor: app.Actor()}
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "add NAME FILE", Short: "Keep the certificates of an authority", Long: caAddLong, Args: cli.Args("NAME", "FILE"),
		Example: "  headgate ca add our-ca /etc/ssl/our-ca.pem",
		RunE: cli.Brief(func(ctx context.Context, args []string) (err error) {
			params.Name = args[0]
			if params.PEM, err = app.Read(ctx, "FILE", args[1], app.AskText); err != nil {
				return err
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				var added catalog.Authority
				err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					added, err = catalog.NewAuthorities(central.Pool).AddTx(ctx, tx, params)
					return err
				})
				if err != nil {
					return err
				}
				defer dry.Say(app, "")
				dry.Next(app, "name it in an address by sslrootcert=%s, with `headgate database add` or `headgate database login`", added.Name)
				return cli.One(app, added, authorityColumns)
			})
		}),
	}
	cmd.Flags().BoolVar(&params.Replace, "replace", false, "put them in the place of those of that name")
	cmd.Flags().StringVar(&params.Actor, "actor", params.Actor, "who decides, for the record (default: $USER)")
	dry.Flag(cmd)
	return cmd
}

func caList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the authorities, and how many databases name each", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				authorities := catalog.NewAuthorities(central.Pool)
				all, err := cli.All(func(page jobs.Page) ([]catalog.Authority, string, error) { return authorities.List(ctx, page) })
				if err != nil {
					return err
				}
				for _, a := range all {
					if left := time.Until(a.NotAfter); left <= 0 {
						app.Say("warning: a certificate of %s has expired", a.Name)
					}
				}
				return cli.List(app, all, "no authorities yet: `headgate ca add NAME FILE`", authorityColumns)
			})
		}),
	}
}

func caRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Forget an authority that no address names", Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return catalog.NewAuthorities(central.Pool).RemoveTx(ctx, tx, args[0]) })
				if err != nil {
					return err
				}
				app.Say("certificate authority %s is forgotten", args[0])
				defer dry.Say(app, "")
				return cli.One(app, removedView{args[0]}, removedColumns)
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}

// removedView is the shape of `ca remove -o json`.
type removedView struct {
	Name string `json:"name"`
}

var removedColumns = []cli.Column[removedView]{{Name: "name", Of: func(r removedView) any { return r.Name }}}
