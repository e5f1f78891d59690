package importer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	jobstest.PrepareQueries(t, ".", setup(t).pool)
}

func TestImportAddsAndChanges(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	plan := b.imports(t, "slug,org_id,org_key,name,plan,timezone,status,label.tier,feature.beta,feature.seats,feature.theme,domains,subdomains,email_domains\n"+
		"acme,7,a-key,\"Acme, \"\"Inc\"\"\",pro,Europe/Paris,active,gold,true,5,dark,acme.example,acme.saas.example,acme.example\n"+
		"globex,,,,,,suspended,,,,,,,\n")
	require.Equal(t, 2, plan.Added)
	acme, err := b.catalog.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, int64(7), acme.OrgID)
	require.Equal(t, "a-key", acme.OrgKey)
	require.Equal(t, `Acme, "Inc"`, acme.Name)
	require.Equal(t, map[string]string{"tier": "gold"}, acme.Labels)
	require.JSONEq(t, `{"beta": true, "seats": 5, "theme": "dark"}`, one[string](t, b, `SELECT features::text FROM headgate.tenants WHERE slug = 'acme'`))
	globex, err := b.catalog.Tenant(ctx, "globex")
	require.NoError(t, err)
	require.Equal(t, catalog.Suspended, globex.Status)
	require.Equal(t, int64(8), globex.OrgID)
	found, err := b.catalog.ResolveHost(ctx, "acme.saas.example")
	require.NoError(t, err)
	require.Equal(t, acme.ID, found.ID)

	// By its org_id the tenant is found under another slug; columns that are not there stay.
	plan = b.imports(t, "org_id,slug,plan,label.tier,feature.seats,domains\n7,acme-corp,free,,,new.example shop.example\n")
	require.Equal(t, []importer.Item{{Action: importer.Change, Tenant: "acme", Line: 2, Fields: []importer.FieldChange{
		{"slug", "acme", "acme-corp"}, {"plan", "pro", "free"}, {"label.tier", "gold", ""}, {"feature.seats", "5", ""}, {"domains", "acme.example", "new.example shop.example"},
	}}}, plan.Items)
	acme, err = b.catalog.Tenant(ctx, "acme-corp")
	require.NoError(t, err)
	require.Equal(t, "Europe/Paris", acme.Timezone)
	require.JSONEq(t, `{"beta": true, "theme": "dark"}`, one[string](t, b, `SELECT features::text FROM headgate.tenants WHERE slug = 'acme-corp'`))
	_, err = b.catalog.ResolveHost(ctx, "acme.example")
	require.Error(t, err)
}

// Who only looks writes nothing.
func TestADryRunWritesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := b.fingerprint(t)
	plan, err := b.Import(t.Context(), readCSV(t, "slug\nacme\n"), importer.Options{Database: "shared-1", DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 1, plan.Added)
	require.Equal(t, before, b.fingerprint(t))
}

func TestSlugsAreExchanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "org_id,slug\n1,aa\n2,bb\n3,cc\n")
	plan := b.imports(t, "org_id,slug\n1,bb\n2,cc\n3,aa\n")
	require.Equal(t, 3, plan.Changed)
	require.Equal(t, "bb cc aa", one[string](t, b, `SELECT string_agg(slug, ' ' ORDER BY org_id) FROM headgate.tenants`))
	require.True(t, b.imports(t, "org_id,slug\n1,bb\n2,cc\n3,aa\n").Empty())
}

func TestDomainsChangeHands(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug,domains\naa,one.example\nbb,two.example\n")
	require.Equal(t, 2, b.imports(t, "slug,domains\naa,two.example\nbb,one.example\n").Changed)
	require.True(t, b.imports(t, "slug,domains\naa,two.example\nbb,one.example\n").Empty())
}

func statusOf(t *testing.T, b bundle, slug string) string {
	t.Helper()
	return one[string](t, b, `SELECT concat_ws(' ', status, status_reason, nullif(source, '')) FROM headgate.tenants WHERE slug = $1`, slug)
}

