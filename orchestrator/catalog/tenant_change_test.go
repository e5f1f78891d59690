package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	selectors "github.com/headgate/headgate/orchestrator/selector"
)

func text(s string) *string { return &s }

// edited is a catalog with a shared database and the tenants acme and brick in it.
func edited(t *testing.T) (bundle, catalog.TenantEditor) {
	t.Helper()
	b := setup(t)
	b.addServer(t)
	b.addTenant(t, "acme")
	b.addTenant(t, "brick")
	return b, b.Editor()
}

func TestChangeTenants(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	_, err := b.Features().Set(ctx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean, Default: text("no")})
	require.NoError(t, err)
	_, err = b.Features().Set(ctx, "seats", catalog.FeatureChange{Type: catalog.FeatureNumber})
	require.NoError(t, err)
	_, err = b.Plans().Set(ctx, "pro", catalog.PlanChange{Features: map[string]*string{"seats": text("40")}})
	require.NoError(t, err)

	changed, err := editor.Change(ctx, []string{"acme", "brick"}, catalog.TenantChange{
		Plan: text("pro"), Timezone: text("Europe/Paris"), Labels: map[string]*string{"tier": text("gold"), "none": nil}, Features: map[string]*string{"beta": text("on")},
	})
	require.NoError(t, err)
	require.Len(t, changed, 2)
	for _, ch := range changed {
		require.Equal(t, "UTC", ch.Before.Timezone)
		require.Equal(t, []string{"pro", "Europe/Paris", "gold"}, []string{ch.After.Plan, ch.After.Timezone, ch.After.Labels["tier"]})
		require.True(t, ch.After.Feature("beta").Bool())
		require.InDelta(t, 40, ch.After.Feature("seats").Number(0), 0)
		require.Equal(t, ch.Before.Version+1, ch.After.Version)
	}
	changed, err = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Name: text("Acme & Sons"), Features: map[string]*string{"beta": nil}, Labels: map[string]*string{"tier": nil}})
	require.NoError(t, err)
	require.Equal(t, "Acme & Sons", changed[0].After.Name)
	require.False(t, changed[0].After.Feature("beta").Bool(), "the default again")
	require.Empty(t, changed[0].After.Labels)
}

// What is wrong changes nothing of any tenant, and is said in a sentence.
func TestChangeTenantsRefuses(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	_, err := b.Features().Set(ctx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean})
	require.NoError(t, err)
	both := []string{"acme", "brick"}
	for name, c := range map[string]struct {
		of     []string
		change catalog.TenantChange
		want   string
	}{
		"unknown tenant":  {[]string{"acme", "nobody"}, catalog.TenantChange{Plan: text("pro")}, `no tenant has the slug, UUID or org_id "nobody"`},
		"no name":         {both, catalog.TenantChange{Name: text("")}, "a tenant has a name"},
		"zone":            {both, catalog.TenantChange{Timezone: text("Europe/Pariss")}, `timezone "Europe/Pariss"`},
		"label":           {both, catalog.TenantChange{Labels: map[string]*string{"a b": text("c")}}, "a key must have"},
		"labels":          {both, catalog.TenantChange{Labels: manyLabels(65)}, "at most 64"},
		"unknown feature": {both, catalog.TenantChange{Features: map[string]*string{"nope": text("1")}}, `unknown feature "nope"`},
		"type":            {both, catalog.TenantChange{Features: map[string]*string{"beta": text("1")}}, "it is a switch: give true or false"},
		"one key":         {both, catalog.TenantChange{OrgKey: text("k")}, "2 tenants cannot have one key"},
		"one version":     {both, catalog.TenantChange{Version: 1}, "it is of one tenant"},
		"kind":            {both, catalog.TenantChange{Kinds: &[]string{"a b"}}, "a kind's name is"},
		"version":         {[]string{"acme"}, catalog.TenantChange{Version: 9, Plan: text("pro")}, "it has version 1, not 9"},
	} {
		_, err := editor.Change(ctx, c.of, c.change)
		require.ErrorContains(t, err, c.want, name)
		acme, err := b.Tenant(ctx, "acme")
		require.NoError(t, err)
		require.Equal(t, 1, acme.Version, name)
	}
	_, err = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Version: 9, Plan: text("pro")})
	require.ErrorIs(t, err, catalog.ErrChanged)
}

