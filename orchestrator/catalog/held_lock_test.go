package catalog_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Whatever changes the catalog, and waits in vain behind somebody's lock, names the session,
// its application and the table, and says how to end that session.
func TestEachVerbNamesWhoKeepsItsLock(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.addServer(t)
	b.addTenant(t, "acme")
	tenant, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)
	db, server := tenant.Database, tenant.Server
	_, err = b.Plans().Set(ctx, "pro", catalog.PlanChange{})
	require.NoError(t, err)
	_, err = b.Features().Set(ctx, "sso", catalog.FeatureChange{Type: catalog.FeatureBoolean})
	require.NoError(t, err)
	require.NoError(t, b.Hosting().AddRegion(ctx, "eu", ""))
	_, err = b.Brands().Set(ctx, "acme", 1, "One")
	require.NoError(t, err)
	require.NoError(t, b.Domains().Add(ctx, "acme", "a.example", catalog.DomainCustom))
	plan, all := "pro", selector.Selector{}
	change, why := catalog.TenantChange{Plan: &plan}, catalog.Decision{Reason: "r"}
	verbs := map[string]func(tx pgx.Tx) error{
		"tenant add": func(tx pgx.Tx) error {
			_, err := b.AddTenantTx(ctx, tx, catalog.TenantParams{Slug: "new", Name: "n", Database: db})
			return err
		},
		"tenant set --plan":   func(tx pgx.Tx) error { _, err := b.Editor().ChangeTx(ctx, tx, []string{"acme"}, change); return err },
		"tenant set --select": func(tx pgx.Tx) error { _, err := b.Editor().ChangeSelectedTx(ctx, tx, all, change, nil); return err },
		"tenant rename":       func(tx pgx.Tx) error { _, err := b.Editor().RenameTx(ctx, tx, "acme", "zed"); return err },
		"tenant remove":       func(tx pgx.Tx) error { _, err := b.Editor().RemoveTx(ctx, tx, []string{"acme"}, nil); return err },
		"tenant suspend":      func(tx pgx.Tx) error { return b.SetStatusTx(ctx, tx, "acme", catalog.Suspended) },
		"brand set":           func(tx pgx.Tx) error { _, err := b.Brands().SetTx(ctx, tx, "acme", 2, "Two"); return err },
		"brand remove":        func(tx pgx.Tx) error { return b.Brands().RemoveTx(ctx, tx, "acme", 1) },
		"domain add":          func(tx pgx.Tx) error { return b.Domains().AddTx(ctx, tx, "acme", "b.example", catalog.DomainCustom) },
		"domain claim":        func(tx pgx.Tx) error { _, err := b.Domains().ClaimTx(ctx, tx, "acme", "c.example"); return err },
		"domain remove":       func(tx pgx.Tx) error { return b.Domains().RemoveTx(ctx, tx, "acme", "a.example") },
		"email add":           func(tx pgx.Tx) error { return b.Domains().AddEmailTx(ctx, tx, "acme", "d.example") },
		"plan set":            func(tx pgx.Tx) error { _, err := b.Plans().SetTx(ctx, tx, "free", catalog.PlanChange{}); return err },
		"plan remove":         func(tx pgx.Tx) error { return b.Plans().RemoveTx(ctx, tx, "pro") },
		"feature set": func(tx pgx.Tx) error {
			_, err := b.Features().SetTx(ctx, tx, "new", catalog.FeatureChange{Type: catalog.FeatureBoolean})
			return err
		},
		"feature remove":  func(tx pgx.Tx) error { return b.Features().RemoveTx(ctx, tx, "sso") },
		"region add":      func(tx pgx.Tx) error { return b.Hosting().AddRegionTx(ctx, tx, "us", "") },
		"region remove":   func(tx pgx.Tx) error { return b.Hosting().RemoveRegionTx(ctx, tx, "eu") },
		"server rename":   func(tx pgx.Tx) error { _, err := b.Hosting().RenameServerTx(ctx, tx, server, "zed"); return err },
		"server drain":    func(tx pgx.Tx) error { _, err := b.Hosting().DrainTx(ctx, tx, server, why); return err },
		"server remove":   func(tx pgx.Tx) error { return b.Hosting().RemoveServerTx(ctx, tx, server) },
		"host add":        func(tx pgx.Tx) error { _, err := b.Hosting().AddHostTx(ctx, tx, server, "h.example"); return err },
		"database rename": func(tx pgx.Tx) error { _, err := b.Hosting().RenameDatabaseTx(ctx, tx, db, "zed"); return err },
		"database detach": func(tx pgx.Tx) error { _, err := b.Hosting().DetachTx(ctx, tx, db, why); return err },
		"database remove": func(tx pgx.Tx) error {
			_, err := b.Hosting().RemoveDatabaseTx(ctx, tx, catalog.DatabaseRemoval{Database: db})
			return err
		},
		"adopt": func(tx pgx.Tx) error { _, err := b.AdoptTx(ctx, tx, catalog.AdoptParams{Database: db}); return err },
	}

	holder, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = holder.Rollback(ctx) }()
	_, err = holder.Exec(ctx, `SET LOCAL application_name = 'a-report'; LOCK TABLE headgate.tenants, headgate.plans, headgate.features, headgate.regions, headgate.servers, headgate.databases, headgate.brands,
		headgate.tenant_domains, headgate.tenant_emails, headgate.domain_claims, headgate.adoptions, headgate.org_ids IN EXCLUSIVE MODE`)
	require.NoError(t, err)
	named := fmt.Sprintf(`kept by session %d of \w+, application a-report, .*\(locks on .*tenants.*\), and nothing was changed; .*SELECT pg_terminate_backend\(%[1]d\)`, holder.Conn().PgConn().PID())
	for name, verb := range verbs {
		err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '20ms'`)
			require.NoError(t, err)
			err = verb(tx)
			var waited *pgconn.PgError
			require.ErrorAs(t, err, &waited, name)
			require.Equal(t, "55P03", waited.Code, name)
			return err
		})
		require.Regexp(t, named, err.Error(), name)
	}

	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "new", Name: "n", Database: db}) // in a transaction of its own
	require.Regexp(t, named, err.Error())
	require.ErrorContains(t, err, "has kept what this one needs for more than 8s")
	advised := regexp.MustCompile(`SELECT pg_terminate_backend\(\d+\)`).FindString(err.Error())
	_, err = b.pool.Exec(ctx, advised) // what it says to do helps
	require.NoError(t, err)
	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "new", Name: "n", Database: db})
	require.NoError(t, err)
}
