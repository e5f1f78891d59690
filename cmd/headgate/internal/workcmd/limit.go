package workcmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Limit is the verbs on limits.
func Limit(app *cli.App) *cobra.Command {
	return cli.Group("limit", "How much of whose work may run at once, start in a period, weigh", limitSet(app), limitList(app), limitClear(app))
}

var limitColumns = []cli.Column[admission.Limit]{
	{Name: "scope", Of: func(l admission.Limit) any { return string(l.Subject) }},
	{Name: "name", Of: func(l admission.Limit) any { return l.Name }},
	{Name: "max_running", Of: func(l admission.Limit) any { return orNothing(l.MaxRunning) }},
	{Name: "per_tenant", Of: func(l admission.Limit) any { return orNothing(l.MaxPerTenant) }},
	{Name: "weight", Of: func(l admission.Limit) any { return orNothing(l.Weight) }},
	{Name: "rate", Of: func(l admission.Limit) any { return orNothing(l.Rate) }},
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
limit of a server is its budget: headgate server set NAME --budget N.

--select sets limits of each of the tenants that an expression selects now, all of
them or none. Tenants that come to be selected later get none: the standing rule is
the limit of a plan.`

func limitSet(app *cli.App) *cobra.Command {
	var running, each int
	var weight float64
	var rate string
	var many selected
	cmd := &cobra.Command{
		Use:     "set tenant|plan|kind|queue NAME | --select EXPR [--max-running N] [--per-tenant N] [--weight W] [--rate N/PERIOD]",
		Short:   "Set limits of a tenant, plan, kind or queue",
		Long:    limitSetLong,
		Example: "  headgate limit set plan free --max-running 2 --rate 100/1h\n  headgate limit set tenant acme --weight 3\n  headgate limit set kind headgate.vacuum --max-running 5 --per-tenant 1\n  headgate limit set tenant -l 'label.trial = true' --max-running 1 --dry-run",
		Args:    many.args(admission.LimitSubjects),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) (err error) {
		limit := admission.Limit{Subject: admission.Subject(args[0])}
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
			parsed, err := admission.ParseRate(rate)
			if err != nil {
				return err
			}
			limit.Rate = &parsed
		}
		if many.selecting.Given() {
			return onSelected(ctx, app, &many, limitColumns, "", "set limits of %s that %s selects now; tenants that come to be selected later get none: a plan's limit is the standing rule",
				func(central cli.Central, s selector.Selector, bulk *catalog.SelectedOpts) ([]admission.Limit, error) {
					return central.Admission.SetLimitSelected(ctx, s, limit, bulk)
				})
		}
		limit.Name = args[1]
		return app.Open(ctx, nil, func(central cli.Central) error {
			warning := unknownName(ctx, central.Admission, limit.Subject, limit.Name)
			var set admission.Limit
			err := many.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				set, err = central.Admission.SetLimitTx(ctx, tx, limit)
				return err
			})
			if err != nil {
				return cli.Near(ctx, central.Admission, limit.Subject, limit.Name, err)
			}
			warn(app, warning)
			defer many.dry.Say(app, "")
			return cli.One(app, set, limitColumns)
		})
	})
	flags := cmd.Flags()
	cli.IntIn(flags, &running, "max-running", 0, 1, 100_000, "how many jobs may run at once, over all worker processes: 1 to 100000")
	cli.IntIn(flags, &each, "per-tenant", 0, 1, 100_000, "how many jobs of the kind may run at once for one tenant: 1 to 100000")
	flags.Float64Var(&weight, "weight", 1, "the tenant's share beside others': 0.001 to 1000")
	flags.StringVar(&rate, "rate", "", "how many jobs may start in a period: NUMBER/PERIOD, as in 100/1h; 1 to 1000000 in 1s to 24h")
	many.flags(cmd)
	return cmd
}

const limitClearLong = `Take limits away: those named, or all of them. Of a tenant, its plan's count again.

--select takes the limits of the tenants that an expression selects now, all of them
or none. An archived tenant is selected by no expression; name it.`

func limitClear(app *cli.App) *cobra.Command {
	var fields admission.LimitFields
	var many selected
	cmd := &cobra.Command{
		Use:   "clear tenant|plan|kind|queue NAME | --select EXPR [--max-running] [--per-tenant] [--weight] [--rate]",
		Short: "Take limits away: those named, or all of them",
		Long:  limitClearLong,
		Args:  many.args(admission.LimitSubjects),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			if many.selecting.Given() {
				return onSelected(ctx, app, &many, limitColumns, "none of the selected tenants has such a limit of its own: `headgate limit list --scope tenant` shows them", "cleared limits of %s of those that %s selects now; this is left of their own",
					func(central cli.Central, s selector.Selector, bulk *catalog.SelectedOpts) ([]admission.Limit, error) {
						return central.Admission.ClearLimitSelected(ctx, s, fields, bulk)
					})
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				scope := admission.Subject(args[0])
				var left admission.Limit
				err := many.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					left, err = central.Admission.ClearLimitTx(ctx, tx, scope, args[1], fields)
					return err
				})
				if err != nil {
					return cli.Near(ctx, central.Admission, scope, args[1], err)
				}
				defer many.dry.Say(app, "")
				return cli.One(app, left, limitColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&fields.MaxRunning, "max-running", false, "only this one")
	flags.BoolVar(&fields.MaxPerTenant, "per-tenant", false, "only this one")
	flags.BoolVar(&fields.Weight, "weight", false, "only this one")
	flags.BoolVar(&fields.Rate, "rate", false, "only this one")
	many.flags(cmd)
	return cmd
}

var tenantLimitColumns = []cli.Column[admission.TenantLimit]{
	{Name: "tenant", Of: func(l admission.TenantLimit) any { return l.Tenant }},
	{Name: "limit", Of: func(l admission.TenantLimit) any { return l.Limit }},
	{Name: "value", Of: func(l admission.TenantLimit) any {
		if l.Value == nil {
			return ""
		}
		return fmt.Sprint(l.Value)
	}},
	{Name: "from", Of: func(l admission.TenantLimit) any { return l.From }},
}

func limitList(app *cli.App) *cobra.Command {
	var tenant, scope string
	var selecting cli.Selecting
	words := strings.Split(scopeWords(admission.LimitSubjects, ","), ",")
	cmd := &cobra.Command{
		Use:   "list [--scope SCOPE | --tenant TENANT | --select EXPR]",
		Short: "List what is set, or what holds for one tenant",
		Args:  cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) (err error) {
			var read selector.Selector
			none := "no limits are set: `headgate limit set tenant|plan|kind|queue NAME`"
			switch {
			case tenant != "" && scope != "":
				return cli.Usagef("--tenant and --scope do not go together")
			case selecting.Given() && (tenant != "" || scope != ""):
				return cli.Usagef("--select lists the own limits of tenants: leave --tenant and --scope out")
			case selecting.Given():
				if read, err = selecting.Read(); err != nil {
					return err
				}
				none = "no tenant that is like that has a limit of its own: `headgate limit list` shows all limits"
			}
			if scope != "" {
				if err := cli.OneOf("--scope", scope, words); err != nil {
					return err
				}
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				if tenant != "" {
					found, err := central.Admission.TenantLimits(ctx, tenant)
					if err != nil {
						return cli.Near(ctx, central.Admission, admission.OfTenant, tenant, err)
					}
					return cli.List(app, found, "", tenantLimitColumns)
				}
				found, err := cli.All(func(page jobs.Page) ([]admission.Limit, string, error) {
					if selecting.Given() {
						return central.Admission.LimitsSelected(ctx, read, page)
					}
					return central.Admission.Limits(ctx, admission.Subject(scope), page)
				})
				if err != nil {
					return err
				}
				return cli.List(app, found, none, limitColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "what holds for this tenant, value by value")
	cmd.Flags().StringVar(&scope, "scope", "", "only those of: "+strings.Join(words, ", "))
	selecting.Flag(cmd, "only the own limits of tenants that an expression selects, as in 'region = eu and plan = pro'")
	cli.Complete(cmd, "scope", words)
	return cmd
}