func manyLabels(n int) map[string]*string {
	labels := map[string]*string{}
	for i := range n {
		labels[fmt.Sprintf("l%d", i)] = text("x")
	}
	return labels
}

// Two who have both seen version 1 of a tenant: one changes it, the other is told.
func TestTwoWritersOfOneTenant(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = editor.Change(context.Background(), []string{"acme"}, catalog.TenantChange{Version: 1, Name: text(fmt.Sprintf("name %d", i))})
		}()
	}
	wg.Wait()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			acme, err := b.Tenant(t.Context(), "acme")
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("name %d", i), acme.Name)
			continue
		}
		require.ErrorIs(t, err, catalog.ErrChanged)
	}
	require.Equal(t, 1, won)
}

// Two tenants want one slug: one has it, the other is told.
func TestTwoWritersOfOneSlug(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, slug := range []string{"acme", "brick"} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, errs[i] = editor.Rename(context.Background(), slug, "crane")
		}()
	}
	wg.Wait()
	require.True(t, (errs[0] == nil) != (errs[1] == nil), "%v, %v", errs[0], errs[1])
	for _, err := range errs {
		if err != nil {
			require.ErrorIs(t, err, catalog.ErrExists)
		}
	}
	_, err := b.Tenant(t.Context(), "crane")
	require.NoError(t, err)
}

// A value is not given to a feature that is being taken away, and a feature is not taken
// away that is being given a value.
func TestAFeatureIsNotLostBetweenTwoWriters(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	for range 20 {
		_, err := b.Features().Set(ctx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean})
		require.NoError(t, err)
		var wg sync.WaitGroup
		var given, removed error
		wg.Add(2)
		go func() {
			defer wg.Done()
			_, given = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Features: map[string]*string{"beta": text("on")}})
		}()
		go func() { defer wg.Done(); removed = b.Features().Remove(ctx, "beta") }()
		wg.Wait()
		require.True(t, (given == nil) != (removed == nil), "given: %v; removed: %v", given, removed)
		if given != nil {
			require.ErrorIs(t, given, catalog.ErrUnknownFeature)
			continue
		}
		require.ErrorIs(t, removed, catalog.ErrReferred)
		_, err = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Features: map[string]*string{"beta": nil}})
		require.NoError(t, err)
		require.NoError(t, b.Features().Remove(ctx, "beta"))
	}
}

func TestStatusOfTenants(t *testing.T) {
	t.Parallel()
	_, editor := edited(t)
	ctx := access.With(t.Context(), access.Actor{Name: "ines"})
	changed, err := editor.SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Reason: " invoice 4711 ", Waiting: catalog.CancelWaiting})
	require.NoError(t, err)
	after := changed[0].After
	require.Equal(t, []any{catalog.Suspended, "invoice 4711", "ines", catalog.CancelWaiting}, []any{after.Status, after.StatusReason, after.StatusBy, after.Waiting})
	require.True(t, after.StatusSince.After(changed[0].Before.StatusSince))
	again, err := editor.SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Reason: "still open"})
	require.NoError(t, err)
	require.Equal(t, after.StatusSince, again[0].After.StatusSince)
	require.Equal(t, catalog.CancelWaiting, again[0].After.Waiting)
	other := access.With(t.Context(), access.Actor{Name: "otto"})
	same, err := editor.SetStatus(other, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Waiting: catalog.HoldWaiting})
	require.NoError(t, err)
	require.Equal(t, []any{"still open", "ines", catalog.HoldWaiting}, []any{same[0].After.StatusReason, same[0].After.StatusBy, same[0].After.Waiting}, "without a reason the reason stays")
	for _, reason := range []string{"", "still open"} {
		same, err = editor.SetStatus(other, []string{"acme"}, catalog.StatusChange{To: catalog.Suspended, Reason: reason})
		require.NoError(t, err)
		require.Equal(t, same[0].Before, same[0].After, "no row is written")
	}
	back, err := editor.SetStatus(ctx, []string{"acme"}, catalog.StatusChange{To: catalog.Active})
	require.NoError(t, err)
	require.Equal(t, []any{"", catalog.HoldWaiting}, []any{back[0].After.StatusReason, back[0].After.Waiting})
	for want, change := range map[string]catalog.StatusChange{
		"a removal takes more along": {To: catalog.Removed}, "give hold or cancel": {To: catalog.Suspended, Waiting: "keep"}, "501 characters": {To: catalog.Suspended, Reason: strings.Repeat("x", 501)}, "status": {To: "gone"},
	} {
		_, err := editor.SetStatus(ctx, []string{"acme"}, change)
		require.ErrorContains(t, err, want)
	}
}

