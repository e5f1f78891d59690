package catalogcmd

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// Tenant is the verbs on tenants.
func Tenant(app *cli.App) *cobra.Command {
	return cli.Group("tenant", "Tenants, and which database each lives in", append(importVerbs(app),
		tenantAdd(app), tenantShow(app), tenantList(app), tenantSet(app), tenantRename(app), tenantLabel(app), tenantFeature(app), tenantBrand(app), tenantDomain(app), tenantEmail(app),
		tenantSuspend(app), tenantResume(app), tenantArchive(app), tenantRemove(app), tenantErase(app))...)
}

// tenantView is the shape of a tenant in JSON.
type tenantView struct {
	ID         string            `json:"id"`
	Slug       string            `json:"slug"`
	OrgID      int64             `json:"org_id"`
	OrgKey     string            `json:"org_key"`
	Name       string            `json:"name"`
	Plan       string            `json:"plan"`
	Status     string            `json:"status"`
	Timezone   string            `json:"timezone"`
	Labels     map[string]string `json:"labels"`
	Database   string            `json:"database"`
	DatabaseID string            `json:"database_id"`
	Generation int64             `json:"generation"`

	Features     jobs.Features `json:"features"`
	Server       string        `json:"server"`
	Region       string        `json:"region"`
	StatusReason string        `json:"status_reason"`
	StatusBy     string        `json:"status_by"`
	StatusSince  time.Time     `json:"status_since"`
	Waiting      string        `json:"waiting"`
	Version      int           `json:"version"`
	Kinds        []string      `json:"kinds"` // what it may have jobs of; null: all
}

func viewTenant(t catalog.Tenant) tenantView {
	return tenantView{
		ID: t.ID, Slug: t.Slug, OrgID: t.OrgID, OrgKey: t.OrgKey, Name: t.Name, Plan: t.Plan, Status: string(t.Status), Timezone: t.Timezone,
		Labels: t.Labels, Database: t.Database, DatabaseID: t.DatabaseID, Generation: t.Generation,
		Features: t.Features, Server: t.Server, Region: t.Region, StatusReason: t.StatusReason, StatusBy: t.StatusBy, StatusSince: t.StatusSince.UTC(), Waiting: string(t.Waiting), Version: t.Version, Kinds: t.Kinds,
	}
}

var tenantColumns = []cli.Column[tenantView]{
	{Name: "slug", Of: func(t tenantView) any { return t.Slug }},
	{Name: "org_id", Of: func(t tenantView) any { return t.OrgID }},
	{Name: "name", Of: func(t tenantView) any { return t.Name }},
	{Name: "plan", Of: func(t tenantView) any { return t.Plan }},
	{Name: "status", Of: func(t tenantView) any { return t.Status }},
	{Name: "timezone", Of: func(t tenantView) any { return t.Timezone }},
	{Name: "database", Of: func(t tenantView) any { return t.Database }},
	{Name: "labels", Of: func(t tenantView) any { return t.Labels }},
}

func tenantAdd(app *cli.App) *cobra.Command {
	var params catalog.TenantParams
	var dry cli.DryRun
	var labels, domains, subdomains, emails []string
	var orgID string
	cmd := &cobra.Command{
		Use:   "add SLUG [--database DATABASE]",
		Short: "Enter a tenant in the catalog; it can have work at once",
		Args:  cli.Args("SLUG"),
	}
	cmd.RunE = cli.Brief(func(ctx context.Context, args []string) (err error) {
		params.Slug = args[0]
		if params.OrgID, err = catalog.ParseOrgID("--org-id", orgID); err != nil {
			return err
		}
		if params.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		return app.Open(ctx, nil, func(central cli.Central) error {
			if err := sayNewPlan(ctx, app, central, params.Plan); err != nil {
				return err
			}
			var tenant catalog.Tenant
			err := dry.Do(ctx, central, func(tx pgx.Tx) (err error) {
				if tenant, err = central.Catalog.AddTenantTx(ctx, tx, params); err != nil {
					return err
				}
				if err := addDomains(ctx, tx, central.Catalog, tenant.ID, domains, catalog.DomainCustom); err != nil {
					return err
				}
				for _, domain := range emails {
					if err := central.Catalog.Domains().AddEmailTx(ctx, tx, tenant.ID, domain); err != nil {
						return err
					}
				}
				return addDomains(ctx, tx, central.Catalog, tenant.ID, subdomains, catalog.DomainSubdomain)
			})
			if err != nil {
				return cli.NearOwner(ctx, central, "", params.Database, err)
			}
			defer dry.Say(app, "")
			return cli.One(app, viewTenant(tenant), tenantColumns)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&params.Database, "database", "", "the name of the database where it lives (default: the shared one with the fewest tenants that takes its plan and has room)")
	flags.StringVar(&orgID, "org-id", "", "its number in the org_id columns of shared tables (default: the next free one)")
	flags.StringVar(&params.OrgKey, "org-key", "", "its value in organisation columns that are text or uuid (default: its org_id)")
	flags.StringVar(&params.Name, "name", "", "its name for people (default: the slug)")
	flags.StringVar(&params.Plan, "plan", "", "its pricing plan")
	flags.StringVar(&params.Timezone, "timezone", "", "its IANA time zone (default UTC), which its schedules go by that are given no other")
	flags.StringArrayVar(&labels, "label", nil, "a label KEY=VALUE, for selectors; may be repeated")
	flags.StringArrayVar(&domains, "domain", nil, "a domain of the tenant's own that means it; may be repeated")
	flags.StringArrayVar(&subdomains, "subdomain", nil, "a domain below yours that means it; may be repeated")
	flags.StringArrayVar(&emails, "email-domain", nil, "a domain of its people's e-mail addresses; may be repeated")
	dry.Flag(cmd)
	return cmd
}

func parseLabels(given []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, label := range given {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return nil, cli.Usagef("--label: %s is not KEY=VALUE", cli.Quote(label))
		}
		if _, twice := labels[key]; twice {
			return nil, cli.Usagef("--label: %s is given twice", cli.Quote(key))
		}
		labels[key] = value
	}
	return labels, nil
}

func addDomains(ctx context.Context, tx pgx.Tx, c *catalog.Catalog, tenant string, domains []string, kind string) error {
	for _, domain := range domains {
		if err := c.Domains().AddTx(ctx, tx, tenant, domain, kind); err != nil {
			return err
		}
	}
	return nil
}
