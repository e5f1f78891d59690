package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func (p *program) serverCommand() *cobra.Command {
	return group("server", "Postgres servers that hold tenant databases", p.serverAdd(), p.serverSet(), p.serverList(), p.serverPrepare())
}

var serverColumns = []column[catalog.Server]{
	{"name", func(s catalog.Server) any { return s.Name }},
	{"transport", func(s catalog.Server) any { return string(s.Transport) }},
	{"hosts", func(s catalog.Server) any { return s.Hosts }},
	{"pooler", func(s catalog.Server) any { return string(s.Pooler) }},
	{"state", func(s catalog.Server) any { return s.State }},
	{"budget", func(s catalog.Server) any { return s.Budget }},
	{"created_at", func(s catalog.Server) any { return s.CreatedAt }},
}

// serverView is the shape of `server list -o json`: the row, and the sum over the
// workers that live, as of their last claims and heartbeats.
type serverView struct {
	catalog.Server
	orchestrator.ServerLoad
}

var serverLoadColumns = []column[serverView]{
	{"name", func(s serverView) any { return s.Name }},
	{"transport", func(s serverView) any { return string(s.Transport) }},
	{"hosts", func(s serverView) any { return s.Hosts }},
	{"pooler", func(s serverView) any { return string(s.Pooler) }},
	{"state", func(s serverView) any { return s.State }},
	{"running", func(s serverView) any { return s.Running }},
	{"in_use", func(s serverView) any { return s.InUse }},
	{"budget", func(s serverView) any { return s.Budget }},
	{"workers", func(s serverView) any { return s.Workers }},
	{"open", func(s serverView) any { return s.Open }},
	{"waiting", func(s serverView) any { return s.Waiting }},
	{"breaker", func(s serverView) any { return s.Breaker }},
	{"created_at", func(s serverView) any { return s.CreatedAt }},
}

func (p *program) serverAdd() *cobra.Command {
	var hosts []string
	var socket string
	var plain bool
	var budget int
	var pooler string
	cmd := &cobra.Command{
		Use:   "add NAME --host HOST [--host HOST]... | --socket DIR | --plain-loopback",
		Short: "Enter a server in the catalog, and which hosts its addresses may name",
		Args:  names("NAME"),
		RunE: brief(func(ctx context.Context, args []string) error {
			params := catalog.ServerParams{Name: args[0], Hosts: hosts, Transport: address.TLS, Pooler: address.Pooler(pooler), Budget: budget}
			switch {
			case socket != "" && (plain || len(hosts) > 0):
				return usagef("--socket goes with neither --host nor --plain-loopback: a socket has no host")
			case socket != "":
				params.Hosts, params.Transport = []string{socket}, address.Socket
			case plain && len(hosts) == 0:
				params.Hosts, params.Transport = []string{"localhost", "127.0.0.1", "::1"}, address.PlainLoopback
			case plain:
				params.Transport = address.PlainLoopback
			case len(hosts) == 0:
				return usagef("--host is missing: name the hosts that addresses on this server may have (or --socket DIR, or --plain-loopback)")
			}
			return p.open(ctx, nil, func(r rooms) error {
				server, err := r.catalog.AddServer(ctx, params)
				if err != nil {
					return err
				}
				p.say("next: headgate server prepare %s", server.Name)
				return one(p, server, serverColumns)
			})
		}),
	}
	budgetFlag(cmd, &budget)
	poolerFlag(cmd, &pooler)
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "a host name or IP address of the server, reached over TLS")
	cmd.Flags().StringVar(&socket, "socket", "", "the directory of a Unix socket on this machine, instead of hosts")
	cmd.Flags().BoolVar(&plain, "plain-loopback", false, "TCP without TLS, to this machine only")
	return cmd
}

func budgetFlag(cmd *cobra.Command, budget *int) {
	cmd.Flags().IntVar(budget, "budget", 20, "running jobs and connections on the server, over all worker processes and databases: 1 to 10000")
}

func poolerFlag(cmd *cobra.Command, pooler *string) {
	cmd.Flags().StringVar(pooler, "pooler", string(address.NoPooler), "what stands before the server, by its pool_mode: "+strings.Join(poolers, ", "))
	complete(cmd, "pooler", poolers)
}

const serverSetLong = `Change a server. Its budget bounds the jobs that run on it together with the
connections that are kept to it, over all worker processes and databases; a change
counts for the next claim of each process. A process that runs on takes no more
than the whole budget for itself.`