// A sync stops what is missing and starts again what it has stopped, and touches neither
// tenants of others nor what a person has stopped.
func TestASyncSuspendsAndResumes(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	_, err := b.catalog.AddTenant(ctx, catalog.TenantParams{Slug: "by-hand", Database: "shared-1"})
	require.NoError(t, err)
	b.imports(t, "slug\nimported\n")
	require.Equal(t, 3, b.syncs(t, "slug\naa\nbb\ncc\n").Added)
	b.exec(t, `UPDATE headgate.tenants SET status = 'suspended', status_reason = 'does not pay', status_by = 'alice' WHERE slug = 'bb'`)

	plan := b.syncs(t, "slug\ncc\n")
	require.Equal(t, 1, plan.Suspended, "bb is suspended already")
	require.Equal(t, "suspended sync crm", statusOf(t, b, "aa"))
	require.Equal(t, "suspended does not pay crm", statusOf(t, b, "bb"))
	require.Equal(t, "active ", statusOf(t, b, "by-hand"))
	require.Equal(t, "active ", statusOf(t, b, "imported"))
	require.NotEmpty(t, one[string](t, b, `SELECT status_by FROM headgate.tenants WHERE slug = 'aa'`))

	require.True(t, b.syncs(t, "slug\ncc\n").Empty())
	plan = b.syncs(t, "slug\naa\nbb\ncc\n")
	require.Equal(t, 1, plan.Changed)
	require.Equal(t, "active  crm", statusOf(t, b, "aa"))
	require.Equal(t, "suspended does not pay crm", statusOf(t, b, "bb"))

	// Also where the source says active in so many words.
	plan = b.syncs(t, "slug,status\naa,active\nbb,active\ncc,suspended\n")
	require.Equal(t, 1, plan.Kept)
	require.Equal(t, "suspended does not pay crm", statusOf(t, b, "bb"))
	require.Equal(t, "suspended sync crm", statusOf(t, b, "cc"))
}

// A tenant that was added by hand belongs to the sync that has it.
func TestASyncTakesOver(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	_, err := b.catalog.AddTenant(ctx, catalog.TenantParams{Slug: "aa", Database: "shared-1"})
	require.NoError(t, err)
	require.Equal(t, []importer.FieldChange{{"source", "", "crm"}}, b.syncs(t, "slug\naa\n").Items[0].Fields)
	wrong := b.refused(t, "slug\naa\n", importer.Options{Source: "other"})
	require.Equal(t, []importer.RowError{{2, `the tenant with org_id 1 belongs to the sync "crm"; leave it out of this input`}}, wrong)
	require.Equal(t, 0, one[int](t, b, `SELECT count(*) FROM headgate.selector_changes c JOIN headgate.tenants t ON t.id = c.tenant_id AND t.slug = 'aa' WHERE c.id > (SELECT min(id) FROM headgate.selector_changes)`),
		"the source is nothing that a selector asks for")
}

func numbered(from, to int) string {
	var text strings.Builder
	text.WriteString("slug\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "t%d\n", i)
	}
	return text.String()
}

func TestASyncIsHeld(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	b.syncs(t, numbered(0, 400))
	before := b.fingerprint(t)
	opts := importer.Options{Source: "crm", Database: "shared-1"}

	_, err := b.Import(ctx, readCSV(t, numbered(21, 400)), opts)
	require.ErrorIs(t, err, importer.ErrMissing)
	require.ErrorContains(t, err, `21 of 400 active tenants of source "crm" are missing in the input, and more than 20 are held`)
	opts.AllowMissing = 22
	_, err = b.Import(ctx, readCSV(t, numbered(21, 400)), opts)
	require.ErrorContains(t, err, "not the 22 that were allowed")
	require.Equal(t, before, b.fingerprint(t))

	opts.AllowMissing = 21
	plan, err := b.Import(ctx, readCSV(t, numbered(21, 400)), opts)
	require.NoError(t, err)
	require.Equal(t, 21, plan.Suspended)
	require.Equal(t, 18, b.syncs(t, numbered(39, 400)).Suspended, "5 % of 379")

	// Few tenants: ten may go, and no more than half.
	b = setup(t)
	b.syncs(t, numbered(0, 20))
	_, err = b.Import(ctx, readCSV(t, numbered(11, 20)), importer.Options{Source: "crm"})
	require.ErrorIs(t, err, importer.ErrMissing)
	require.Equal(t, 10, b.syncs(t, numbered(10, 20)).Suspended)
	require.Equal(t, 5, b.syncs(t, numbered(15, 20)).Suspended)
	_, err = b.Import(ctx, readCSV(t, numbered(18, 20)), importer.Options{Source: "crm"})
	require.ErrorContains(t, err, `3 of 5 active tenants of source "crm" are missing in the input, and more than 2 are held`)

	_, err = importer.ReadCSV(strings.NewReader("slug\n"), importer.ReadOptions{})
	require.ErrorIs(t, err, importer.ErrEmpty)
	_, err = importer.ReadCSV(strings.NewReader(""), importer.ReadOptions{})
	require.ErrorIs(t, err, importer.ErrEmpty)
	_, err = importer.ReadJSONLines(strings.NewReader("\n"), importer.ReadOptions{})
	require.ErrorIs(t, err, importer.ErrEmpty)
}

