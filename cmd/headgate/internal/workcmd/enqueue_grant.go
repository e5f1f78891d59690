package workcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/selector"
)

const enqueueGrantLong = `Who may enqueue what by the SQL function headgate.enqueue, which programs in any
language call. What no grant allows is refused.

A grant is for a role of the central database, and for every login that inherits the
role's rights. It names a kind, or the beginning of kinds and a star (mail.*), and the
tenants: one (--tenant), those of a selector (--select 'plan = pro'), or all
(--select all).
A star covers no built-in kind, unless headgate. stands before it, and no kind that
works as a database's owner.`

// EnqueueGrant is the verbs on who may enqueue by SQL.
func EnqueueGrant(app *cli.App) *cobra.Command {
	cmd := cli.Group("enqueue-grant", "Who may enqueue which kinds by the SQL function headgate.enqueue", enqueueGrantAdd(app), enqueueGrantList(app), enqueueGrantRemove(app))
	cmd.Long = enqueueGrantLong
	return cmd
}

var grantColumns = []cli.Column[admission.EnqueueGrant]{
	{Name: "role", Of: func(g admission.EnqueueGrant) any { return g.Role }},
	{Name: "kind", Of: func(g admission.EnqueueGrant) any { return g.Kind }},
	{Name: "tenants", Of: func(g admission.EnqueueGrant) any { return g.Tenants.String() }},
	{Name: "by", Of: func(g admission.EnqueueGrant) any { return g.By }},
	{Name: "at", Of: func(g admission.EnqueueGrant) any { return g.At }},
}

// whose is the flags that say for which tenants a grant is.
type whose struct {
	tenant    string
	selecting cli.Selecting
}

func (w *whose) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.tenant, "tenant", "", "one tenant, by its slug")
	w.selecting.Flag(cmd, "the tenants that an expression selects, as in 'plan = pro and label.tier = gold'; or all")
}

// read returns the selector; nil if no flag was given.
func (w *whose) read() (*selector.Selector, error) {
	switch {
	case w.tenant != "" && w.selecting.Given():
		return nil, cli.Usagef("which tenants? give one of --tenant and --select")
	case w.tenant != "":
		of := selector.OfTenant(w.tenant)
		return &of, nil
	case !w.selecting.Given():
		return nil, nil
	}
	read, err := w.selecting.Read()
	return &read, err
}

func enqueueGrantAdd(app *cli.App) *cobra.Command {
	var tenants whose
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:     "add ROLE KIND --tenant SLUG | --select EXPRESSION",
		Short:   "Let a role enqueue a kind, for these tenants",
		Long:    enqueueGrantLong,
		Example: "  headgate enqueue-grant add shop mail.welcome --select all\n  headgate enqueue-grant add shop 'mail.*' --tenant acme",
		Args:    cli.Args("ROLE", "KIND"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		of, err := tenants.read()
		if err != nil {
			return err
		}
		if of == nil {
			return cli.Usagef("for which tenants? give --tenant SLUG, --select EXPRESSION, or --select all")
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if tenants.tenant != "" {
				found, err := central.Catalog.Tenant(ctx, tenants.tenant)
				if err != nil {
					return cli.Near(ctx, central.Admission, admission.OfTenant, tenants.tenant, err)
				}
				*of = selector.OfTenant(found.Slug)
			}
			var added admission.EnqueueGrant
			var hint string
			err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				added, hint, err = central.Admission.AddEnqueueGrantTx(ctx, tx, admission.EnqueueGrant{Role: args[0], Kind: args[1], Tenants: *of, By: app.Actor()})
				return err
			})
			if err != nil {
				return cli.BadValue(err)
			}
			if hint != "" {
				app.Say("warning: %s", hint)
			}
			defer dry.Say(app, "")
			return cli.One(app, added, grantColumns)
		})
	})
	tenants.flags(cmd)
	dry.Flag(cmd)
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
				return cli.List(app, found, "no role may enqueue by SQL: `headgate enqueue-grant add ROLE KIND`", grantColumns)
			})
		}),
	}
	cmd.Flags().StringVar(&role, "role", "", "only this role's own")
	return cmd
}

func enqueueGrantRemove(app *cli.App) *cobra.Command {
	var tenants whose
	var dry cli.DryRun
	cmd := &cobra.Command{
		Use:   "remove ROLE KIND [--tenant SLUG | --select EXPRESSION]",
		Short: "Take a kind from a role",
		Args:  cli.Args("ROLE", "KIND"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		of, err := tenants.read()
		if err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			var n int
			err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				n, err = central.Admission.RemoveEnqueueGrantTx(ctx, tx, args[0], args[1], of)
				return err
			})
			if errors.Is(err, admission.ErrNoEnqueueGrant) {
				return fmt.Errorf("%w; `headgate enqueue-grant list` shows what there is", err)
			}
			if err != nil {
				return cli.BadValue(err)
			}
			app.Say("%d taken away: it counts from the next call", n)
			dry.Say(app, "")
			return nil
		})
	})
	tenants.flags(cmd)
	dry.Flag(cmd)
	return cmd
}