// A removed tenant's names are free for another one, and its UUID and org_id are not, who-
// ever asks for them.
func TestRemoveATenant(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	require.NoError(t, b.Domains().Add(ctx, "acme", "acme.example", catalog.DomainCustom))
	require.NoError(t, b.Domains().AddEmail(ctx, "acme", "acme.example"))
	acme, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)

	removals, err := editor.Remove(ctx, []string{"acme"}, &catalog.RemoveOpts{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{removals[0].Domains, removals[0].Emails})
	still, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, acme, still, "a dry run")

	_, err = editor.Remove(ctx, []string{"acme", "nobody"}, nil)
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	_, err = editor.Remove(ctx, []string{"acme"}, &catalog.RemoveOpts{Reason: "contract ended"})
	require.NoError(t, err)
	_, err = b.Tenant(ctx, "acme")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	_, err = b.ResolveHost(ctx, "acme.example")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	gone, err := b.Tenant(ctx, acme.ID)
	require.NoError(t, err)
	require.Equal(t, []any{catalog.Removed, "contract ended", acme.OrgID}, []any{gone.Status, gone.StatusReason, gone.OrgID})
	_, err = editor.Change(ctx, []string{acme.ID}, catalog.TenantChange{Plan: text("pro")})
	require.ErrorContains(t, err, "was removed on")
	_, err = editor.SetStatus(ctx, []string{acme.ID}, catalog.StatusChange{To: catalog.Active})
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)

	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "acme", OrgID: acme.OrgID, Database: acme.Database})
	require.ErrorContains(t, err, fmt.Sprintf("org_id %d is taken already", acme.OrgID))
	next, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "acme", Database: acme.Database})
	require.NoError(t, err)
	require.Greater(t, next.OrgID, acme.OrgID)
	require.NoError(t, b.Domains().Add(ctx, "acme", "acme.example", catalog.DomainCustom))

	listed, _, err := b.Tenants(ctx, catalog.TenantFilter{})
	require.NoError(t, err)
	require.Len(t, listed, 2)
	listed, _, err = b.Tenants(ctx, catalog.TenantFilter{Status: catalog.Removed})
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.NoError(t, b.SetStatus(ctx, "brick", catalog.Moving))
	_, err = editor.Remove(ctx, []string{"brick"}, nil)
	require.ErrorIs(t, err, jobs.ErrTenantMoving)
}

// Nobody deletes a tenant's row along with what refers to it.
func TestATenantsRowIsNotDeletedWithAllItHas(t *testing.T) {
	t.Parallel()
	b, _ := edited(t)
	require.NoError(t, b.Domains().Add(t.Context(), "acme", "acme.example", catalog.DomainCustom))
	_, err := b.pool.Exec(t.Context(), `DELETE FROM headgate.tenants WHERE slug = 'acme'`)
	require.ErrorContains(t, err, "tenant_domains")
}

