package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

var closureColumns = []column[orchestrator.Closure]{
	{"name", func(c orchestrator.Closure) any { return c.Name }},
	{"kind", func(c orchestrator.Closure) any { return c.Kind }},
	{"tenant", func(c orchestrator.Closure) any { return c.Tenant }},
	{"server", func(c orchestrator.Closure) any { return c.Server }},
	{"spans", func(c orchestrator.Closure) any { return strings.Join(c.Spans, ", ") }},
	{"zone", func(c orchestrator.Closure) any { return c.Zone }},
	{"from", func(c orchestrator.Closure) any { return c.From }},
	{"until", func(c orchestrator.Closure) any { return c.Until }},
	{"note", func(c orchestrator.Closure) any { return c.Note }},
}

const closureLong = `Store a blackout, in which no schedule of a tenant, or of the tenants of a server,
starts; or with --maintenance a maintenance window, the only time in which their
schedules for maintenance do (schedule create --maintenance).`

func (p *program) scheduleClosure() *cobra.Command {
	var cl orchestrator.Closure
	var maintenance bool
	var from, until string
	set := &cobra.Command{
		Use: "set NAME --tenant TENANT | --server SERVER --span SPAN", Short: "Store a blackout or a maintenance window", Long: closureLong,
		Example: "  headgate schedule closure set black-friday --server eu-1 --span 08:00-20:00 --zone Europe/Paris --from 2026-11-27T00:00:00Z --until 2026-11-28T00:00:00Z\n" +
			"  headgate schedule closure set nights --tenant acme --maintenance --span 'MON-FRI 01:00-05:00'",
		Args: names("NAME"),
	}
	set.RunE = brief(func(ctx context.Context, args []string) error {
		begin, err := timeFlag("from", from)
		if err != nil {
			return err
		}
		end, err := timeFlag("until", until)
		if err != nil {
			return err
		}
		cl.Name, cl.Kind, cl.From, cl.Until = args[0], "blackout", pointer(begin), pointer(end)
		if maintenance {
			cl.Kind = "maintenance"
		}
		return p.open(ctx, nil, func(r rooms) error {
			if err := r.client.SetClosure(ctx, cl); err != nil {
				return badValue(err)
			}
			return one(p, cl, closureColumns)
		})
	})
	flags := set.Flags()
	flags.StringVar(&cl.Tenant, "tenant", "", "whose, by slug, UUID or org_id")
	flags.StringVar(&cl.Server, "server", "", "of all tenants on this server")
	flags.StringArrayVar(&cl.Spans, "span", nil, "a span of the day, as in 'SAT,SUN 00:00-24:00'; may be repeated")
	flags.StringVar(&cl.Zone, "zone", "", "the IANA time zone of the spans (default: each tenant's own)")
	flags.BoolVar(&maintenance, "maintenance", false, "a maintenance window instead of a blackout")
	flags.StringVar(&from, "from", "", "only from then on, RFC 3339")
	flags.StringVar(&until, "until", "", "only until then, RFC 3339")
	flags.StringVar(&cl.Note, "note", "", "why")
	show := &cobra.Command{
		Use: "list", Short: "List blackouts and maintenance windows", Args: names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				all, err := r.client.Closures(ctx)
				if err != nil {
					return err
				}
				return list(p, all, "no blackouts and no maintenance windows: headgate schedule closure set NAME", closureColumns)
			})
		}),
	}
	remove := &cobra.Command{
		Use: "delete NAME", Short: "Remove a blackout or a maintenance window", Args: names("NAME"),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				if err := r.client.DeleteClosure(ctx, args[0]); err != nil {
					return err
				}
				return one(p, orchestrator.Closure{Name: args[0], Spans: []string{}}, closureColumns)
			})
		}),
	}
	return group("closure", "Blackouts and maintenance windows of tenants and servers", set, show, remove)
}
