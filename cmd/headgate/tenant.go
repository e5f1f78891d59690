package main

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func (p *program) tenantCommand() *cobra.Command {
	return group("tenant", "Tenants, and which database each lives in", p.tenantAdd(), p.tenantList(), p.tenantExplain())
}

// tenantView is the shape of a tenant in JSON.
type tenantView struct {
	ID         string            `json:"id"`
	Slug       string            `json:"slug"`
	OrgID      int64             `json:"org_id"`
	Name       string            `json:"name"`
	Plan       string            `json:"plan"`
	Status     string            `json:"status"`
	Timezone   string            `json:"timezone"`
	Labels     map[string]string `json:"labels"`
	Database   string            `json:"database"`
	DatabaseID string            `json:"database_id"`
	Generation int64             `json:"generation"`
}

func viewTenant(t catalog.Tenant) tenantView {
	return tenantView{
		ID: t.ID, Slug: t.Slug, OrgID: t.OrgID, Name: t.Name, Plan: t.Plan, Status: string(t.Status), Timezone: t.Timezone,
		Labels: t.Labels, Database: t.Database, DatabaseID: t.DatabaseID, Generation: t.Generation,
	}
}

var tenantColumns = []column[tenantView]{
	{"slug", func(t tenantView) any { return t.Slug }},
	{"org_id", func(t tenantView) any { return t.OrgID }},
	{"name", func(t tenantView) any { return t.Name }},
	{"plan", func(t tenantView) any { return t.Plan }},
	{"status", func(t tenantView) any { return t.Status }},
	{"timezone", func(t tenantView) any { return t.Timezone }},
	{"database", func(t tenantView) any { return t.Database }},
	{"labels", func(t tenantView) any { return t.Labels }},
}

func (p *program) tenantAdd() *cobra.Command {
	var params catalog.TenantParams
	var labels, domains, subdomains, emails []string
	cmd := &cobra.Command{
		Use:   "add SLUG --database DATABASE",
		Short: "Enter a tenant in the catalog; it can have work at once",
		Args:  names("SLUG"),
	}
	cmd.RunE = brief(func(ctx context.Context, args []string) (err error) {
		if err := required(cmd, "database"); err != nil {
			return err
		}
		params.Slug = args[0]
		if params.Labels, err = parseLabels(labels); err != nil {
			return err
		}
		return p.open(ctx, nil, func(r rooms) error {
			var tenant catalog.Tenant
			err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) (err error) {
				if tenant, err = r.catalog.AddTenantTx(ctx, tx, params); err != nil {
					return err
				}
				if err := addDomains(ctx, tx, r.catalog, tenant.ID, domains, catalog.DomainCustom); err != nil {
					return err
				}
				for _, domain := range emails {
					if err := r.catalog.AddEmailDomainTx(ctx, tx, tenant.ID, domain); err != nil {
						return err
					}
				}
				return addDomains(ctx, tx, r.catalog, tenant.ID, subdomains, catalog.DomainSubdomain)
			})
			if err != nil {
				return err
			}
			return one(p, viewTenant(tenant), tenantColumns)
		})
	})
	flags := cmd.Flags()
	flags.StringVar(&params.Database, "database", "", "the name of the database where it lives")
	flags.Int64Var(&params.OrgID, "org-id", 0, "its number in the org_id columns of shared tables (default: the next free one)")
	flags.StringVar(&params.Name, "name", "", "its name for people (default: the slug)")
	flags.StringVar(&params.Plan, "plan", "", "its pricing plan")
	flags.StringVar(&params.Timezone, "timezone", "", "its IANA time zone, which its schedules go by (default UTC)")
	flags.StringArrayVar(&labels, "label", nil, "a label KEY=VALUE, for selectors; may be repeated")
	flags.StringArrayVar(&domains, "domain", nil, "a domain of the tenant's own that means it; may be repeated")
	flags.StringArrayVar(&subdomains, "subdomain", nil, "a domain below yours that means it; may be repeated")
	flags.StringArrayVar(&emails, "email-domain", nil, "a domain of its people's e-mail addresses; may be repeated")
	return cmd
}

func parseLabels(given []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, label := range given {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return nil, usagef("--label: %s is not KEY=VALUE", quote(label))
		}
		if _, twice := labels[key]; twice {
			return nil, usagef("--label: %s is given twice", quote(key))
		}
		labels[key] = value
	}
	return labels, nil
}

func addDomains(ctx context.Context, tx pgx.Tx, c *catalog.Catalog, tenant string, domains []string, kind string) error {
	for _, domain := range domains {
		if err := c.AddDomainTx(ctx, tx, tenant, domain, kind); err != nil {
			return err
		}
	}
	return nil
}

// page is how many rows one query of a longer list asks for.
const page = 1000

func (p *program) tenantList() *cobra.Command {
	var filter catalog.TenantFilter
	var status string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tenants, by slug",
		Args:  names(),
		RunE: brief(func(ctx context.Context, _ []string) error {
			if status != "" {
				if err := oneOf("--status", status, tenantStates); err != nil {
					return err
				}
			}
			if limit < 0 {
				return usagef("--limit is %d: give the number of tenants, or 0 for all", limit)
			}
			filter.Status = catalog.Status(status)
			return p.open(ctx, nil, func(r rooms) error {
				if filter.Database != "" {
					database, err := findDatabase(ctx, r.catalog, filter.Database)
					if err != nil {
						return err
					}
					filter.Database = database.ID
				}
				tenants, err := tenantPages(ctx, r.catalog, filter, limit)
				if err != nil {
					return err
				}
				return list(p, tenants, "no tenants: headgate tenant add SLUG --database DATABASE", tenantColumns)
			})
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&filter.Database, "database", "", "only those that live in this database")
	flags.StringVar(&filter.Plan, "plan", "", "only those on this plan")
	flags.StringVar(&status, "status", "", "only those with this status: "+strings.Join(tenantStates, ", "))
	flags.IntVar(&limit, "limit", 0, "at most so many (0 means all)")
	complete(cmd, "status", tenantStates)
	return cmd
}

var tenantStates = []string{
	string(catalog.Provisioning), string(catalog.Active), string(catalog.Suspended), string(catalog.Moving), string(catalog.Archived),
}

// tenantPages reads up to limit tenants, all if it is 0.
func tenantPages(ctx context.Context, c *catalog.Catalog, filter catalog.TenantFilter, limit int) ([]tenantView, error) {
	var all []tenantView
	for {
		filter.Limit = page
		if limit > 0 {
			filter.Limit = min(page, limit-len(all))
		}
		tenants, err := c.Tenants(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, t := range tenants {
			all = append(all, viewTenant(t))
			filter.After = t.Slug
		}
		if len(tenants) < filter.Limit || len(all) == limit {
			return all, nil
		}
	}
}
