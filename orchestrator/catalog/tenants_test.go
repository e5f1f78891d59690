package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestAddTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	shared := b.addDatabase(t, "shared-1", catalog.KindShared)

	acme, err := b.AddTenant(ctx, catalog.TenantParams{
		Slug: "acme", OrgID: 1041, Name: "Acme, Inc.", Plan: "enterprise", Timezone: "Europe/Paris",
		Labels: map[string]string{"tier": "gold", "region": "eu <&>"}, Database: "shared-1",
	})
	require.NoError(t, err)
	require.Equal(t, catalog.Tenant{
		Tenant: jobs.Tenant{
			ID: acme.ID, Slug: "acme", OrgID: 1041, OrgKey: "1041", Name: "Acme, Inc.", Plan: "enterprise", Timezone: "Europe/Paris",
			Labels: map[string]string{"tier": "gold", "region": "eu <&>"}, Features: acme.Features,
		},
		Status: catalog.Active, DatabaseID: shared.ID, Database: "shared-1", Server: "main", Generation: 1,
		Version: 1, StatusSince: acme.StatusSince, Waiting: catalog.HoldWaiting,
	}, acme)
	require.Empty(t, acme.Features.Names())
	require.False(t, acme.StatusSince.IsZero())
	got, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, acme, got)

	least, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "least", Database: strings.ToUpper(shared.ID)})
	require.NoError(t, err)
	require.Equal(t, int64(1042), least.OrgID, "above the highest")
	require.Equal(t, "least", least.Name)
	require.Equal(t, "UTC", least.Timezone)
	got, err = b.Tenant(ctx, "1042")
	require.NoError(t, err)
	require.Equal(t, least, got)
}

// What nobody could read is refused where it is written, past this package too: one such
// row would stop every list of tenants.
func TestALabelThatIsNoText(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	b.addTenant(t, "acme")
	for _, labels := range []string{`{"n": 1}`, `{"n": null}`, `{"a": "b", "n": ["x"]}`, `{"n": {}}`, `[]`} {
		_, err := b.pool.Exec(t.Context(), "UPDATE headgate.tenants SET labels = $1", labels)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, labels)
		require.Equal(t, "23514", refused.Code, labels)
	}
	_, err := b.pool.Exec(t.Context(), `UPDATE headgate.tenants SET labels = '{"n": "1", "": ""}'`)
	require.NoError(t, err)
	tenants, _, err := b.Tenants(t.Context(), catalog.TenantFilter{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"n": "1", "": ""}, tenants[0].Labels)
}

// The number of a tenant that is gone marks its rows in shared tables still: it
// is not given out again. Nor is one that came in past this package.
func TestOrgIDsAreNotGivenTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	first := b.addTenant(t, "first")
	_, err := b.pool.Exec(ctx, "DELETE FROM headgate.tenants")
	require.NoError(t, err)
	second, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "second", Database: "first"})
	require.NoError(t, err)
	require.Equal(t, first.OrgID+1, second.OrgID)

	_, err = b.pool.Exec(ctx, "INSERT INTO headgate.tenants (id, org_id, slug, name, database_id, database_kind) SELECT gen_random_uuid(), 500, 'past', 'past', id, kind FROM headgate.databases")
	require.NoError(t, err)
	mixed, err := b.AddTenants(ctx, []catalog.TenantParams{{Slug: "a", Database: "first"}, {Slug: "b", Database: "first", OrgID: 700}, {Slug: "c", Database: "first"}, {Slug: "d", Database: "first", OrgID: 3}})
	require.NoError(t, err)
	require.Equal(t, []int64{701, 700, 702, 3}, []int64{mixed[0].OrgID, mixed[1].OrgID, mixed[2].OrgID, mixed[3].OrgID})

	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "last", Database: "first", OrgID: catalog.MaxOrgID})
	require.NoError(t, err)
	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "none-left", Database: "first"})
	require.EqualError(t, err, fmt.Sprintf("add tenant: org_id: no next number is free: the highest would be %d, and may be %d; give each new tenant an org_id that nobody had", int64(catalog.MaxOrgID+1), int64(catalog.MaxOrgID)))
}

func TestAddTenantRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	b.addTenant(t, "taken")
	pattern := ": it must match [a-z][a-z0-9-]{0,62}"
	for name, test := range map[string]struct {
		change func(p *catalog.TenantParams)
		want   string
	}{
		"injection":   {func(p *catalog.TenantParams) { p.Slug = "a'; drop table x--" }, `slug "a'; drop table x--"` + pattern},
		"path":        {func(p *catalog.TenantParams) { p.Slug = "../x" }, `slug "../x"` + pattern},
		"case":        {func(p *catalog.TenantParams) { p.Slug = "A_B" }, `slug "A_B"` + pattern},
		"long":        {func(p *catalog.TenantParams) { p.Slug = strings.Repeat("a", 64) }, `slug "` + strings.Repeat("a", 64) + `"` + pattern},
		"very long":   {func(p *catalog.TenantParams) { p.Slug = strings.Repeat("a", 9999) }, `slug "` + strings.Repeat("a", 80) + `"…` + pattern},
		"emoji":       {func(p *catalog.TenantParams) { p.Slug = "🙂" }, `slug "🙂"` + pattern},
		"NUL":         {func(p *catalog.TenantParams) { p.Slug = "a\x00" }, `slug "a\x00"` + pattern},
		"newline":     {func(p *catalog.TenantParams) { p.Slug = "a\n" }, `slug "a\n"` + pattern},
		"empty":       {func(p *catalog.TenantParams) { p.Slug = "" }, `slug` + pattern},
		"digits":      {func(p *catalog.TenantParams) { p.Slug = "17" }, `slug "17"` + pattern},
		"uuid":        {func(p *catalog.TenantParams) { p.Slug = "abcdef01-0000-7000-8000-000000000001" }, `slug "abcdef01-0000-7000-8000-000000000001": it reads as a UUID; choose a name`},
		"reserved":    {func(p *catalog.TenantParams) { p.Slug = "admin" }, `slug "admin": it is reserved (` + strings.Join(catalog.Reserved, ", ") + `); choose another`},
		"taken":       {func(p *catalog.TenantParams) { p.Slug = "taken" }, `slug "taken" is taken already`},
		"org taken":   {func(p *catalog.TenantParams) { p.OrgID = 1 }, `org_id 1 is taken already; leave it out to get the next free one`},
		"org":         {func(p *catalog.TenantParams) { p.OrgID = -1 }, `org_id "-1": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`},
		"org too big": {func(p *catalog.TenantParams) { p.OrgID = 1 << 60 }, `org_id "1152921504606846976": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`},
		"key":         {func(p *catalog.TenantParams) { p.OrgKey = " a" }, `org_key " a": blanks around it and vertical bars are not allowed`},
		"key's bar":   {func(p *catalog.TenantParams) { p.OrgKey = "a|b" }, `org_key "a|b": blanks around it and vertical bars are not allowed`},
		"key taken":   {func(p *catalog.TenantParams) { p.OrgKey = "1" }, `org_key "1" is that of another tenant of the database; its rows would be both tenants'`},
		"long key":    {func(p *catalog.TenantParams) { p.OrgKey = strings.Repeat("x", 201) }, `org_key: 201 characters is too long; at most 200 are allowed`},
		"name":        {func(p *catalog.TenantParams) { p.Name = "a\x00b" }, `name: control characters and invalid UTF-8 are not allowed`},
		"long name":   {func(p *catalog.TenantParams) { p.Name = strings.Repeat("é", 201) }, `name: 201 characters is too long; at most 200 are allowed`},
		"plan":        {func(p *catalog.TenantParams) { p.Plan = strings.Repeat("x", 64) }, `plan: 64 characters is too long; at most 63 are allowed`},
		"label":       {func(p *catalog.TenantParams) { p.Labels = map[string]string{"a b": ""} }, `labels "a b": a key must have up to 63 letters, digits, _ . or -`},
		"label value": {func(p *catalog.TenantParams) { p.Labels = map[string]string{"a": "\n"} }, `labels.a: control characters and invalid UTF-8 are not allowed`},
		"zone":        {func(p *catalog.TenantParams) { p.Timezone = "Mars/Phobos" }, `timezone "Mars/Phobos": unknown IANA time zone "Mars/Phobos": write an IANA name such as "Europe/Berlin" or "UTC"`},
		"database":    {func(p *catalog.TenantParams) { p.Database = "nope" }, `unknown database "nope"`},
	} {
		t.Run(name, func(t *testing.T) {
			params := catalog.TenantParams{Slug: "new", Database: "taken"}
			test.change(&params)
			_, err := b.AddTenant(t.Context(), params)
			require.EqualError(t, err, "add tenant: "+test.want)
		})
	}
	tenants, _, err := b.Tenants(t.Context(), catalog.TenantFilter{})
	require.NoError(t, err)
	require.Len(t, tenants, 1, "nothing was written")
}