// Two small tables under one source suspended each other's tenants in turn, each time without
// a word.
func TestTwoTablesWithOneSourceDoNotSuspendEachOther(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	b.syncs(t, numbered(0, 4))
	before := b.fingerprint(t)
	for _, other := range []string{numbered(10, 11), numbered(10, 90), numbered(3, 8)} {
		_, err := b.Import(ctx, readCSV(t, other), importer.Options{Source: "crm", Database: "shared-1"})
		require.ErrorIs(t, err, importer.ErrMissing)
		require.ErrorContains(t, err, "if the input is another table than before, give that table a source of its own")
		require.Equal(t, before, b.fingerprint(t))
	}
	plan, err := b.Import(ctx, readCSV(t, numbered(10, 14)), importer.Options{Source: "erp", Database: "shared-1"})
	require.NoError(t, err, "as the sentence says")
	require.Equal(t, 4, plan.Added)
	require.Equal(t, 2, b.syncs(t, numbered(2, 9)).Suspended, "half of them may leave, however many come")
	require.Equal(t, 7, one[int](t, b, `SELECT count(*) FROM headgate.tenants WHERE status = 'active' AND source = 'crm'`))
	plan, err = b.Import(ctx, readCSV(t, numbered(20, 21)), importer.Options{Source: "crm", Database: "shared-1", AllowMissing: 7})
	require.NoError(t, err, "whoever says the number has looked")
	require.Equal(t, 7, plan.Suspended)
}

// A sync that finds nothing to do leaves every row as it is, and takes no lock that adding
// tenants needs.
func TestASyncWithNothingToDoWritesNothing(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	text := "slug,org_id,name,plan,label.tier,feature.seats,domains\naa,5,A,pro,gold,5,a.example\nbb,6,B,,,,\n"
	b.syncs(t, text)
	before := b.fingerprint(t)
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `SELECT FROM headgate.org_ids FOR UPDATE`)
	require.NoError(t, err)
	require.True(t, b.syncs(t, strings.Replace(text, ",5,a.", ",5.0,a.", 1)).Empty(), "5.0 is 5")
	require.Equal(t, before, b.fingerprint(t))
}

