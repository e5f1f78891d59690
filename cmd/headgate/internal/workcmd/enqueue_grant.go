package workcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/schedule"
)

const enqueueGrantLong = `Who may enqueue what by the SQL function headgate.enqueue, which programs in any
language call. What no grant allows is refused.

A grant is for a role of the central database, and for every login that inherits the
role's rights. It names a kind, or the beginning of kinds and a star (mail.*), and the
tenants: one (--tenant), those of a selector (--select plan=pro), or all (--select all).
A star covers no built-in kind, unless headgate. stands before it, and no kind that
works as a database's owner.`

// EnqueueGrant is the verbs on who may enqueue by SQL.
func EnqueueGrant(app *cli.App) *cobra.Command {
	cmd := cli.Group("enqueue-grant", "Who may enqueue which kinds by the SQL function headgate.enqueue", enqueueGrantAdd(app), enqueueGrantList(app), enqueueGrantRemove(app))
	cmd.Long = enqueueGrantLong
	return cmd
}

// grantView is the shape of `enqueue-grant list -o json`.
type grantView struct {
	admission.EnqueueGrant
	Tenants string `json:"tenants"`
}

func viewGrant(g admission.EnqueueGrant) grantView {
	selector := make(schedule.Selector, len(g.Tenants))
	for i, t := range g.Tenants {
		selector[i] = schedule.Term(t)
	}
	return grantView{g, selector.String()}
}

var grantColumns = []cli.Column[grantView]{
	{Name: "role", Of: func(g grantView) any { return g.Role }},
	{Name: "kind", Of: func(g grantView) any { return g.Kind }},
	{Name: "tenants", Of: func(g grantView) any { return g.Tenants }},
	{Name: "by", Of: func(g grantView) any { return g.By }},
	{Name: "at", Of: func(g grantView) any { return g.At }},
}

// whose is the flags that say for which tenants a grant is.
type whose struct {
	tenant string
	terms  []string
}

func (w *whose) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.tenant, "tenant", "", "one tenant, by its slug")
	cmd.Flags().StringArrayVar(&w.terms, "select", nil, "the tenants that equal all of these: plan=pro, label.tier=gold; or all; may be repeated")
}

// read returns the terms; nil if no flag was given.
func (w *whose) read() ([]admission.Term, error) {
	terms := w.terms
	switch {
	case w.tenant != "" && len(terms) > 0:
		return nil, cli.Usagef("which tenants? give one of --tenant and --select")
	case w.tenant != "":
		terms = []string{"tenant=" + w.tenant}
	case len(terms) == 0:
		return nil, nil
	}
	selector, err := schedule.ParseSelector(terms)
	if err != nil {
		return nil, cli.BadValue(err)
	}
	list := make([]admission.Term, len(selector))
	for i, t := range selector {
		list[i] = admission.Term(t)
	}
	return list, nil
}

func enqueueGrantAdd(app *cli.App) *cobra.Command {
	var tenants whose
	cmd := &cobra.Command{
		Use:     "add ROLE KIND --tenant SLUG | --select TERM",
		Short:   "Let a role enqueue a kind, for these tenants",
		Long:    enqueueGrantLong,
		Example: "  headgate enqueue-grant add shop mail.welcome --select all\n  headgate enqueue-grant add shop 'mail.*' --tenant acme",
		Args:    cli.Args("ROLE", "KIND"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		terms, err := tenants.read()
		if err != nil {
			return err
		}
		if terms == nil {
			return cli.Usagef("for which tenants? give --tenant SLUG, --select TERM, or --select all")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if tenants.tenant != "" {
				found, err := central.Catalog.Tenant(ctx, tenants.tenant)
				if err != nil {
					return cli.Near(ctx, central.Admission, admission.OfTenant, tenants.tenant, err)
				}
				terms = []admission.Term{{Field: "tenant", Value: found.Slug}}
			}
			added, hint, err := central.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: args[0], Kind: args[1], Tenants: terms, By: app.Actor()})
			if err != nil {
				return cli.BadValue(err)
			}
			if hint != "" {
				app.Say("warning: %s", hint)
			}
			return cli.One(app, viewGrant(added), grantColumns)
		})
	})
	tenants.flags(cmd)
	return cmd
}

func enqueueGrantList(app *cli.App) *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use: "list [--role ROLE]", Short: "List who may enqueue what by SQL", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, err := cli.All(func(page jobs.Page) ([]admission.EnqueueGrant, string, error) {
					return central.Admission.EnqueueGrants(ctx, role, page)
				})
				if err != nil {
					return err
				}
				views := make([]grantView, len(found))
				for i, g := range found {
					views[i] = viewGrant(g)
				}
				return cli.List(app, views, "no role may enqueue by SQL: `headgate enqueue-grant add ROLE KIND`", grantColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&role, "role", "", "only this role's own")
	return cmd
}

func enqueueGrantRemove(app *cli.App) *cobra.Command {
	var tenants whose
	cmd := &cobra.Command{
		Use:   "remove ROLE KIND [--tenant SLUG | --select TERM]",
		Short: "Take a kind from a role: for these tenants, or all that the role has for the kind",
		Args:  cli.Args("ROLE", "KIND"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		terms, err := tenants.read()
		if err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			n, err := central.Admission.RemoveEnqueueGrant(ctx, args[0], args[1], terms)
			if errors.Is(err, admission.ErrNoEnqueueGrant) {
				return fmt.Errorf("%w; `headgate enqueue-grant list` shows what there is", err)
			}
			if err != nil {
				return cli.BadValue(err)
			}
			app.Say("%d taken away: it counts from the next call", n)
			return nil
		})
	})
	tenants.flags(cmd)
	return cmd
}
