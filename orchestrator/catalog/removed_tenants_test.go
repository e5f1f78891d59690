package catalog_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// A database whose 65 tenants were removed was said to be full, though the next tenant went in.
func TestRemovedTenantsAreCountedNowhere(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	server := b.addServer(t)
	b.addMany(t, 4)
	_, err := b.Editor().Remove(ctx, []string{"t0", "t1"}, nil)
	require.NoError(t, err)
	_, err = b.Editor().SetStatus(ctx, []string{"t2"}, catalog.StatusChange{To: catalog.Archived})
	require.NoError(t, err)
	d, err := b.Hosting().SetRoom(ctx, "shared", catalog.Room{MaxTenants: ptr(3)})
	require.NoError(t, err)
	require.Equal(t, 2, d.Tenants, "an archived tenant's rows are there")
	all, _, err := b.Databases(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, 2, all[0].Tenants)
	concerned, err := b.Hosting().Concerned(ctx, server.Name)
	require.NoError(t, err)
	require.Equal(t, catalog.Concerned{Databases: 1, Tenants: 2}, concerned)
	replaced, err := b.Hosting().ReplaceHost(ctx, catalog.HostReplacement{Server: "main", Old: "db1.example.com", New: "db2.example.com", DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 2, replaced.Tenants)
	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "next", Database: "shared"})
	require.NoError(t, err)
	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "one-more", Database: "shared"})
	require.ErrorIs(t, err, catalog.ErrFull)
}

// A plan and a feature that only removed tenants had stayed for ever.
func TestRemovedTenantsHoldNoPlanAndNoFeature(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.addServer(t)
	b.addMany(t, 1)
	_, err := b.Features().Set(ctx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean})
	require.NoError(t, err)
	_, err = b.pool.Exec(ctx, `UPDATE headgate.tenants SET plan = 'gold', features = '{"beta": true}' WHERE slug = 't0'`)
	require.NoError(t, err)
	require.ErrorIs(t, b.Plans().Remove(ctx, "gold"), catalog.ErrReferred)
	_, err = b.Editor().Remove(ctx, []string{"t0"}, nil)
	require.NoError(t, err)
	require.NoError(t, b.Plans().Remove(ctx, "gold"))
	require.NoError(t, b.Features().Remove(ctx, "beta"))
}

// Sessions at REPEATABLE READ do not see what others have changed since their snapshot.
func TestOlderSnapshotsBreakNoRuleOfTheCatalog(t *testing.T) {
	t.Parallel()
	const add = `INSERT INTO headgate.tenants (id, slug, name, org_id, database_id, database_kind)
SELECT gen_random_uuid(), 'new', 'new', 1000, id, 'shared' FROM headgate.databases`
	for name, c := range map[string]struct{ meanwhile, then, code string }{
		"a slug that a grant may name since": {
			`SELECT`, // the refusal is the same without a grant
			`UPDATE headgate.tenants SET slug = 'other' WHERE slug = 't0'`, "55000"},
		"a feature that has a value since":      {`UPDATE headgate.tenants SET features = '{"beta": true}' WHERE slug = 't0'`, `DELETE FROM headgate.features`, "55000"},
		"a feature of another type that has":    {`UPDATE headgate.tenants SET features = '{"beta": true}' WHERE slug = 't0'`, `UPDATE headgate.features SET type = 'number'`, "55000"},
		"a database that is full since":         {`INSERT INTO headgate.tenants (id, slug, name, org_id, database_id, database_kind) SELECT gen_random_uuid(), 't9', 't9', 999, id, 'shared' FROM headgate.databases`, add, "55000"},
		"a database that has a new bound since": {`UPDATE headgate.databases SET max_tenants = 1`, add, "40001"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ctx := setup(t), t.Context()
			b.addServer(t)
			b.addMany(t, 1)
			_, err := b.Features().Set(ctx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean})
			require.NoError(t, err)
			if c.code == "55000" {
				_, err = b.Hosting().SetRoom(ctx, "shared", catalog.Room{MaxTenants: ptr(2)})
				require.NoError(t, err)
			}
			old, err := b.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
			require.NoError(t, err)
			defer func() { require.NoError(t, old.Rollback(ctx)) }()
			_, err = old.Exec(ctx, `SELECT FROM headgate.tenants`)
			require.NoError(t, err)
			_, err = b.pool.Exec(ctx, c.meanwhile)
			require.NoError(t, err)
			_, err = old.Exec(ctx, c.then)
			require.Equal(t, c.code, codeOf(err), "%v", err)
		})
	}
}

