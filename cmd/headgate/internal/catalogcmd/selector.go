package catalogcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

const selectorLong = `An expression selects tenants: for schedules (schedule create --select), for grants
(enqueue-grant add --select), for lists (tenant list --select), and for what is done
once with many tenants (tenant suspend --select, pause tenant --select).

  plan in (pro, enterprise) and region = eu and not feature.beta

Attributes: tenant, plan, status, database, server, region, timezone, label.KEY,
feature.NAME. Operators: = != in (…) not in (…) < <= > >=, joined by and, or, not
and parentheses. A bare feature asks for true, a bare label or region for any
value. What a tenant does not have equals nothing; != and not are true of it.
Texts with other characters than letters, digits and _ . - / : + @ stand in
'single quotes'. The expression of all tenants is all.

A tenant that is archived or removed is selected by lists only.`

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
	view := selectedView{Selector: expression.String(), Tenants: found.Count, First: []tenantView{}, Notes: cli.SelectorNotes(found)}
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
	case found.Count > len(found.First):
		app.Say("%s selects %s; the first %d are below", view.Selector, jobs.Count(found.Count, "tenant"), len(found.First))
	case found.Count > 0:
		app.Say("%s selects %s", view.Selector, jobs.Count(found.Count, "tenant"))
	}
	return cli.List(app, view.First, view.Selector+" selects no tenant now", tenantColumns)
}
