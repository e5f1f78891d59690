package catalogcmd

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// fieldChange is one field of a tenant that has changed, or would.
type fieldChange struct {
	Tenant string          `json:"tenant"` // slug, as it is afterwards
	Field  string          `json:"field"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

var changeColumns = []cli.Column[fieldChange]{
	{Name: "tenant", Of: func(c fieldChange) any { return c.Tenant }},
	{Name: "field", Of: func(c fieldChange) any { return c.Field }},
	{Name: "before", Of: func(c fieldChange) any { return plain(c.Before) }},
	{Name: "after", Of: func(c fieldChange) any { return plain(c.After) }},
}

// plain shows a JSON text as itself, and what is not there as a dash.
func plain(value json.RawMessage) string {
	var text string
	switch {
	case len(value) == 0 || string(value) == "null":
		return "-"
	case json.Unmarshal(value, &text) == nil:
		return text
	}
	return string(value)
}

// changesOf lists the fields in which tenants differ, labels and features one by one.
func changesOf(changed []catalog.Changed) (all []fieldChange, err error) {
	for _, ch := range changed {
		before, err := flat(viewTenant(ch.Before))
		if err != nil {
			return nil, err
		}
		after, err := flat(viewTenant(ch.After))
		if err != nil {
			return nil, err
		}
		names := slices.Sorted(maps.Keys(before))
		for name := range after {
			if _, known := before[name]; !known {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if name != "version" && name != "status_since" && string(before[name]) != string(after[name]) {
				all = append(all, fieldChange{ch.After.Slug, name, before[name], after[name]})
			}
		}
	}
	return all, nil
}

func flat(view tenantView) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(view)
	if err != nil {
		return nil, err
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	for _, name := range []string{"labels", "features"} {
		object := map[string]json.RawMessage{}
		if err := json.Unmarshal(fields[name], &object); err != nil {
			return nil, err
		}
		delete(fields, name)
		for key, value := range object {
			fields[name+"."+key] = value
		}
	}
	return fields, nil
}

const tenantSetLong = `Change what the catalog knows of tenants. What is not given stays. All of them
change, or none.

A change of plan counts at once: for limits, features and kinds that the tenant
has no value of its own for, and within seconds for templates whose selectors ask
for the plan.

--version refuses the change if somebody has changed the tenant since you looked
at it: ` + "`headgate tenant show`" + ` tells the version.

` + selectedNow

func tenantSet(app *cli.App) *cobra.Command {
	b := bulk{app: app}
	var name, plan, zone, key string
	var kinds []string
	var anyKind bool
	var version int
	cmd := &cobra.Command{
		Use: "set SLUG... | --select EXPR [--plan PLAN] [--timezone ZONE] [--name NAME]", Short: "Change what the catalog knows of tenants", Long: tenantSetLong, Args: b.args,
		Example: "  headgate tenant set acme brick --plan pro\n  headgate tenant set acme --timezone Europe/Paris --version 7\n  headgate tenant set -l 'region = eu and plan = free' --plan basic --dry-run",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		change := catalog.TenantChange{Version: version}
		for flag, field := range map[string]struct {
			of   **string
			text *string
		}{"name": {&change.Name, &name}, "plan": {&change.Plan, &plan}, "timezone": {&change.Timezone, &zone}, "org-key": {&change.OrgKey, &key}} {
			if cmd.Flags().Changed(flag) {
				*field.of = field.text
			}
		}
		switch {
		case anyKind && len(kinds) > 0:
			return cli.Usagef("--kind and --plan-kinds: give one of them")
		case anyKind:
			change.Kinds = new([]string)
		case len(kinds) > 0:
			change.Kinds = &kinds
		}
		if change.Name == nil && change.Plan == nil && change.Timezone == nil && change.OrgKey == nil && change.Kinds == nil {
			return cli.Usagef("what is to change? give --name, --plan, --timezone, --org-key, --kind or --plan-kinds")
		}
		return b.run(ctx, args, func(central cli.Central, to whom) ([]catalog.Changed, error) {
			if change.Plan != nil {
				if err := sayNewPlan(ctx, app, central, plan); err != nil {
					return nil, err
				}
			}
			return to.change(ctx, central, change)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "its name for people")
	flags.StringVar(&plan, "plan", "", `its pricing plan ("": none)`)
	flags.StringVar(&zone, "timezone", "", "its IANA time zone")
	flags.StringVar(&key, "org-key", "", `its value in organisation columns that are text or uuid ("": its org_id)`)
	flags.StringArrayVar(&kinds, "kind", nil, "a kind that it may have jobs of, and of no other; may be repeated")
	flags.BoolVar(&anyKind, "plan-kinds", false, "the kinds that its plan allows, and no list of its own")
	cli.IntIn(flags, &version, "version", 0, 1, 0, "refuse unless the tenant has this version")
	b.flags(cmd)
	return cmd
}

func tenantRename(app *cli.App) *cobra.Command {
	b := bulk{app: app}
	cmd := &cobra.Command{
		Use: "rename SLUG NEW", Short: "Give a tenant another slug; its UUID, org_id and jobs stay", Args: cli.Args("SLUG", "NEW"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return b.run(ctx, args[:1], func(central cli.Central, to whom) ([]catalog.Changed, error) {
				changed, err := central.Catalog.Editor().RenameTx(ctx, to.tx, args[0], args[1])
				return []catalog.Changed{changed}, err
			})
		}),
	}
	b.dry.Flag(cmd)
	return cmd
}

func tenantLabel(app *cli.App) *cobra.Command {
	b := bulk{app: app}
	cmd := &cobra.Command{
		Use: "label SLUG... | --select EXPR KEY=VALUE... KEY-...", Short: "Set labels of tenants, and take out those that end with -",
		Example: "  headgate tenant label acme brick tier=gold\n  headgate tenant label acme tier-\n  headgate tenant label -l 'plan = enterprise' tier=gold",
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			names, labels, err := b.assignments(args, "a label")
			if err != nil {
				return err
			}
			return b.run(ctx, names, func(central cli.Central, to whom) ([]catalog.Changed, error) {
				return to.change(ctx, central, catalog.TenantChange{Labels: labels})
			})
		}),
	}
	b.flags(cmd)
	return cmd
}

func tenantFeature(app *cli.App) *cobra.Command {
	b := bulk{app: app}
	cmd := &cobra.Command{
		Use: "feature SLUG... | --select EXPR NAME=VALUE... NAME-...", Short: "Give tenants values of features of their own, or take them out",
		Long:    "Give tenants values of features of their own, which go before their plan's.\n`headgate feature list` shows the features and their types. What is taken out\nwith NAME- is what the plan says, or the default.",
		Example: "  headgate tenant feature acme beta=true seats=40\n  headgate tenant feature acme beta-\n  headgate tenant feature -l 'plan = pro and region = eu' beta=true",
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			names, features, err := b.assignments(args, "a feature")
			if err != nil {
				return err
			}
			return b.run(ctx, names, func(central cli.Central, to whom) ([]catalog.Changed, error) {
				changed, err := to.change(ctx, central, catalog.TenantChange{Features: features})
				return changed, nearFeature(ctx, central, features, err)
			})
		}),
	}
	b.flags(cmd)
	return cmd
}

// assignments sorts arguments into names and KEY=VALUE or KEY-, which come last.
func assignments(args []string, what string) (names []string, values map[string]*string, err error) {
	values = map[string]*string{}
	for _, arg := range args {
		key, value, set := strings.Cut(arg, "=")
		gone, out := strings.CutSuffix(arg, "-")
		switch {
		case set:
		case out:
			key = gone
		case len(values) > 0:
			return nil, nil, cli.Usagef("%s is neither KEY=VALUE nor KEY-: the tenants come first", cli.Quote(arg))
		default:
			names = append(names, arg)
			continue
		}
		if _, twice := values[key]; twice {
			return nil, nil, cli.Usagef("%s is given twice: %s", cli.Quote(key), arg)
		}
		values[key] = nil
		if set {
			values[key] = &value
		}
	}
	if len(values) == 0 {
		return nil, nil, cli.Usagef("%s is missing: give KEY=VALUE, or KEY- to take it out", what)
	}
	return names, values, nil
}
