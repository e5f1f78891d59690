// Package catalogcmd has the verbs that say where tenants live.
//
//	server.go    server add, set, list; server_change.go, server_host.go, prepare.go
//	region.go    region add, list, remove
//	database.go  database add, list; install.go is what add does, step by step
//	database_change.go  database show, rename, detach, remove; database_set.go, database_reattach.go
//	create.go    database create and adopt, which package provision does; app_file.go
//	logins.go    where the addresses of a database's logins come from, and database login
//	protect.go   database protect
//	tenant.go    tenant add; tenant_list.go; tenant_domain.go and tenant_email.go
//	central.go   central adopt
//	target.go    a connection to a server with an address that the user gives
package catalogcmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Server is the verbs on servers.
func Server(app *cli.App) *cobra.Command {
	return cli.Group("server", "Postgres servers that hold tenant databases",
		serverAdd(app), serverShow(app), serverList(app), serverSet(app), serverRename(app), serverHost(app), serverDrain(app), serverResume(app), serverRemove(app), serverPrepare(app))
}

var serverColumns = []cli.Column[catalog.Server]{
	{Name: "name", Of: func(s catalog.Server) any { return s.Name }},
	{Name: "transport", Of: func(s catalog.Server) any { return string(s.Transport) }},
	{Name: "hosts", Of: func(s catalog.Server) any { return s.Hosts }},
	{Name: "pooler", Of: func(s catalog.Server) any { return string(s.Pooler) }},
	{Name: "state", Of: func(s catalog.Server) any { return s.State }},
	{Name: "budget", Of: func(s catalog.Server) any { return s.Budget }},
	{Name: "region", Of: func(s catalog.Server) any { return s.Region }},
	{Name: "created_at", Of: func(s catalog.Server) any { return s.CreatedAt }},
}

// serverView is the shape of `server list -o json`: the row, and the sum over the
// workers that live, as of their last claims and heartbeats.
type serverView struct {
	catalog.Server
	explain.ServerLoad
}

var serverLoadColumns = []cli.Column[serverView]{
	{Name: "name", Of: func(s serverView) any { return s.Name }},
	{Name: "transport", Of: func(s serverView) any { return string(s.Transport) }, Aside: true},
	{Name: "hosts", Of: func(s serverView) any { return s.Hosts }, Aside: true},
	{Name: "pooler", Of: func(s serverView) any { return string(s.Pooler) }, Aside: true},
	{Name: "state", Of: func(s serverView) any { return s.State }},
	{Name: "running", Of: func(s serverView) any { return s.Running }, Aside: true},
	{Name: "in_use", Of: func(s serverView) any { return s.InUse }},
	{Name: "budget", Of: func(s serverView) any { return s.Budget }},
	{Name: "workers", Of: func(s serverView) any { return s.Workers }},
	{Name: "open", Of: func(s serverView) any { return s.Open }, Aside: true},
	{Name: "waiting", Of: func(s serverView) any { return s.Waiting }},
	{Name: "breaker", Of: func(s serverView) any { return s.Breaker }},
	{Name: "broken_databases", Of: func(s serverView) any { return s.BrokenDatabases }},
	{Name: "created_at", Of: func(s serverView) any { return s.CreatedAt }, Aside: true},
}

func serverAdd(app *cli.App) *cobra.Command {
	var hosts []string
	var socket string
	var plain bool
	var budget int
	var pooler string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "add NAME --host HOST [--host HOST]... | --socket DIR | --plain-loopback",
		Short: "Enter a server, and which hosts its addresses may name",
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		params := catalog.ServerParams{Name: args[0], Hosts: hosts, Transport: address.TLS, Pooler: address.Pooler(pooler), Budget: budget}
		switch {
		case socket != "" && (plain || len(hosts) > 0):
			return cli.Usagef("--socket goes with neither --host nor --plain-loopback: a socket has no host")
		case strings.Contains(socket, ":"):
			return cli.Usagef("--socket: %s: give the directory alone; the port belongs in the addresses of its databases", cli.Quote(socket))
		case socket != "":
			params.Hosts, params.Transport = []string{socket}, address.Socket
		case plain && len(hosts) == 0:
			params.Hosts, params.Transport = []string{"localhost", "127.0.0.1", "::1"}, address.PlainLoopback
		case plain:
			params.Transport = address.PlainLoopback
		case len(hosts) == 0:
			return cli.Usagef("--host is missing: name the hosts that addresses on this server may have (or --socket DIR, or --plain-loopback)")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			var server catalog.Server
			err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				server, err = central.Catalog.AddServerTx(ctx, tx, params)
				return err
			})
			if err != nil {
				return err
			}
			defer dry.Say(app, "")
			dry.Next(app, "`headgate database create NAME --server %s --kind shared`", server.Name)
			return cli.One(app, server, serverColumns)
		})
	})
	budgetFlag(cmd, &budget)
	poolerFlag(cmd, &pooler)
	dry.Flag(cmd)
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "a host name or IP address of the server, reached over TLS")
	cmd.Flags().StringVar(&socket, "socket", "", "the directory of a Unix socket on this machine, instead of hosts")
	cmd.Flags().BoolVar(&plain, "plain-loopback", false, "TCP without TLS, to this machine only")
	return cmd
}