func TestPlansAndFeatures(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	_, err := b.Features().Set(ctx, "skin", catalog.FeatureChange{Default: text("plain")})
	require.ErrorContains(t, err, "say whether it is a boolean, a number or a string")
	_, err = b.Features().Set(ctx, "Skin", catalog.FeatureChange{Type: catalog.FeatureString})
	require.ErrorContains(t, err, "it must match")
	skin, err := b.Features().Set(ctx, "skin", catalog.FeatureChange{Type: catalog.FeatureString, Default: text("plain")})
	require.NoError(t, err)
	require.JSONEq(t, `"plain"`, string(skin.Default))
	_, err = b.Features().Set(ctx, "skin", catalog.FeatureChange{Type: catalog.FeatureNumber})
	require.ErrorContains(t, err, "the default of skin is a string")
	_, err = b.Features().Require(ctx, "skin", catalog.Gate{Kind: "note"})
	require.ErrorContains(t, err, "only a switch")

	plan, err := b.Plans().Set(ctx, "pro", catalog.PlanChange{Note: text("the middle one"), Features: map[string]*string{"skin": text("dark")}, Kinds: &[]string{"note"}})
	require.NoError(t, err)
	require.Equal(t, []string{"note"}, plan.Kinds)
	_, err = b.Features().Set(ctx, "skin", catalog.FeatureChange{Type: catalog.FeatureNumber, Default: text("1")})
	require.ErrorIs(t, err, catalog.ErrReferred)
	require.ErrorIs(t, b.Features().Remove(ctx, "skin"), catalog.ErrReferred)
	_, err = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Plan: text("pro")})
	require.NoError(t, err)
	require.ErrorIs(t, b.Plans().Remove(ctx, "pro"), catalog.ErrReferred)
	plan, err = b.Plans().Set(ctx, "pro", catalog.PlanChange{Features: map[string]*string{"skin": nil}, Kinds: new([]string)})
	require.NoError(t, err)
	require.Equal(t, []any{"the middle one", 1, 0}, []any{plan.Note, plan.Tenants, len(plan.Features)})
	require.Nil(t, plan.Kinds)
	require.NoError(t, b.Features().Remove(ctx, "skin"))
	require.ErrorIs(t, b.Features().Remove(ctx, "skin"), catalog.ErrUnknownFeature)
	_, err = editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Plan: text("free")})
	require.NoError(t, err)
	require.NoError(t, b.Plans().Remove(ctx, "pro"))
	_, err = b.Plans().Get(ctx, "pro")
	require.ErrorIs(t, err, catalog.ErrUnknownPlan)
	require.ErrorContains(t, b.Plans().Remove(ctx, ""), "stays")
}

func TestBrands(t *testing.T) {
	t.Parallel()
	b, _ := edited(t)
	ctx := t.Context()
	acme, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)
	brand, err := b.Brands().Set(ctx, "acme", 1, "Fern")
	require.NoError(t, err)
	require.Equal(t, acme.OrgID*10_000+1, brand.OrgBrandID)
	_, err = b.Brands().Set(ctx, "acme", 1, "Moss")
	require.NoError(t, err)
	for _, id := range []int{-1, 10_000} {
		_, err = b.Brands().Set(ctx, "acme", id, "Moss")
		require.ErrorContains(t, err, "give 0 to 9999")
		_, err = b.pool.Exec(ctx, `INSERT INTO headgate.brands (tenant_id, org_id, brand_id, name) VALUES ($1, $2, $3, 'Moss')`, acme.ID, acme.OrgID, id)
		require.ErrorContains(t, err, "brands_brand_id_check", "by SQL too")
	}
	list, _, err := b.Brands().List(ctx, "acme", jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []catalog.Brand{{Tenant: "acme", BrandID: 1, OrgBrandID: brand.OrgBrandID, Name: "Moss"}}, list)
	require.NoError(t, b.Brands().Remove(ctx, "acme", 1))
	require.ErrorIs(t, b.Brands().Remove(ctx, "acme", 1), jobs.ErrUnknownBrand)
}

// A slug that a grant of headgate.enqueue names is not given up: the next tenant of that
// name would be the grant's.
func TestASlugThatAGrantNamesStays(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	for selector, path := range map[string]string{"tenant = acme": "tenants", "tenant = acme or plan = pro": "path"} {
		parsed, err := selectors.Parse(selector)
		require.NoError(t, err)
		_, err = b.pool.Exec(ctx, `INSERT INTO headgate.enqueue_grants (role, kind, selector, selection) VALUES ('shop', 'note', $1, jsonb_populate_record(NULL::headgate.selection, $2))`, selector, parsed.Selection())
		require.NoError(t, err)
		_, err = editor.Rename(ctx, "acme", "crane")
		require.ErrorIs(t, err, catalog.ErrReferred, path)
		require.ErrorContains(t, err, "`headgate enqueue-grant remove shop note` takes the grant out first", path)
		_, err = editor.Remove(ctx, []string{"acme"}, nil)
		require.ErrorIs(t, err, catalog.ErrReferred, path)
		_, err = b.pool.Exec(ctx, `DELETE FROM headgate.enqueue_grants`)
		require.NoError(t, err)
	}
	_, err := editor.Rename(ctx, "acme", "crane")
	require.NoError(t, err)
}