// Equal keys are one key, however they are written, and another database is another world.
func TestATenantsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "one", catalog.KindShared)
	b.addDatabase(t, "other", catalog.KindShared)
	const id = "0190abcd-0000-7000-8000-000000000001"
	first, err := b.AddTenant(ctx, catalog.TenantParams{Slug: "first", OrgKey: "{" + strings.ToUpper(id) + "}", Database: "one"})
	require.NoError(t, err)
	require.Equal(t, id, first.OrgKey)
	found, err := b.Tenant(ctx, "first")
	require.NoError(t, err)
	require.Equal(t, first, found)
	_, place, err := b.ResolveTenant(ctx, first.ID, jobs.LoginJob)
	require.NoError(t, err)
	require.Equal(t, id, place.OrgKey)
	for _, same := range []string{id, strings.ReplaceAll(id, "-", ""), "0190-abcd-0000-7000-8000-0000-0000-0001"} {
		_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "second", OrgKey: same, Database: "one"})
		require.ErrorIs(t, err, catalog.ErrExists, same)
	}
	_, err = b.AddTenant(ctx, catalog.TenantParams{Slug: "second", OrgKey: id, Database: "other"})
	require.NoError(t, err)
	for _, odd := range []string{strings.ToUpper(id), "", " x", "a|b"} {
		_, err = b.pool.Exec(ctx, `UPDATE headgate.tenants SET org_key = $1 WHERE slug = 'second'`, odd)
		require.ErrorContains(t, err, "23514", odd)
	}
}

func TestDedicatedDatabaseRefusesASecondTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindDedicated)

	const rivals = 8
	errs := make([]error, rivals)
	var group sync.WaitGroup
	for i := range rivals {
		group.Go(func() {
			_, errs[i] = b.AddTenant(ctx, catalog.TenantParams{Slug: fmt.Sprintf("rival-%d", i), Database: "acme"})
		})
	}
	group.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		require.ErrorIs(t, err, catalog.ErrExists)
		require.EqualError(t, err, `add tenant: database "acme" is dedicated and has its tenant already; use a shared database, or add another`)
		var pgErr *pgconn.PgError
		require.True(t, errors.As(err, &pgErr))
		require.Equal(t, "23505", pgErr.Code)
		require.Equal(t, "tenants_dedicated", pgErr.ConstraintName)
	}
	require.Equal(t, 1, won)
}

func TestAddTenantsInBulk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "shared-1", catalog.KindShared)
	b.addDatabase(t, "shared-2", catalog.KindShared)

	const count = 10_000
	params := make([]catalog.TenantParams, count)
	names := make([]string, count)
	for i := range params {
		names[i] = fmt.Sprintf("tenant-%05d", i)
		params[i] = catalog.TenantParams{
			Slug: names[i], Plan: "freemium", Timezone: "America/New_York",
			Labels: map[string]string{"n": fmt.Sprint(i)}, Database: fmt.Sprintf("shared-%d", 1+i%2),
		}
	}
	start := time.Now()
	tenants, err := b.AddTenants(ctx, params)
	require.NoError(t, err)
	t.Logf("%d tenants in %s", count, time.Since(start))
	require.Len(t, tenants, count)
	require.Equal(t, int64(count), tenants[count-1].OrgID)

	start = time.Now()
	found, err := b.TenantsByName(ctx, names)
	require.NoError(t, err)
	t.Logf("%d tenants resolved in %s", count, time.Since(start))
	for i, name := range names {
		require.Equal(t, tenants[i], found[name])
	}

	params[count-1].Slug = "fresh"
	params[0].Slug = "fresh-too"
	_, err = b.AddTenants(ctx, params)
	require.ErrorIs(t, err, catalog.ErrExists)
	require.EqualError(t, err, `add tenants: slug "tenant-00001" is taken already`)
	_, err = b.Tenant(ctx, "fresh")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant, "all or none")
}

func TestAddTenantsRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "shared", catalog.KindShared)

	none, err := b.AddTenants(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, none)
	for want, params := range map[string][]catalog.TenantParams{
		`slug "a": it is given twice`:           {{Slug: "a", Database: "shared"}, {Slug: "a", Database: "shared"}},
		`org_id "5": it is given twice`:         {{Slug: "a", OrgID: 5, Database: "shared"}, {Slug: "b", OrgID: 5, Database: "shared"}},
		`unknown database "x1", "x2", "x3"`:     {{Slug: "a", Database: "x1"}, {Slug: "b", Database: "x3"}, {Slug: "c", Database: "x2"}, {Slug: "d", Database: "shared"}},
		`unknown database "x1", "x2", "x3" an`:  {{Slug: "a", Database: "x1"}, {Slug: "b", Database: "x3"}, {Slug: "c", Database: "x2"}, {Slug: "d", Database: "x4"}},
		`tenant "B" (number 2): slug "B": it m`: {{Slug: "a", Database: "shared"}, {Slug: "B", Database: "shared"}},
	} {
		_, err := b.AddTenants(ctx, params)
		require.ErrorContains(t, err, "add tenants: "+want)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	one, two := b.addDatabase(t, "one", catalog.KindShared), b.addDatabase(t, "two", catalog.KindShared)
	_, err := b.AddTenants(ctx, []catalog.TenantParams{
		{Slug: "a", Plan: "free", Database: "one"}, {Slug: "b", Plan: "pro", Database: "two"},
		{Slug: "c", Plan: "pro", Database: "one"}, {Slug: "d", Plan: "free", Database: "two"},
	})
	require.NoError(t, err)
	require.NoError(t, b.SetStatus(ctx, "d", catalog.Archived))

	for want, filter := range map[string]catalog.TenantFilter{
		"abcd": {}, "ac": {Database: "one"}, "bd": {Database: two.ID}, "bc": {Plan: "pro"}, "d": {Status: catalog.Archived},
		"c": {Database: one.ID, Plan: "pro"}, "ab b": {Page: jobs.Page{Limit: 2}}, "cd": {Page: jobs.Page{After: "b", Limit: 2}}, "": {Database: "nope"},
	} {
		tenants, next, err := b.Tenants(ctx, filter)
		require.NoError(t, err)
		var got string
		for _, tenant := range tenants {
			got += tenant.Slug
		}
		require.Equal(t, want, strings.TrimSpace(got+" "+next), "%+v", filter)
	}
	_, _, err = b.Tenants(ctx, catalog.TenantFilter{Page: jobs.Page{Limit: -1}})
	require.EqualError(t, err, "list tenants: limit \"-1\": give 1 to 10000, or 0 for 200")
	_, _, err = b.Tenants(ctx, catalog.TenantFilter{Status: "actve"})
	require.ErrorAs(t, err, new(*jobs.InputError))
	require.EqualError(t, err, "list tenants: status \"actve\": give provisioning, active, suspended, moving, archived or removed")
}

func TestSetStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	for i, status := range []catalog.Status{catalog.Suspended, catalog.Moving, catalog.Archived, catalog.Provisioning, catalog.Active} {
		name := []string{"acme", acme.ID, "1"}[i%3]
		require.NoError(t, b.SetStatus(ctx, name, status))
		got, err := b.Tenant(ctx, "acme")
		require.NoError(t, err)
		require.Equal(t, status, got.Status)
	}
	require.EqualError(t, b.SetStatus(ctx, "acme", "x"), `set status: status "x": give provisioning, active, suspended, moving or archived`)
	require.ErrorIs(t, b.SetStatus(ctx, "nope", catalog.Active), jobs.ErrUnknownTenant)
}

// A page of a database's tenants begins behind an org_id, which no rename moves, and has
// every status.
func TestTenantsIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	one, _ := b.addDatabase(t, "one", catalog.KindShared), b.addDatabase(t, "two", catalog.KindShared)
	_, err := b.AddTenants(ctx, []catalog.TenantParams{
		{Slug: "a", OrgID: 50, Database: "one"}, {Slug: "b", OrgID: 40, Database: "one"}, {Slug: "c", OrgID: 30, Database: "one"},
		{Slug: "d", OrgID: 20, Database: "two"}, {Slug: "e", OrgID: 10, Database: "one"},
	})
	require.NoError(t, err)
	require.NoError(t, b.SetStatus(ctx, "b", catalog.Archived))
	list, err := b.TenantsIn(ctx, one.ID, 10, 2)
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []any{"c", int64(30), "b", catalog.Archived}, []any{list[0].Slug, list[0].OrgID, list[1].Slug, list[1].Status})
	_, err = b.TenantsIn(ctx, "one", 0, 2)
	require.ErrorContains(t, err, `is not the UUID of one`)
}
