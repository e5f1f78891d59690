package catalogcmd

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

// bulk is a change of the tenants that a command names, or that an expression selects.
type bulk struct {
	app       *cli.App
	dry       cli.DryRun
	confirm   cli.Confirmation
	selecting cli.Selecting

	// after says more of what was changed, or in a dry run would be; nil says nothing more.
	after func(ctx context.Context, app *cli.App, central cli.Central, dry bool, changed []catalog.Changed) error
}

// selectedNow is what the help of each bulk says of --select.
const selectedNow = `--select changes the tenants that an expression selects now, in one transaction:
all of them, or none. Tenants that come to be selected later stay as they are. An
archived tenant is selected by no expression; name it. ` + "`headgate selector --help`" + `
has the grammar.`

func (b *bulk) flags(cmd *cobra.Command) {
	b.dry.Flag(cmd)
	b.confirm.Flags(cmd)
	b.selecting.Flag(cmd, "instead of SLUG: the tenants that an expression selects now, as in 'plan = free and region = eu'")
}

// args takes one tenant or more, or --select and none.
func (b *bulk) args(cmd *cobra.Command, args []string) error {
	switch {
	case b.selecting.Given() && len(args) > 0:
		return namedAndSelected(args)
	case !b.selecting.Given() && len(args) == 0:
		return cli.Usagef("SLUG is missing: %s SLUG..., or --select EXPR", cmd.CommandPath())
	}
	return nil
}

// assignments are the arguments of a verb whose tenants come before KEY=VALUE.
func (b *bulk) assignments(args []string, what string) (names []string, values map[string]*string, err error) {
	if names, values, err = assignments(args, what); err != nil {
		return nil, nil, err
	}
	switch {
	case b.selecting.Given() && len(names) > 0:
		return nil, nil, namedAndSelected(names)
	case !b.selecting.Given() && len(names) == 0:
		return nil, nil, cli.Usagef("which tenant? give its SLUG before the first KEY=VALUE, or --select EXPR")
	}
	return names, values, nil
}

func namedAndSelected(names []string) error {
	return cli.Usagef("%s and --select: name the tenants, or select them", shortList(names))
}

// whom are the tenants of a bulk: those that are named, in a transaction of the command, or
// those of a selector, with opts.
type whom struct {
	names []string
	tx    pgx.Tx

	selector *selector.Selector
	opts     *catalog.SelectedOpts
}

func (w whom) change(ctx context.Context, central cli.Central, change catalog.TenantChange) ([]catalog.Changed, error) {
	if w.selector != nil {
		return central.Catalog.Editor().ChangeSelected(ctx, *w.selector, change, w.opts)
	}
	return central.Catalog.Editor().ChangeTx(ctx, w.tx, w.names, change)
}

func (w whom) setStatus(ctx context.Context, central cli.Central, change catalog.StatusChange) ([]catalog.Changed, error) {
	if w.selector != nil {
		return central.Catalog.Editor().SetStatusSelected(ctx, *w.selector, change, w.opts)
	}
	return central.Catalog.Editor().SetStatusTx(ctx, w.tx, w.names, change)
}

// run does the change in one transaction, undoes it in a dry run, and shows what changed.
func (b *bulk) run(ctx context.Context, names []string, do func(central cli.Central, who whom) ([]catalog.Changed, error)) error {
	if b.selecting.Given() {
		return b.runSelected(ctx, do)
	}
	if err := b.confirm.Check("this changes")(len(names)); err != nil {
		return &cli.UsageError{Err: err}
	}
	return b.app.Open(ctx, nil, func(central cli.Central) error {
		var changed []catalog.Changed
		err := b.dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
			changed, err = do(central, whom{names: names, tx: tx})
			return err
		})
		if err != nil {
			return nearTenant(ctx, central, names, err)
		}
		return b.show(ctx, central, changed)
	})
}

func (b *bulk) runSelected(ctx context.Context, do func(central cli.Central, who whom) ([]catalog.Changed, error)) error {
	read, err := b.selecting.Read()
	if err != nil {
		return err
	}
	return b.app.Open(ctx, nil, func(central cli.Central) error {
		var changed []catalog.Changed
		who := whom{selector: &read, opts: &catalog.SelectedOpts{DryRun: b.dry.On(), Confirm: b.confirm.CheckNames(read.String() + " selects")}}
		err := b.confirm.Do(ctx, b.app, func() (err error) {
			changed, err = do(central, who)
			return err
		})
		switch {
		case err != nil:
			return err
		case len(changed) == 0:
			return cli.SelectsNobody(ctx, b.app, central, read, "", changeColumns)
		}
		b.app.Say("%s selects %s now", read, jobs.Count(len(changed), "tenant"))
		return b.show(ctx, central, changed)
	})
}

func (b *bulk) show(ctx context.Context, central cli.Central, changed []catalog.Changed) error {
	changes, err := changesOf(changed)
	if err != nil {
		return err
	}
	defer b.dry.Say(b.app, jobs.Count(len(changed), "tenant"))
	if b.after != nil {
		if err := b.after(ctx, b.app, central, b.dry.On(), changed); err != nil {
			return err
		}
	}
	return cli.List(b.app, changes, "nothing changed: it was so already", changeColumns)
}

// nearTenant adds the nearest name to the error about one that is not known.
func nearTenant(ctx context.Context, central cli.Central, names []string, err error) error {
	if len(names) != 1 {
		return err
	}
	return cli.NearOwner(ctx, central, names[0], "", err)
}

// someTenants takes one tenant or more.
func someTenants(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cli.Usagef("SLUG is missing: %s SLUG...", cmd.CommandPath())
	}
	return nil
}
