package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator"
)

func (p *program) limitCommand() *cobra.Command {
	return group("limit", "How much of whose work may run at once, start in a period, and weigh", p.limitSet(), p.limitList(), p.limitClear())
}

var limitColumns = []column[orchestrator.Limit]{
	{"scope", func(l orchestrator.Limit) any { return string(l.Scope) }},
	{"name", func(l orchestrator.Limit) any { return l.Name }},
	{"max_running", func(l orchestrator.Limit) any { return orNothing(l.MaxRunning) }},
	{"per_tenant", func(l orchestrator.Limit) any { return orNothing(l.MaxPerTenant) }},
	{"weight", func(l orchestrator.Limit) any { return orNothing(l.Weight) }},
	{"rate", func(l orchestrator.Limit) any { return orNothing(l.Rate) }},
}

// orNothing is a value as text, "" for none.
func orNothing[T any](value *T) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(*value)
}

const limitSetLong = `Set limits; what is not given stays as it is. They hold over all worker
processes, count for the next claim of each (within milliseconds, or a second at
most) and for what waits already. What runs is left to end.

  tenant  --max-running, --weight, --rate; each comes before its plan's
  plan    the same, for all tenants on the plan that have no value of their own
  kind    --max-running over all tenants, --per-tenant for each
  queue   --max-running

A weight is a share: of what there is to do at one time, a tenant with weight 3
gets three times the worker-seconds of one with 1, which is what all have unless
it is set. A rate lets so many jobs start in a period, at once or spread. The
limit of a server is its budget: headgate server set NAME --budget N.`

func (p *program) limitSet() *cobra.Command {
	var running, each int
	var weight float64
	var rate string
	cmd := &cobra.Command{
		Use:     "set tenant|plan|kind|queue NAME [--max-running N] [--per-tenant N] [--weight W] [--rate N/PERIOD]",
		Short:   "Set limits of a tenant, plan, kind or queue",
		Long:    limitSetLong,
		Example: "  headgate limit set plan free --max-running 2 --rate 100/1h\n  headgate limit set tenant acme --weight 3\n  headgate limit set kind headgate.vacuum --max-running 5 --per-tenant 1",
		Args:    scopeArgs(orchestrator.LimitScopes), ValidArgsFunction: p.completeScope(orchestrator.LimitScopes),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) (err error) {
		limit := orchestrator.Limit{Scope: orchestrator.Scope(args[0]), Name: args[1]}
		given := cmd.Flags().Changed
		if given("max-running") {
			limit.MaxRunning = &running
		}
		if given("per-tenant") {
			limit.MaxPerTenant = &each
		}
		if given("weight") {
			limit.Weight = &weight
		}
		if given("rate") {
			parsed, err := orchestrator.ParseRate(rate)
			if err != nil {
				return err
			}
			limit.Rate = &parsed
		}
		return p.open(ctx, nil, func(r rooms) error {
			set, err := r.client.SetLimit(ctx, limit)
			if err != nil {
				return near(ctx, r.client, limit.Scope, limit.Name, err)
			}
			p.warnUnknown(ctx, r.client, set.Scope, set.Name)
			return one(p, set, limitColumns)
		})
	})
	flags := cmd.Flags()
	flags.IntVar(&running, "max-running", 0, "how many jobs may run at once, over all worker processes: 1 to 100000")
	flags.IntVar(&each, "per-tenant", 0, "how many jobs of the kind may run at once for one tenant: 1 to 100000")
	flags.Float64Var(&weight, "weight", 1, "the tenant's share beside others': 0.001 to 1000")
	flags.StringVar(&rate, "rate", "", "how many jobs may start in a period: NUMBER/PERIOD, as in 100/1h; 1 to 1000000 in 1s to 24h")
	return cmd
}

func (p *program) limitClear() *cobra.Command {
	var fields orchestrator.LimitFields
	cmd := &cobra.Command{
		Use:   "clear tenant|plan|kind|queue NAME [--max-running] [--per-tenant] [--weight] [--rate]",
		Short: "Take limits away: those named, or all of them",
		Args:  scopeArgs(orchestrator.LimitScopes), ValidArgsFunction: p.completeScope(orchestrator.LimitScopes),
		RunE: brief(func(ctx context.Context, args []string) error {
			return p.open(ctx, nil, func(r rooms) error {
				scope := orchestrator.Scope(args[0])
				left, err := r.client.ClearLimit(ctx, scope, args[1], fields)
				if err != nil {
					return near(ctx, r.client, scope, args[1], err)
				}
				return one(p, left, limitColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&fields.MaxRunning, "max-running", false, "only this one")
	flags.BoolVar(&fields.MaxPerTenant, "per-tenant", false, "only this one")
	flags.BoolVar(&fields.Weight, "weight", false, "only this one")
	flags.BoolVar(&fields.Rate, "rate", false, "only this one")
	return cmd
}

var tenantLimitColumns = []column[orchestrator.TenantLimit]{
	{"tenant", func(l orchestrator.TenantLimit) any { return l.Tenant }},
	{"limit", func(l orchestrator.TenantLimit) any { return l.Limit }},
	{"value", func(l orchestrator.TenantLimit) any {
		if l.Value == nil {
			return ""
		}
		return fmt.Sprint(l.Value)
	}},
	{"from", func(l orchestrator.TenantLimit) any { return l.From }},
}

func (p *program) limitList() *cobra.Command {
	var tenant, scope string
	words := strings.Split(scopeWords(orchestrator.LimitScopes, ","), ",")
	cmd := &cobra.Command{
		Use:   "list [--scope SCOPE | --tenant TENANT]",
		Short: "List what is set; with --tenant, what holds for one tenant and where it comes from",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			if tenant != "" && scope != "" {
				return usagef("--tenant and --scope do not go together")
			}
			if scope != "" {
				if err := oneOf("--scope", scope, words); err != nil {
					return err
				}
			}
			return p.open(ctx, nil, func(r rooms) error {
				if tenant != "" {
					found, err := r.client.TenantLimits(ctx, tenant)
					if err != nil {
						return near(ctx, r.client, orchestrator.OfTenant, tenant, err)
					}
					return list(p, found, "", tenantLimitColumns)
				}
				found, err := r.client.Limits(ctx, orchestrator.Scope(scope))
				if err != nil {
					return err
				}
				return list(p, found, "no limits are set: headgate limit set tenant|plan|kind|queue NAME", limitColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "what holds for this tenant, value by value")
	cmd.Flags().StringVar(&scope, "scope", "", "only those of: "+strings.Join(words, ", "))
	complete(cmd, "scope", words)
	return cmd
}