func budgetFlag(cmd *cobra.Command, budget *int) {
	cli.IntIn(cmd.Flags(), budget, "budget", 20, 1, 10_000, "running jobs and connections on the server, over all worker processes and databases: 1 to 10000; headgate pause server lets nothing start there")
}

func poolerFlag(cmd *cobra.Command, pooler *string) {
	cmd.Flags().StringVar(pooler, "pooler", string(address.NoPooler), "what stands before the server, by its pool_mode: "+strings.Join(cli.Poolers, ", "))
	cli.Complete(cmd, "pooler", cli.Poolers)
}

const serverSetLong = `Change a server. Its budget bounds the jobs that run on it together with the
connections that are kept to it, over all worker processes and databases; a change
counts for the next claim of each process. A process that runs on takes no more
than the whole budget for itself.`

func serverSet(app *cli.App) *cobra.Command {
	var budget int
	var pooler, region string
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "set NAME [--budget N] [--pooler MODE] [--region REGION]",
		Short: "Change a server's budget, its pooler or its region",
		Long:  serverSetLong,
		Args:  cli.Args("NAME"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		var change catalog.ServerChange
		if cmd.Flags().Changed("budget") {
			change.Budget = &budget
		}
		if cmd.Flags().Changed("pooler") {
			mode := address.Pooler(pooler)
			change.Pooler = &mode
		}
		if cmd.Flags().Changed("region") {
			change.Region = &region
		}
		if change == (catalog.ServerChange{}) {
			return cli.Usagef("nothing to change: give --budget, --pooler or --region")
		}
		return app.Open(ctx, nil, func(central cli.Central) error { return setServer(ctx, app, central, args[0], change, dry) })
	})
	budgetFlag(cmd, &budget)
	poolerFlag(cmd, &pooler)
	dry.Flag(cmd)
	cmd.Flags().StringVar(&region, "region", "", "the region that it stands in (\"\" for none)")
	return cmd
}

func setServer(ctx context.Context, app *cli.App, central cli.Central, name string, change catalog.ServerChange, dry cli.DryRun) error {
	concerned, err := onServer(ctx, central, name)
	if err != nil {
		return err
	}
	var server catalog.Server
	err = dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
		server, err = central.Catalog.SetServerTx(ctx, tx, name, change)
		return err
	})
	if errors.Is(err, catalog.ErrUnknownRegion) {
		return fmt.Errorf("%w; `headgate region list` shows them, `headgate region add` makes one", err)
	}
	if err != nil {
		return err
	}
	defer dry.Say(app, concerned)
	if change.Pooler != nil && *change.Pooler == address.TransactionPooler {
		dry.Next(app, "what needs a session (VACUUM, kinds outside a transaction) needs a direct address: `headgate database login NAME`")
	}
	return cli.One(app, server, serverColumns)
}

func serverList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the servers, and what the living workers have to do with them",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				servers, err := cli.All(func(page jobs.Page) ([]catalog.Server, string, error) { return central.Catalog.Servers(ctx, page) })
				if err != nil {
					return err
				}
				load, err := central.Explain.ServerLoads(ctx)
				if err != nil {
					return err
				}
				views := make([]serverView, len(servers))
				broken := false
				for i, s := range servers {
					views[i] = serverView{s, load[s.ID]}
					views[i].Breaker = cmp.Or(views[i].Breaker, "closed")
					broken = broken || views[i].BrokenDatabases > 0
				}
				if broken {
					app.Say("some databases do not answer, or refuse work: `headgate database list` names them")
				}
				return cli.List(app, views, "no servers yet: `headgate server add NAME --host HOST`", serverLoadColumns)
			})
		}),
	}
}
