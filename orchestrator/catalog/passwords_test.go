package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

// An address with a password is refused in each text of the catalog, is not repeated, and
// stands neither in a row nor in the audit.
func TestAnAddressWithAPasswordIsNoText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addTenant(t, "acme")
	all, err := selector.Parse("all")
	require.NoError(t, err)
	for _, text := range []string{"postgres://app:planted-S3cret@db/x", "host=db password=planted-S3cret", "see postgres://db/x?password=planted-S3cret"} {
		tenant := catalog.TenantParams{Slug: "other", Database: "shared-1"}
		add := func(change func(p *catalog.TenantParams)) func() error {
			p := tenant
			change(&p)
			return func() error { _, err := b.AddTenant(ctx, p); return err }
		}
		for name, do := range map[string]func() error{
			"slug":        add(func(p *catalog.TenantParams) { p.Slug = text }),
			"org_key":     add(func(p *catalog.TenantParams) { p.OrgKey = text }),
			"name":        add(func(p *catalog.TenantParams) { p.Name = text }),
			"plan":        add(func(p *catalog.TenantParams) { p.Plan = text }),
			"time zone":   add(func(p *catalog.TenantParams) { p.Timezone = text }),
			"label":       add(func(p *catalog.TenantParams) { p.Labels = map[string]string{"a": text} }),
			"label's key": add(func(p *catalog.TenantParams) { p.Labels = map[string]string{text: "a"} }),
			"database":    add(func(p *catalog.TenantParams) { p.Database = text }),
			"name changed": func() error {
				_, err := b.Editor().Change(ctx, []string{"acme"}, catalog.TenantChange{Name: &text})
				return err
			},
			"renamed": func() error { _, err := b.Editor().Rename(ctx, "acme", text); return err },
			"unknown": func() error { _, err := b.Editor().Rename(ctx, text, "other"); return err },
			"reason": func() error {
				_, err := b.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Reason: text})
				return err
			},
			"selected": func() error {
				_, err := b.Editor().SetStatusSelected(ctx, all, catalog.StatusChange{To: catalog.Suspended, Reason: text}, nil)
				return err
			},
			"note":          func() error { _, err := b.Plans().Set(ctx, "pro", catalog.PlanChange{Note: &text}); return err },
			"plan's name":   func() error { _, err := b.Plans().Set(ctx, text, catalog.PlanChange{}); return err },
			"feature":       func() error { _, err := b.Features().Set(ctx, text, catalog.FeatureChange{}); return err },
			"domain":        func() error { return b.Domains().Add(ctx, "acme", text, catalog.DomainCustom) },
			"e-mail domain": func() error { return b.Domains().AddEmail(ctx, "acme", text) },
			"kind":          func() error { return b.Domains().Add(ctx, "acme", "a.example", text) },
			"host":          func() error { _, err := b.ResolveHost(ctx, text); return err },
			"any name":      func() error { _, err := b.ResolveName(ctx, text); return err },
			"region":        func() error { return b.Hosting().AddRegion(ctx, text, "") },
			"brand":         func() error { _, err := b.Brands().Set(ctx, "acme", 1, text); return err },
			"detached": func() error {
				_, err := b.Hosting().Detach(ctx, "shared-1", catalog.Decision{Reason: text})
				return err
			},
		} {
			err := do()
			require.Error(t, err, name)
			require.NotContains(t, err.Error(), "S3cret", name)
			require.NotContains(t, err.Error(), "planted", name)
		}
	}
	_, err = b.Editor().SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Reason: "postgres://app:planted-S3cret@db/x"})
	var input *jobs.InputError
	require.ErrorAs(t, err, &input)
	require.ErrorContains(t, err, "reason: the value given is an address with a password, and none belongs there")
	var written int
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM headgate.audit a WHERE a::text LIKE '%S3cret%') + (SELECT count(*) FROM headgate.tenants t WHERE t::text LIKE '%S3cret%')`).Scan(&written))
	require.Zero(t, written)
}