// The org_id of a removed tenant would show its rows to the next customer.
func TestRemovedTenantsAreNeverAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug,org_id,org_key\ngone,5,key\n")
	b.exec(t, `UPDATE headgate.tenants SET status = 'removed', slug = id::text, database_id = NULL, database_kind = NULL`)
	for _, input := range []string{"slug,org_id\nnewco,5\n", "slug,org_key\nnewco,key\n", "slug,org_id\ngone,5\n"} {
		wrong := b.refused(t, input, importer.Options{Database: "shared-1"})
		require.Len(t, wrong, 1)
		require.Equal(t, "the tenant with org_id 5 was removed: take the row out of the table; if the row is another customer, give an org_id and an org_key that nobody had, or none, because the removed tenant's rows would be shown to that customer", wrong[0].Says)
	}
	require.Equal(t, 1, b.imports(t, "slug\ngone\n").Added, "the slug is free")
	var out strings.Builder
	n, err := b.Export(t.Context(), &out, importer.CSV)
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// Two syncs of the same input at once: one writes, the other finds it done. A sync beside
// somebody who adds the same slug: one wins, the other is told.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	table := readCSV(t, numbered(0, 200))
	type result struct {
		plan *importer.Plan
		err  error
	}
	results := make(chan result)
	for range 4 {
		go func() {
			plan, err := b.Import(ctx, table, importer.Options{Source: "crm", Database: "shared-1"})
			results <- result{plan, err}
		}()
	}
	writers := 0
	for range 4 {
		r := <-results
		require.NoError(t, r.err)
		if !r.plan.Empty() {
			writers++
		}
	}
	require.Equal(t, 1, writers)
	require.Equal(t, 200, one[int](t, b, `SELECT count(*) FROM headgate.tenants`))

	for i := range 10 {
		slug := fmt.Sprintf("both%d", i)
		told := make(chan error)
		go func() {
			_, err := b.catalog.AddTenant(ctx, catalog.TenantParams{Slug: slug, Database: "shared-2"})
			told <- err
		}()
		_, err := b.Import(ctx, readCSV(t, "slug,org_key,database\n"+slug+",k,shared-1\n"), importer.Options{})
		added := <-told
		var wrong *importer.RowsError
		switch {
		case err == nil:
			require.ErrorIs(t, added, catalog.ErrExists)
			require.Equal(t, 1, one[int](t, b, `SELECT count(*) FROM headgate.tenants WHERE org_key = 'k'`))
			b.exec(t, `UPDATE headgate.tenants SET org_key = NULL WHERE org_key = 'k'`)
		case errors.As(err, &wrong):
			require.NoError(t, added)
		default:
			require.NoError(t, err)
		}
	}
}

