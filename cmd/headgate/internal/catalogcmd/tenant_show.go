package catalogcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// tenantWhole is the shape of `tenant show -o json`.
type tenantWhole struct {
	tenantView
	Brands  []catalog.Brand `json:"brands"`
	Erasure *jobs.Erasure   `json:"erasure"` // null: nobody has asked for one
}

var tenantWholeColumns = []cli.Column[tenantWhole]{
	{Name: "slug", Of: func(t tenantWhole) any { return t.Slug }},
	{Name: "name", Of: func(t tenantWhole) any { return t.Name }},
	{Name: "id", Of: func(t tenantWhole) any { return t.ID }},
	{Name: "org_id", Of: func(t tenantWhole) any { return t.OrgID }},
	{Name: "org_key", Of: func(t tenantWhole) any { return t.OrgKey }},
	{Name: "plan", Of: func(t tenantWhole) any { return t.Plan }},
	{Name: "status", Of: func(t tenantWhole) any { return t.Status }},
	{Name: "since", Of: func(t tenantWhole) any { return t.StatusSince }},
	{Name: "by", Of: func(t tenantWhole) any { return t.StatusBy }},
	{Name: "reason", Of: func(t tenantWhole) any { return t.StatusReason }},
	{Name: "waiting", Of: func(t tenantWhole) any { return t.Waiting }},
	{Name: "timezone", Of: func(t tenantWhole) any { return t.Timezone }},
	{Name: "database", Of: func(t tenantWhole) any { return t.Database }},
	{Name: "server", Of: func(t tenantWhole) any { return t.Server }},
	{Name: "region", Of: func(t tenantWhole) any { return t.Region }},
	{Name: "labels", Of: func(t tenantWhole) any { return t.Labels }},
	{Name: "features", Of: func(t tenantWhole) any { return values(t.Features) }},
	{Name: "kinds", Of: func(t tenantWhole) any { return allowedKinds(t.Kinds) }},
	{Name: "brands", Of: func(t tenantWhole) any { return brandNames(t.Brands) }},
	{Name: "version", Of: func(t tenantWhole) any { return t.Version }},
	{Name: "erased", Of: func(t tenantWhole) any { return erasedText(t.Erasure) }},
}

func tenantShow(app *cli.App) *cobra.Command {
	return &cobra.Command{
		Use: "show SLUG", Short: "Show what the catalog knows of a tenant", Args: cli.Args("SLUG"),
		RunE: cli.Brief(func(ctx context.Context, args []string) error {
			return app.Open(ctx, nil, func(central cli.Central) error {
				tenant, err := central.Catalog.Tenant(ctx, args[0])
				if err != nil {
					return cli.NearOwner(ctx, central, args[0], "", err)
				}
				brands, err := cli.All(func(page jobs.Page) ([]catalog.Brand, string, error) {
					return central.Catalog.Brands().List(ctx, tenant.ID, page)
				})
				if err != nil {
					return err
				}
				whole := tenantWhole{viewTenant(tenant), append([]catalog.Brand{}, brands...), nil}
				if tenant.Status == catalog.Removed {
					erasure, err := central.Client.Erasure(ctx, tenant.ID)
					if err != nil {
						return err
					}
					if erasure.TenantID != "" {
						whole.Erasure = &erasure
					}
				}
				if tenant.Database != "" {
					database, err := central.Catalog.Hosting().Database(ctx, tenant.DatabaseID)
					if err != nil && !errors.Is(err, jobs.ErrUnknownDatabase) { // removed meanwhile
						return err
					}
					if err == nil {
						sayNotInstalled(app, []catalog.Database{database})
					}
				}
				return cli.Upright(app, whole, tenantWholeColumns)
			})
		}),
	}
}

// erasedText says what became of a tenant's rows.
func erasedText(e *jobs.Erasure) string {
	switch {
	case e == nil:
		return "-"
	case e.DoneAt != nil:
		return fmt.Sprintf("%s, by job %s", e.DoneAt.UTC().Format(time.RFC3339), e.JobUID)
	}
	return fmt.Sprintf("not yet: job %s is %s", e.JobUID, e.JobState)
}

// values lists the values of features.
func values(features jobs.Features) string {
	var all []string
	for _, name := range features.Names() {
		all = append(all, name+"="+plain(features.Value(name)))
	}
	return strings.Join(all, ", ")
}

func brandNames(brands []catalog.Brand) string {
	var all []string
	for _, b := range brands {
		all = append(all, fmt.Sprintf("%d %s", b.BrandID, b.Name))
	}
	return strings.Join(all, ", ")
}
