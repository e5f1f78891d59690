package catalogcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var featureColumns = []cli.Column[catalog.Feature]{
	{Name: "name", Of: func(f catalog.Feature) any { return f.Name }},
	{Name: "type", Of: func(f catalog.Feature) any { return string(f.Type) }},
	{Name: "default", Of: func(f catalog.Feature) any { return plain(f.Default) }},
	{Name: "plans", Of: func(f catalog.Feature) any { return f.Plans }},
	{Name: "tenants", Of: func(f catalog.Feature) any { return f.Tenants }},
	{Name: "needed_by", Of: func(f catalog.Feature) any { return neededBy(f) }},
	{Name: "note", Of: func(f catalog.Feature) any { return f.Note }},
}

func neededBy(f catalog.Feature) string {
	var all []string
	for _, kind := range f.Kinds {
		all = append(all, "kind "+kind)
	}
	for _, schedule := range f.Schedules {
		all = append(all, "schedule "+schedule)
	}
	return strings.Join(all, ", ")
}

// Feature is the verbs on features.
func Feature(app *cli.App) *cobra.Command {
	return cli.Group("feature", "Features that plans and tenants have values of", featureSet(app), featureList(app), featureRemove(app),
		featureGate(app, "require", "Let tenants use a kind or a schedule only where a feature is true", catalog.Features.RequireTx),
		featureGate(app, "release", "Let tenants use a kind or a schedule whatever the feature is", catalog.Features.ReleaseTx))
}

var featureTypes = []string{string(catalog.FeatureBoolean), string(catalog.FeatureNumber), string(catalog.FeatureString)}

func featureSet(app *cli.App) *cobra.Command {
	var kind, value, note string
	var c featureChange
	cmd := &cobra.Command{
		Use: "set NAME [--type TYPE] [--default VALUE]", Short: "Add a feature, or change its default", Args: cli.Args("NAME"),
		Example: "  headgate feature set beta --type boolean --default false\n  headgate feature set seats --type number --default 5",
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) error {
		change := catalog.FeatureChange{Type: catalog.FeatureType(kind)}
		if kind != "" {
			if err := cli.OneOf("--type", kind, featureTypes); err != nil {
				return err
			}
		}
		if cmd.Flags().Changed("default") {
			change.Default = &value
		}
		if cmd.Flags().Changed("note") {
			change.Note = &note
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			_, feature, tenants, err := c.run(ctx, app, central, args[0], func(tx pgx.Tx) error {
				_, err := central.Catalog.Features().SetTx(ctx, tx, args[0], change)
				return err
			})
			if err != nil {
				return err
			}
			defer c.said(app, tenants)
			return cli.One(app, feature, featureColumns)
		})
	})
	cmd.Flags().StringVar(&kind, "type", "", "what its values are: "+strings.Join(featureTypes, ", "))
	cmd.Flags().StringVar(&value, "default", "", `its value where neither tenant nor plan has one ("" of a boolean or a number: none)`)
	cmd.Flags().StringVar(&note, "note", "", "what people should know of it")
	cli.Complete(cmd, "type", featureTypes)
	c.flags(cmd)
	return cmd
}

func featureList(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the features, and what needs them", Args: cli.Args(),
		RunE: cli.Brief(func(ctx context.Context, _ []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				found, err := features(ctx, central)
				if err != nil {
					return err
				}
				return cli.List(app, found, "no features: `headgate feature set NAME --type boolean`", featureColumns)
			})
		}),
	}
}

func features(ctx context.Context, central cli.Central) ([]catalog.Feature, error) {
	return cli.All(func(page jobs.Page) ([]catalog.Feature, string, error) {
		return central.Catalog.Features().List(ctx, page)
	})
}

// nearFeature adds the nearest name to the error about a feature that is not known.
func nearFeature(ctx context.Context, central cli.Central, given map[string]*string, err error) error {
	if !errors.Is(err, catalog.ErrUnknownFeature) {
		return err
	}
	found, listErr := features(ctx, central)
	if listErr != nil {
		return err // the better of the two
	}
	var known []string
	names := map[string]bool{}
	for _, f := range found {
		known, names[f.Name] = append(known, f.Name), true
	}
	for name := range given {
		if near := cli.Nearest(name, known, ""); !names[name] && len(near) > 0 {
			return fmt.Errorf("%w%s", err, cli.DidYouMean(near...))
		}
	}
	return err
}

func featureRemove(app *cli.App) *cobra.Command {
	var c featureChange
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a feature out that nothing has a value of", Args: cli.Args("NAME"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				_, _, tenants, err := c.run(ctx, app, central, args[0], func(tx pgx.Tx) error {
					return central.Catalog.Features().RemoveTx(ctx, tx, args[0])
				})
				if err != nil {
					return nearFeature(ctx, central, map[string]*string{args[0]: nil}, err)
				}
				app.Say("removed: feature %s", args[0])
				c.said(app, tenants)
				return nil
			})
		}),
	}
	c.flags(cmd)
	return cmd
}

func featureGate(app *cli.App, verb, short string, do func(catalog.Features, context.Context, pgx.Tx, string, catalog.Gate) (catalog.Feature, error)) *cobra.Command {
	var gate catalog.Gate
	var c featureChange
	cmd := &cobra.Command{
		Use: verb + " NAME --kind KIND | --schedule NAME", Short: short, Args: cli.Args("NAME"),
		Example: "  headgate feature " + verb + " beta --kind app.forecast",
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				before, after, tenants, err := c.run(ctx, app, central, args[0], func(tx pgx.Tx) error {
					_, err := do(central.Catalog.Features(), ctx, tx, args[0], gate)
					return err
				})
				if err != nil {
					return nearFeature(ctx, central, map[string]*string{args[0]: nil}, err)
				}
				defer c.said(app, tenants)
				if sameGates(before, after) {
					app.Say("nothing changed: it was so already")
				}
				return cli.One(app, after, featureColumns)
			})
		}),
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&gate.Kind, "kind", "", "a kind of jobs")
	cmd.Flags().StringVar(&gate.Schedule, "schedule", "", "the name of a schedule, a tenant's own or a template's")
	return cmd
}
