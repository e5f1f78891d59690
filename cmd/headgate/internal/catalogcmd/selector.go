package catalogcmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

const selectorLong = `An expression selects tenants: for schedules (schedule create --select), for grants
(enqueue-grant add --select) and for lists (tenant list --select).

  plan in (pro, enterprise) and region = eu and not feature.beta

Attributes: tenant, plan, status, database, server, region, timezone, label.KEY,
feature.NAME. Operators: = != in (…) not in (…) < <= > >=, joined by and, or, not
and parentheses. A bare feature asks for true, a bare label or region for any
value. What a tenant does not have equals nothing; != and not are true of it.
Texts with other characters than letters, digits and _ . - / : + @ stand in
'single quotes'. The expression of all tenants is all.

A tenant that is archived or removed is selected by nothing that is stored.`

// Selector is the verbs on expressions that select tenants.
func Selector(app *cli.App) *cobra.Command {
	cmd := cli.Group("selector", "Expressions that select tenants", selectorTest(app))
	cmd.Long = selectorLong
	return cmd
}

// selectedView is the shape of `selector test -o json`.
type selectedView struct {
	Selector string       `json:"selector"` // in its one form
	Tenants  int          `json:"tenants"`  // that are selected
	First    []tenantView `json:"first"`    // at most 20
	Notes    []string     `json:"notes"`    // what is probably not meant
}

func selectorTest(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:     "test EXPRESSION",
		Short:   "Say how many tenants an expression selects, and show the first 20",
		Long:    selectorLong,
		Example: "  headgate selector test 'plan = pro and not feature.beta'",
		Args:    cli.Args("EXPRESSION"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			expression, err := cli.ReadSelector("EXPRESSION", args[0])
			if err != nil {
				return err
			}
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, err := central.Catalog.Selected(ctx, expression)
				if err != nil {
					return err
				}
				return showSelected(app, expression, found)
			})
		}),
	}
}

func showSelected(app *cli.App, expression selector.Selector, found catalog.Selected) error {
	view := selectedView{Selector: expression.String(), Tenants: found.Count, First: []tenantView{}, Notes: notes(found)}
	for _, t := range found.First {
		view.First = append(view.First, viewTenant(t))
	}
	switch app.Output {
	case "json":
		return app.JSON(view)
	case "jsonl":
		return cli.JSONLines(app, []selectedView{view})
	}
	for _, note := range view.Notes {
		app.Say("note: %s", note)
	}
	switch {
	case found.Count == 1:
		app.Say("%s selects 1 tenant", view.Selector)
	case found.Count > len(found.First):
		app.Say("%s selects %d tenants; the first %d are below", view.Selector, found.Count, len(found.First))
	case found.Count > 1:
		app.Say("%s selects %d tenants", view.Selector, found.Count)
	}
	return cli.List(app, view.First, view.Selector+" selects no tenant now", tenantColumns)
}

// notes are what of an expression is probably not meant.
func notes(found catalog.Selected) []string {
	said := []string{}
	for _, n := range found.Unknown {
		said = append(said, noteOn(n))
	}
	if found.Gone > 0 {
		said = append(said, fmt.Sprintf("archived or removed tenants that fit too: %d; schedules and grants do not select them", found.Gone))
	}
	return said
}

func noteOn(n catalog.UnknownName) string {
	name, near := n.Attribute, cli.DidYouMean(cli.Nearest(n.Value, n.Known, "")...)
	switch {
	case n.Attribute == "feature" && n.FeatureType == "":
		return fmt.Sprintf("there is no feature %s%s", n.Key, cli.DidYouMean(cli.Nearest(n.Key, n.Known, "")...))
	case n.Attribute == "feature" && n.Type == "":
		return fmt.Sprintf("feature %s is a %s: alone it asks for true, and is never true", n.Key, n.FeatureType)
	case n.Attribute == "feature":
		return fmt.Sprintf("feature %s is a %s, and %s is a %s: the two never compare", n.Key, n.FeatureType, cli.Quote(n.Value), n.Type)
	case n.Attribute == "label" && n.Type == "string":
		return fmt.Sprintf("no tenant has label %s with the value %s", n.Key, cli.Quote(n.Value))
	case n.Attribute == "label":
		return fmt.Sprintf("no tenant has label %s", n.Key)
	case n.Attribute == "tenant":
		return fmt.Sprintf("there is no tenant %s", cli.Quote(n.Value))
	}
	return fmt.Sprintf("no tenant has %s %s%s", name, cli.Quote(n.Value), near)
}