// beside runs the same for two who begin together, and returns what each was told.
func beside(one, two func() error) (errs [2]error) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i, do := range []func() error{one, two} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-begin
			errs[i] = do()
		}()
	}
	close(begin)
	wg.Wait()
	return errs
}

// oneWins says that one of two has got what both wanted, and that the other is told why not.
func oneWins(t *testing.T, errs [2]error, told error) (winner int) {
	t.Helper()
	require.True(t, (errs[0] == nil) != (errs[1] == nil), "%v", errs)
	if errs[0] == nil {
		require.ErrorIs(t, errs[1], told)
		return 0
	}
	require.ErrorIs(t, errs[0], told)
	return 1
}

// Two tenants want one domain, and one name of e-mail addresses.
func TestTwoWritersOfOneDomain(t *testing.T) {
	t.Parallel()
	b, _ := edited(t)
	ctx := t.Context()
	slugs := []string{"acme", "brick"}
	for i := range 10 {
		domain := fmt.Sprintf("d%d.example", i)
		add := func(n int) func() error {
			return func() error { return b.Domains().Add(ctx, slugs[n], domain, catalog.DomainCustom) }
		}
		winner := oneWins(t, beside(add(0), add(1)), catalog.ErrExists)
		owner, err := b.ResolveHost(ctx, domain)
		require.NoError(t, err)
		require.Equal(t, slugs[winner], owner.Slug)
		email := func(n int) func() error {
			return func() error { return b.Domains().AddEmail(ctx, slugs[n], domain) }
		}
		winner = oneWins(t, beside(email(0), email(1)), catalog.ErrExists)
		owner, err = b.ResolveEmail(ctx, "ines@"+domain)
		require.NoError(t, err)
		require.Equal(t, slugs[winner], owner.Slug)
	}
}

// Two databases want one name: two that are new, a new one and one that is renamed, and two
// that are renamed.
func TestTwoWritersOfOneDatabaseName(t *testing.T) {
	t.Parallel()
	b, _ := edited(t)
	ctx := t.Context()
	add := func(name, dbname string) func() error {
		return func() error {
			params := databaseParams(name, catalog.KindShared)
			params.Job, params.Owner = login(dbname+"_job", dbname), login(dbname+"_owner", dbname)
			_, err := b.AddDatabase(ctx, params)
			return err
		}
	}
	rename := func(from, to string) func() error {
		return func() error { _, err := b.Hosting().RenameDatabase(ctx, from, to); return err }
	}
	for what, two := range map[string][2]func() error{
		"new-new":   {add("new-new", "a1"), add("new-new", "a2")},
		"new-named": {add("new-named", "a3"), rename("acme", "new-named")},
	} {
		oneWins(t, beside(two[0], two[1]), catalog.ErrExists)
		_, err := b.Hosting().Database(ctx, what)
		require.NoError(t, err)
	}
	require.NoError(t, add("left", "a4")())
	require.NoError(t, add("right", "a5")())
	oneWins(t, beside(rename("left", "both"), rename("right", "both")), catalog.ErrExists)
}

// Two see a tenant without a feature's value, and each gives it another.
func TestTwoWritersOfOneFeature(t *testing.T) {
	t.Parallel()
	b, editor := edited(t)
	ctx := t.Context()
	_, err := b.Features().Set(ctx, "seats", catalog.FeatureChange{Type: catalog.FeatureNumber})
	require.NoError(t, err)
	for range 10 {
		seen, err := b.Tenant(ctx, "acme")
		require.NoError(t, err)
		set := func(value string) func() error {
			return func() error {
				_, err := editor.Change(ctx, []string{"acme"}, catalog.TenantChange{Version: seen.Version, Features: map[string]*string{"seats": text(value)}})
				return err
			}
		}
		values := []string{fmt.Sprint(seen.Version), fmt.Sprint(seen.Version + 1000)}
		winner := oneWins(t, beside(set(values[0]), set(values[1])), catalog.ErrChanged)
		after, err := b.Tenant(ctx, "acme")
		require.NoError(t, err)
		require.Equal(t, values[winner], fmt.Sprint(after.Feature("seats").Number(0)))
	}
}
