package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var concernedColumns = []cli.Column[catalog.Concerned]{
	{Name: "databases", Of: func(c catalog.Concerned) any { return c.Databases }},
	{Name: "tenants", Of: func(c catalog.Concerned) any { return c.Tenants }},
}

// serverOf is what is shown of one server.
type serverOf struct {
	catalog.Server
	Databases int `json:"databases"`
	Tenants   int `json:"tenants"`
}

func serverOfColumns() []cli.Column[serverOf] {
	columns := make([]cli.Column[serverOf], 0, len(serverColumns)+5)
	for _, c := range serverColumns {
		columns = append(columns, cli.Column[serverOf]{Name: c.Name, Of: func(s serverOf) any { return c.Of(s.Server) }})
	}
	return append(columns,
		cli.Column[serverOf]{Name: "databases", Of: func(s serverOf) any { return s.Databases }},
		cli.Column[serverOf]{Name: "tenants", Of: func(s serverOf) any { return s.Tenants }},
		cli.Column[serverOf]{Name: "state_reason", Of: func(s serverOf) any { return s.StateReason }},
		cli.Column[serverOf]{Name: "state_by", Of: func(s serverOf) any { return s.StateBy }},
		cli.Column[serverOf]{Name: "state_since", Of: func(s serverOf) any { return s.StateSince }})
}

// onServer says how many tenants a change of a server concerns, in how many databases.
func onServer(ctx context.Context, central cli.Central, name string) (string, error) {
	server, err := cli.FindServer(ctx, central.Catalog, name)
	if err != nil {
		return "", err
	}
	n, err := central.Catalog.Hosting().Concerned(ctx, server.Name)
	return concernedText(n), err
}

func concernedText(n catalog.Concerned) string {
	return jobs.Count(n.Tenants, "tenant") + " in " + jobs.Count(n.Databases, "database")
}

func serverShow(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show one server, with how many databases and tenants lie on it",
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				server, err := cli.FindServer(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				n, err := central.Catalog.Hosting().Concerned(ctx, server.Name)
				if err != nil {
					return err
				}
				return cli.Upright(app, serverOf{server, n.Databases, n.Tenants}, serverOfColumns())
			})
		}),
	}
}

func serverRename(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "rename NAME TO",
		Short: "Give a server another name in the catalog",
		Args:  cli.Args("NAME", "TO"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				concerned, err := onServer(ctx, central, args[0])
				if err != nil {
					return err
				}
				var server catalog.Server
				err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					server, err = central.Catalog.Hosting().RenameServerTx(ctx, tx, args[0], args[1])
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

const serverDrainLong = `Let no further job start on a server: the jobs of its tenants wait and use no
attempt, and those that run go on to their end. "headgate server resume" opens it.

Unlike "headgate pause server", which a person ends at will, this is the server's
own state: no tenant is placed on it by itself either.`

// stateChange is `server drain` or `server resume`.
type stateChange struct {
	use, short, long, said string
	do                     func(h *catalog.Hosting) func(ctx context.Context, server string, why catalog.Decision) (catalog.Server, error)
	confirms               bool
}

func serverDrain(app *cli.App) *cobra.Command {
	return stateChange{
		use: "drain NAME [--reason TEXT]", short: "Let no further job start on a server; running ones go on", long: serverDrainLong,
		said: "wait; `headgate server resume %s` opens it", confirms: true,
		do: func(h *catalog.Hosting) func(context.Context, string, catalog.Decision) (catalog.Server, error) {
			return h.Drain
		},
	}.command(app)
}

func serverResume(app *cli.App) *cobra.Command {
	return stateChange{
		use: "resume NAME", short: "Let jobs start again on a server that was drained", said: "start again on server %s",
		do: func(h *catalog.Hosting) func(context.Context, string, catalog.Decision) (catalog.Server, error) {
			return h.Resume
		},
	}.command(app)
}

func (c stateChange) command(app *cli.App) *cobra.Command {
	var confirm cli.Confirmation
	var why catalog.Decision
	var dry bool
	cmd := &cobra.Command{Use: c.use, Short: c.short, Long: c.long, Args: cli.Args("NAME")}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		why.Actor = app.Actor()
		return app.Open(ctx, nil, func(central cli.Central) error {
			return confirm.Do(ctx, app, func() error {
				server, err := cli.FindServer(ctx, central.Catalog, args[0])
				if err != nil {
					return err
				}
				n, err := central.Catalog.Hosting().Concerned(ctx, server.Name)
				if err != nil {
					return err
				}
				if dry {
					n.DryRun = true
					cli.SayDryRun(app, "")
					return cli.One(app, n, concernedColumns)
				}
				if c.confirms {
					if err := confirm.Check("server " + server.Name + " has")(n.Tenants); err != nil {
						return err
					}
				}
				if server, err = c.do(central.Catalog.Hosting())(ctx, server.Name, why); err != nil {
					return err
				}
				app.Say("the jobs of %s in %s "+c.said, jobs.Count(n.Tenants, "tenant"), jobs.Count(n.Databases, "database"), server.Name)
				return cli.One(app, server, serverColumns)
			})
		})
	})
	cmd.Flags().StringVar(&why.Reason, "reason", "", "why, for who asks later")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say how many databases and tenants that concerns")
	if c.confirms {
		confirm.Flags(cmd)
	}
	return cmd
}

func serverRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a server out of the catalog that nothing refers to",
		Args:  cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				if _, err := cli.FindServer(ctx, central.Catalog, args[0]); err != nil {
					return err
				}
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Hosting().RemoveServerTx(ctx, tx, args[0]) })
				if err != nil {
					return err
				}
				app.Say("server %s is out of the catalog; nothing was changed on the server itself", args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}
