// Package keycmd is the verbs on the key ring, which seals the addresses of tenant
// databases.
//
//	add ──▶ promote ──▶ rekey ──▶ retire
//
// The ring is a file or an environment variable. A file is edited here, whole or not at
// all, and running processes read it again. A variable belongs to whatever starts the
// processes: no command can change it, so its new value is printed on request.
package keycmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Key is the verbs on the key ring.
func Key(app *cli.App) *cobra.Command {
	return cli.Group("key", "The keys that seal the addresses of databases",
		keyList(app), keyAdd(app), keyPromote(app), keyRekey(app), keyRetire(app), keyVerify(app))
}

var useColumns = []cli.Column[catalog.KeyUse]{
	{Name: "key", Of: func(k catalog.KeyUse) any { return k.ID }},
	{Name: "ring", Of: func(k catalog.KeyUse) any {
		switch k.Ring {
		case 0:
			return "lacks it"
		case 1:
			return "first: it seals"
		}
		return "opens"
	}},
	{Name: "state", Of: func(k catalog.KeyUse) any { return k.State }},
	{Name: "seals", Of: func(k catalog.KeyUse) any { return k.Seals }},
	{Name: "retired_at", Of: func(k catalog.KeyUse) any { return k.RetiredAt }},
}

func keyList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "The keys, and how many values each seals",
		Long: `The keys of the ring in its order, and those that the ring lacks and the central
database knows. No key is shown, and none is needed.`,
		Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			ring, err := catalog.LoadKeyRing(app.Env)
			if err != nil && !errors.Is(err, catalog.ErrNoKey) {
				return &cli.UsageError{Err: err}
			}
			return app.Open(ctx, ring, func(central cli.Central) error {
				keys, err := catalog.NewKeys(central.Pool, ring).List(ctx)
				if err != nil {
					return err
				}
				return cli.List(app, keys, "there is no key: no ring is given, and nothing is sealed", useColumns)
			})
		}),
	}
}

const keyVerifyLong = `Open every sealed value with the ring, and name those that do not open. Nothing is
shown of what is in them. The exit code is 1 if any does not open.`

var verifiedColumns = []cli.Column[catalog.Verified]{
	{Name: "values", Of: func(v catalog.Verified) any { return v.Values }},
	{Name: "opened", Of: func(v catalog.Verified) any { return v.Opened }},
	{Name: "failed", Of: func(v catalog.Verified) any { return v.Failed }},
}

func keyVerify(app *cli.App) *cobra.Command {
	names, limit := 0, longCommand
	cmd := &cobra.Command{
		Use: "verify", Short: "Open every sealed value, and name those that do not open", Long: keyVerifyLong, Args: cli.Args(),
		RunE: cli.Within(&limit, "", func(ctx context.Context, _ []string) error {
			ring, err := app.Keys()
			if err != nil {
				return err
			}
			return app.Open(ctx, ring, func(central cli.Central) error {
				result, err := catalog.NewKeys(central.Pool, ring).Verify(ctx, names)
				if err != nil {
					return err
				}
				tellBad(app, result.Bad, result.Failed)
				if err := cli.One(app, result, verifiedColumns); err != nil {
					return err
				}
				if result.Failed > 0 {
					return fmt.Errorf("sealed values that do not open: %d of %d; add the key that sealed them to the ring, or store the addresses again with `headgate database login --key-lost`", result.Failed, result.Values)
				}
				return nil
			})
		}),
	}
	namesFlag(cmd, &names)
	return cmd
}

// tellBad names values; how many there are in all stands beside.
func tellBad(app *cli.App, bad []catalog.BadSeal, all int) {
	for _, b := range bad {
		app.Say("%s %s, %s: %s", b.Table, b.Name, b.Column, b.Error)
	}
	if more := all - len(bad); more > 0 && len(bad) > 0 {
		app.Say("and %d more; --names N names more of them", more)
	}
}

func namesFlag(cmd *cobra.Command, names *int) {
	cli.IntIn(cmd.Flags(), names, "names", 20, 0, 10_000, "how many of the values that fail are named at most, 0 to 10000")
}