func (p *program) serverSet() *cobra.Command {
	var budget int
	var pooler string
	cmd := &cobra.Command{
		Use:   "set NAME [--budget N] [--pooler MODE]",
		Short: "Change how many jobs and connections a server bears, or what stands before it",
		Long:  serverSetLong,
		Args:  names("NAME"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) error {
		var change catalog.ServerChange
		if cmd.Flags().Changed("budget") {
			if change.Budget = budget; budget == 0 {
				change.Budget = -1 // refused with the bounds; 0 would mean that it stays
			}
		}
		if cmd.Flags().Changed("pooler") {
			change.Pooler = address.Pooler(pooler)
		}
		if change == (catalog.ServerChange{}) {
			return usagef("nothing to change: give --budget or --pooler")
		}
		return p.open(ctx, nil, func(r rooms) error { return p.setServer(ctx, r, args[0], change) })
	})
	budgetFlag(cmd, &budget)
	poolerFlag(cmd, &pooler)
	return cmd
}

func (p *program) setServer(ctx context.Context, r rooms, name string, change catalog.ServerChange) error {
	if _, err := findServer(ctx, r.catalog, name); err != nil {
		return err
	}
	server, err := r.catalog.SetServer(ctx, name, change)
	if err != nil {
		return err
	}
	if change.Pooler == address.TransactionPooler {
		p.say("next: what needs a session (VACUUM, kinds outside a transaction) needs a direct address: headgate database login NAME")
	}
	return one(p, server, serverColumns)
}

func (p *program) serverList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the servers, and what the living workers have to do with them",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				servers, err := r.catalog.Servers(ctx)
				if err != nil {
					return err
				}
				load, err := r.client.ServerLoads(ctx)
				if err != nil {
					return err
				}
				views := make([]serverView, len(servers))
				for i, s := range servers {
					views[i] = serverView{s, load[s.ID]}
					views[i].Breaker = cmp.Or(views[i].Breaker, "closed")
				}
				return list(p, views, "no servers yet: headgate server add NAME --host HOST", serverLoadColumns)
			})
		}),
	}
}

const prepareLong = `Make what is cluster-wide on a server, which no owner of a database may: the
role headgate_job, the group of all job logins. It is done once for a server, and
doing it again changes nothing.

Either an administrator runs what --dry-run prints, or Headgate does it with an
administrator's address, from HEADGATE_ADMIN_URL, HEADGATE_ADMIN_URL_FILE or
--admin-url-file. The address is used once and never stored.`

func (p *program) serverPrepare() *cobra.Command {
	var dryRun bool
	var file, certs string
	cmd := &cobra.Command{
		Use:   "prepare NAME [--dry-run]",
		Short: "Make the roles that a server needs once",
		Long:  prepareLong,
		Args:  names("NAME"),
		RunE: brief(func(ctx context.Context, args []string) error {
			if dryRun {
				return p.print("%s", migrations.ServerSQL)
			}
			admin, err := p.addressFrom(ctx, "--admin-url-file", file, "HEADGATE_ADMIN_URL")
			if err != nil {
				return err
			}
			return p.open(ctx, nil, func(r rooms) error {
				server, err := findServer(ctx, r.catalog, args[0])
				if err != nil {
					return err
				}
				return p.prepare(ctx, target{server, certs}, admin)
			})
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the SQL, connect to nothing")
	cmd.Flags().StringVar(&file, "admin-url-file", "", "the file with the administrator's address, - for standard input")
	rootCertsFlag(cmd, &certs)
	return cmd
}

func (p *program) prepare(ctx context.Context, t target, admin address.Address) error {
	conn, err := t.connect(ctx, "the administrator's", admin)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // nothing is left to lose
	if err := migrations.PrepareServer(ctx, conn); err != nil {
		return err
	}
	p.say("server %s is prepared: it has the role headgate_job", t.server.Name)
	p.say("next: make each job login with CREATE ROLE … LOGIN PASSWORD … IN ROLE headgate_job, then headgate database add")
	return nil
}

func rootCertsFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "root-certs", "", "the directory of the certificates that addresses name as sslrootcert (NAME.crt)")
}

func findServer(ctx context.Context, c *catalog.Catalog, name string) (catalog.Server, error) {
	servers, err := c.Servers(ctx)
	if err != nil {
		return catalog.Server{}, err
	}
	var known []string
	for _, s := range servers {
		if s.Name == name {
			return s, nil
		}
		known = append(known, s.Name)
	}
	return catalog.Server{}, fmt.Errorf("%w %s%s; `headgate server list` shows them, `headgate server add` makes one",
		catalog.ErrUnknownServer, quote(name), didYouMean(nearest(name, known, "")...))
}

// target is a server to connect to, outside the pools of a worker.
type target struct {
	server    catalog.Server
	rootCerts string
}

func (t target) pooler() address.Pooler { return t.server.Pooler }

func (t target) config() tenantdb.Config { return tenantdb.Config{RootCerts: t.rootCerts} }

// past is the same server without its pooler.
func (t target) past() target {
	t.server.Pooler = address.NoPooler
	return t
}

// check holds an address to the server's hosts and transport.
func (t target) check(whose string, a address.Address) error {
	if err := a.Check(t.server.Transport, t.server.Hosts); err != nil {
		return usagef("%s address does not fit server %s: %w", whose, cmp.Or(t.server.Name, "?"), err)
	}
	return nil
}
