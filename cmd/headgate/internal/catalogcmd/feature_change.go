package catalogcmd

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// featureChange is a verb that changes one feature, and with the feature what tenants have by
// its default, or may do where it is true. More than 50 of them want their number.
type featureChange struct {
	confirm cli.Confirmation
	dry     cli.DryRun
}

func (c *featureChange) flags(cmd *cobra.Command) {
	c.dry.Flag(cmd)
	c.confirm.Flags(cmd)
}

// run does the change, and returns the feature before and after, which is zero where there is
// none, and how many tenants follow.
func (c *featureChange) run(ctx context.Context, app *cli.App, central cli.Central, name string, change func(tx pgx.Tx) error) (before, after catalog.Feature, tenants int, err error) {
	err = c.confirm.Do(ctx, app, func() error {
		return c.dry.Do(ctx, central, func(tx pgx.Tx) error {
			var was, is catalog.FeatureReach
			if before, was, err = perhaps(central.Catalog.Features().GetTx(ctx, tx, name)); err != nil {
				return err
			}
			if err := change(tx); err != nil {
				return err
			}
			if after, is, err = perhaps(central.Catalog.Features().GetTx(ctx, tx, name)); err != nil {
				return err
			}
			var what string
			switch tenants = 0; {
			case string(before.Default) != string(after.Default):
				what, tenants = "the default of feature "+name+" is that of", max(was.ByDefault, is.ByDefault)
			case !sameGates(before, after):
				what, tenants = "feature "+name+" is not true for", is.Off
			}
			if c.dry.On() {
				return nil
			}
			return c.confirm.Check(what)(tenants)
		})
	})
	return before, after, tenants, err
}

// perhaps makes nothing of a feature that there is not.
func perhaps(found catalog.Feature, reach catalog.FeatureReach, err error) (catalog.Feature, catalog.FeatureReach, error) {
	if errors.Is(err, catalog.ErrUnknownFeature) {
		err = nil
	}
	return found, reach, err
}

func sameGates(a, b catalog.Feature) bool {
	return slices.Equal(a.Kinds, b.Kinds) && slices.Equal(a.Schedules, b.Schedules)
}

func (c *featureChange) said(app *cli.App, tenants int) {
	c.dry.Say(app, jobs.Count(tenants, "tenant"))
}
