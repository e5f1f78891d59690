package catalogcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var pricingColumns = []cli.Column[catalog.Plan]{
	{Name: "name", Of: func(p catalog.Plan) any { return p.Name }},
	{Name: "tenants", Of: func(p catalog.Plan) any { return p.Tenants }},
	{Name: "features", Of: func(p catalog.Plan) any { return rawValues(p.Features) }},
	{Name: "kinds", Of: func(p catalog.Plan) any { return allowedKinds(p.Kinds) }},
	{Name: "max_running", Of: func(p catalog.Plan) any { return p.MaxRunning }},
	{Name: "weight", Of: func(p catalog.Plan) any { return p.Weight }},
	{Name: "rate", Of: func(p catalog.Plan) any { return p.Rate }},
	{Name: "note", Of: func(p catalog.Plan) any { return p.Note }, Aside: true},
}

func rawValues(values map[string]json.RawMessage) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		all = append(all, name+"="+plain(values[name]))
	}
	return strings.Join(all, ", ")
}

func allowedKinds(kinds []string) string {
	switch {
	case kinds == nil:
		return "all"
	case len(kinds) == 0:
		return "none"
	}
	return strings.Join(kinds, ", ")
}

// Plan is the verbs on plans.
func Plan(app *cli.App) *cobra.Command {
	return cli.Group("plan", "Pricing plans: what their tenants have by default", planSet(app), planShow(app), planList(app), planRemove(app))
}

const planSetLong = `Add a plan or change one: what its tenants have where they have no value of
their own. All of them follow at once, and more than 50 want their number (--confirm). A plan
that a tenant names first begins by itself, without defaults. "" is the plan of
tenants that have none.

Limits of a plan are set with ` + "`headgate limit set plan NAME`" + `.`

func planSet(app *cli.App) *cobra.Command {
	var note string
	var features, allowed []string
	var all bool
	var dry cli.DryRun
	var confirm cli.Confirmation
	cmd := &cobra.Command{
		Use: "set NAME [--feature NAME=VALUE]... [--kind KIND]...", Short: "Add a plan, or change what its tenants have by default", Long: planSetLong, Args: cli.Args("NAME"),
		Example: "  headgate plan set pro --feature beta=true --feature seats=40\n  headgate plan set free --kind app.report --feature seats-",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		var change catalog.PlanChange
		if cmd.Flags().Changed("note") {
			change.Note = &note
		}
		if len(features) > 0 {
			_, values, err := assignments(append([]string{args[0]}, features...), "a feature")
			if err != nil {
				return err
			}
			change.Features = values
		}
		switch {
		case all && len(allowed) > 0:
			return cli.Usagef("--kind and --all-kinds: give one of them")
		case all:
			change.Kinds = new([]string)
		case len(allowed) > 0:
			change.Kinds = &allowed
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if change.Kinds != nil {
				for _, kind := range *change.Kinds {
					kinds.NoteUnserved(ctx, app, central, kind)
				}
			}
			before, err := central.Catalog.Plans().Get(ctx, args[0])
			if err != nil && !errors.Is(err, catalog.ErrUnknownPlan) {
				return err
			}
			var plan catalog.Plan
			err = confirm.Do(ctx, app, func() error {
				return dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
					plan, err = central.Catalog.Plans().SetTx(ctx, tx, args[0], change)
					if err != nil || dry.On() || change.Features == nil && change.Kinds == nil { // a note changes no tenant
						return err
					}
					return confirm.Check("plan " + cli.Quote(args[0]) + " is that of")(plan.Tenants)
				})
			})
			if err != nil {
				return nearFeature(ctx, central, change.Features, err)
			}
			defer dry.Say(app, jobs.Count(plan.Tenants, "tenant"))
			sayDropped(app, before.Kinds, plan.Kinds)
			return cli.One(app, plan, pricingColumns)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&note, "note", "", "what people should know of it")
	flags.StringArrayVar(&features, "feature", nil, "a feature's value NAME=VALUE, or NAME- to take it out; may be repeated")
	flags.StringArrayVar(&allowed, "kind", nil, "a kind that its tenants may have jobs of, and of no other; may be repeated, and replaces the list")
	flags.BoolVar(&all, "all-kinds", false, "its tenants may have jobs of every kind")
	dry.Flag(cmd)
	confirm.Flags(cmd)
	return cmd
}

// sayDropped says which kinds a plan's tenants had and have no more.
func sayDropped(app *cli.App, before, after []string) {
	if after == nil {
		return
	}
	dropped := slices.DeleteFunc(slices.Clone(before), func(kind string) bool { return slices.Contains(after, kind) })
	if len(dropped) > 0 {
		app.Say("the list of kinds was replaced: %s %s not in it any more", shortList(dropped), map[bool]string{true: "is", false: "are"}[len(dropped) == 1])
	}
}

func planShow(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a plan", Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				plan, err := central.Catalog.Plans().Get(ctx, args[0])
				if err != nil {
					return nearPlan(ctx, central, args[0], err)
				}
				return cli.Upright(app, plan, pricingColumns)
			})
		}),
	}
}

func planList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the plans, and how many tenants each has", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				plans, err := plans(ctx, central)
				if err != nil {
					return err
				}
				return cli.List(app, plans, "no plans", pricingColumns)
			})
		}),
	}
}

func plans(ctx context.Context, central cli.Central) ([]catalog.Plan, error) {
	return cli.All(func(page jobs.Page) ([]catalog.Plan, string, error) { return central.Catalog.Plans().List(ctx, page) })
}

func nearPlan(ctx context.Context, central cli.Central, name string, err error) error {
	if !errors.Is(err, catalog.ErrUnknownPlan) {
		return err
	}
	found, listErr := plans(ctx, central)
	if listErr != nil {
		return err // the better of the two
	}
	var known []string
	for _, p := range found {
		known = append(known, p.Name)
	}
	return fmt.Errorf("%w%s", err, cli.DidYouMean(cli.Nearest(name, known, "")...))
}

// sayNewPlan tells that a plan is about to begin without defaults, because a slip of the pen
// would look the same.
func sayNewPlan(ctx context.Context, app *cli.App, central cli.Central, name string) error {
	found, err := plans(ctx, central)
	if err != nil {
		return err
	}
	var known []string
	for _, p := range found {
		if p.Name == name {
			return nil
		}
		known = append(known, p.Name)
	}
	sayPlanIsNew(app, name, cli.Nearest(name, known, "")...)
	return nil
}

func sayPlanIsNew(app *cli.App, name string, near ...string) {
	app.Say("plan %s is new, and has no defaults yet: `headgate plan set %s` gives it some%s", cli.Quote(name), jobs.ShellWord(name), cli.DidYouMean(near...))
}

func planRemove(app *cli.App) *cobra.Command {
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a plan out that no tenant is on", Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				err := dry.Do(ctx, central, func(tx pgx.Tx) error { return central.Catalog.Plans().RemoveTx(ctx, tx, args[0]) })
				if err != nil {
					return nearPlan(ctx, central, args[0], err)
				}
				app.Say("removed: plan %s", args[0])
				dry.Say(app, "")
				return nil
			})
		}),
	}
	dry.Flag(cmd)
	return cmd
}