// One tenant with a value that is none any more stopped every change of many, unnamed.
func TestAStaleValueStopsNoChangeOfSomethingElse(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.addServer(t)
	b.addMany(t, 3)
	for _, sql := range []string{
		`INSERT INTO headgate.features (name, type) VALUES ('beta', 'boolean'), ('seats', 'number')`,
		`ALTER TABLE headgate.tenants DISABLE TRIGGER check_features`,
		`UPDATE headgate.tenants SET features = '{"beta": "perhaps", "gone": 1}' WHERE slug = 't1'`,
		`ALTER TABLE headgate.tenants ENABLE TRIGGER check_features`,
		`UPDATE headgate.tenants SET features = features || '{"seats": 5}'`,
	} {
		_, err := b.pool.Exec(ctx, sql)
		require.NoError(t, err, sql)
	}
	_, err := b.pool.Exec(ctx, `UPDATE headgate.tenants SET features = features || '{"beta": 7}' WHERE slug = 't2'`)
	require.ErrorContains(t, err, "the value that tenant t2 gets of feature beta is no boolean")
	_, err = b.pool.Exec(ctx, `UPDATE headgate.tenants SET features = features || '{"none": 7}' WHERE slug = 't2'`)
	require.ErrorContains(t, err, "there is no feature none, of which tenant t2 gets a value")
}

// A feature changed its type while a transaction that gave it a value was open.
func TestATypeWaitsForThoseWhoGiveValues(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.addServer(t)
	b.addMany(t, 1)
	_, err := b.pool.Exec(ctx, `INSERT INTO headgate.features (name, type) VALUES ('beta', 'boolean')`)
	require.NoError(t, err)
	giving, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = giving.Exec(ctx, `UPDATE headgate.tenants SET features = '{"beta": true}'`)
	require.NoError(t, err)
	changing, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	_, err = changing.Exec(ctx, `SET LOCAL lock_timeout = '50ms'`)
	require.NoError(t, err)
	_, err = changing.Exec(ctx, `UPDATE headgate.features SET type = 'number'`)
	require.Equal(t, "55P03", codeOf(err), "%v", err)
	require.NoError(t, changing.Rollback(ctx))
	require.NoError(t, giving.Commit(ctx))
	_, err = b.pool.Exec(ctx, `UPDATE headgate.features SET type = 'number'`)
	require.ErrorContains(t, err, "feature beta has values in 1 tenants and plans")
}

func codeOf(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

// The key of a removed tenant was given again once its database had left the catalog and come
// back, and the new tenant saw the rows that stayed there.
func TestAKeyStaysGivenWhereverItsDatabaseIs(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), t.Context()
	b.addServer(t)
	b.addDatabase(t, "shop", catalog.KindShared)
	gone, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "gone", Database: "shop", OrgKey: "k-1"})
	require.NoError(t, err)
	plain, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "plain", Database: "shop"})
	require.NoError(t, err)
	_, err = b.Editor().Remove(ctx, []string{"gone", "plain"}, nil)
	require.NoError(t, err)
	_, err = b.Hosting().RemoveDatabase(ctx, catalog.DatabaseRemoval{Database: "shop", RowsStay: true})
	require.NoError(t, err)
	b.addDatabase(t, "shop", catalog.KindShared)
	other, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "other", Database: "shop", OrgKey: "k-2"})
	require.NoError(t, err)
	add := func(key string, org int64) error {
		_, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "new", Database: "shop", OrgKey: key, OrgID: org})
		return err
	}
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, catalog.ErrExists)
		require.ErrorContains(t, err, "was that of a removed tenant, whose rows may lie in a database that left the catalog; give an org_key that no tenant has had")
	}
	refused(add("k-1", 0))
	refused(add(fmt.Sprint(plain.OrgID), 0))
	require.ErrorContains(t, add("k-3", plain.OrgID), "is taken already")
	require.ErrorContains(t, add("k-3", gone.OrgID), "is taken already")
	_, err = b.Editor().Change(ctx, []string{other.ID}, catalog.TenantChange{OrgKey: ptr("k-1")})
	refused(err)
	_, err = b.pool.Exec(ctx, `UPDATE headgate.tenants SET org_key = 'k-1' WHERE id = $1`, other.ID)
	require.Equal(t, "23505", codeOf(err))

	b.sql(t, `ALTER TABLE headgate.tenants DISABLE TRIGGER check_org_key_new_inserted`)
	require.NoError(t, add("k-1", 0), "the control")
}