// Somebody changes a tenant between the look and the write: the import looks again.
func TestAChangeMeanwhileIsSeen(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	b.imports(t, "slug,plan\naa,free\nbb,free\n")
	looks := 0
	plan, err := b.Import(ctx, readCSV(t, "slug,plan\naa,pro\nbb,pro\n"), importer.Options{Confirm: func(*importer.Plan) error {
		if looks++; looks == 1 {
			b.exec(t, `UPDATE headgate.tenants SET timezone = 'Europe/Paris' WHERE slug = 'bb'`)
		}
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, 2, looks)
	require.Equal(t, 2, plan.Changed)
	require.Equal(t, "Europe/Paris pro", one[string](t, b, `SELECT timezone || ' ' || plan FROM headgate.tenants WHERE slug = 'bb'`))

	_, err = b.Import(ctx, readCSV(t, "slug,plan\naa,x\nbb,x\n"), importer.Options{Confirm: func(*importer.Plan) error {
		b.exec(t, `UPDATE headgate.tenants SET name = name || '!' WHERE slug = 'bb'`)
		return nil
	}})
	require.ErrorIs(t, err, catalog.ErrChanged)
	require.Equal(t, "pro", one[string](t, b, `SELECT plan FROM headgate.tenants WHERE slug = 'aa'`), "nothing was written")
}

func TestImportTx(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	plan, err := b.ImportTx(ctx, tx, readCSV(t, "slug\naa\n"), importer.Options{Database: "shared-1"})
	require.NoError(t, err)
	require.Equal(t, 1, plan.Added)
	require.NoError(t, tx.Rollback(ctx))
	require.Equal(t, 0, one[int](t, b, `SELECT count(*) FROM headgate.tenants`))
}

// A person who suspended a tenant with the reason "sync" saw the next sync let it work again.
func TestOnlyWhatASyncHasStoppedWorksAgain(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	const all = "slug\naa\nbb\ncc\ndd\nee\nff\ngg\nhh\n"
	b.syncs(t, all)
	_, err := b.catalog.Editor().SetStatus(ctx, []string{"aa"}, catalog.StatusChange{To: catalog.Suspended, Reason: "sync"})
	require.NoError(t, err)
	b.exec(t, `UPDATE headgate.tenants SET status = 'archived', status_reason = 'sync' WHERE slug = 'bb'`)
	b.syncs(t, "slug\naa\nbb\nff\ngg\nhh\n")
	require.Equal(t, "suspended sync crm", statusOf(t, b, "cc"))
	_, err = b.catalog.Editor().SetStatus(ctx, []string{"cc"}, catalog.StatusChange{To: catalog.Suspended, Reason: "sync"}) // a person's from here on
	require.NoError(t, err)
	b.exec(t, `UPDATE headgate.tenants SET status = 'archived' WHERE slug = 'dd'`) // too, although status_reason is what the sync gave
	b.syncs(t, all)
	for slug, want := range map[string]string{"aa": "suspended sync crm", "bb": "archived sync crm", "cc": "suspended sync crm", "dd": "archived sync crm", "ee": "active  crm", "ff": "active  crm"} {
		require.Equal(t, want, statusOf(t, b, slug), slug)
	}
	require.Zero(t, one[int](t, b, `SELECT count(*) FROM headgate.tenants WHERE stopped_by = 'sync'`))
}

// A source whose column status stopped all tenants was followed, though as many missing ones
// would have held the sync.
func TestASyncIsHeldWhereTheColumnStatusStopsMany(t *testing.T) {
	t.Parallel()
	b, ctx := setup(t), context.Background()
	table := func(stopped, missing int, word string) string {
		var text strings.Builder
		text.WriteString("slug,status\n")
		for i := range 100 - missing {
			status := "active"
			if i < stopped {
				status = word
			}
			fmt.Fprintf(&text, "t%d,%s\n", i, status)
		}
		return text.String()
	}
	opts := importer.Options{Source: "crm", Database: "shared-1"}
	_, err := b.Import(ctx, readCSV(t, table(0, 0, "")), opts)
	require.NoError(t, err)
	for _, word := range []string{"suspended", "archived"} {
		_, err = b.Import(ctx, readCSV(t, table(11, 0, word)), opts)
		require.ErrorIs(t, err, importer.ErrMissing)
		require.ErrorContains(t, err, `11 of 100 active tenants of source "crm" are suspended or archived by the input's column status, and more than 10 are held (nothing was written)`)
	}
	_, err = b.Import(ctx, readCSV(t, table(6, 5, "suspended")), opts)
	require.ErrorContains(t, err, `11 of 100 active tenants of source "crm" are missing in the input or stopped, 6 of them by its column status, and`)
	require.Equal(t, 100, one[int](t, b, `SELECT count(*) FROM headgate.tenants WHERE status = 'active'`))
	_, err = b.Import(ctx, readCSV(t, table(10, 0, "suspended")), opts)
	require.NoError(t, err, "the control: ten are not held")
	opts.AllowMissing = 30
	_, err = b.Import(ctx, readCSV(t, table(40, 0, "suspended")), opts)
	require.NoError(t, err, "30 more are allowed")
	_, err = b.Import(ctx, readCSV(t, table(0, 0, "")), importer.Options{Source: "crm", Database: "shared-1"})
	require.NoError(t, err, "tenants that work again are not held")
}

// An import's column status is the word of whoever runs it. It was taken for a sync's, and the
// next sync let the tenant work again. A person takes over what a sync has stopped.
func TestWhatAnImportStopsNoSyncUndoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.syncs(t, "slug\naa\nbb\ncc\n")
	ctx := access.With(context.Background(), access.Actor{Name: "ines", Reason: "fraud case 9"})
	_, err := b.Import(ctx, readCSV(t, "slug,status\naa,suspended\ndd,archived\n"), importer.Options{Database: "shared-1"})
	require.NoError(t, err)
	b.syncs(t, "slug\naa\ncc\n")
	require.Equal(t, "suspended sync crm", statusOf(t, b, "bb"))
	_, err = b.catalog.Editor().SetStatus(access.With(ctx, access.Actor{Name: "ana"}), []string{"bb"}, catalog.StatusChange{To: catalog.Suspended})
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, "suspended fraud case 9 crm", statusOf(t, b, "aa"))
		require.Equal(t, "suspended  crm", statusOf(t, b, "bb"))
		b.syncs(t, "slug\naa\nbb\ncc\n")
	}
	var by []string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT array_agg(slug || ' ' || status_by || ' ' || stopped_by ORDER BY slug) FROM headgate.tenants WHERE status <> 'active'`).Scan(&by))
	require.Equal(t, []string{"aa ines ", "bb ana ", "dd ines "}, by)
	var audited bool
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM headgate.audit WHERE name = 'bb' AND actor = 'ana' AND changes @> '[{"field": "status_by"}]')`).Scan(&audited))
	require.True(t, audited)
}
