package catalog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// The features that a worker, a request and a list are given, by what changes them.
var featureChanges = []struct{ name, sql, want string }{
	{"a default", `INSERT INTO headgate.features (name, type, default_value) VALUES ('skin', 'string', '"plain"')`, "plain"},
	{"another default", `UPDATE headgate.features SET default_value = '"grey"'`, "grey"},
	{"the plan's", `UPDATE headgate.plans SET features = '{"skin": "gold"}' WHERE name = ''`, "gold"},
	{"its own", `UPDATE headgate.tenants SET features = '{"skin": "own"}'`, "own"},
	{"its own no more", `UPDATE headgate.tenants SET features = '{}'`, "gold"},
	{"the plan's no more", `UPDATE headgate.plans SET features = '{}'`, "grey"},
	{"no default", `UPDATE headgate.features SET default_value = NULL`, "absent"},
	{"a default again", `UPDATE headgate.features SET default_value = '"grey"'`, "grey"},
	{"gone", `DELETE FROM headgate.features`, "absent"},
}

func (b bundle) skins(t *testing.T, id string) []string {
	t.Helper()
	ctx := t.Context()
	worker, _, err := b.ResolveTenant(ctx, id, jobs.LoginJob)
	require.NoError(t, err)
	request, err := b.ResolveName(ctx, "acme")
	require.NoError(t, err)
	asked, err := b.Tenant(ctx, "acme")
	require.NoError(t, err)
	return []string{worker.Feature("skin").Text("absent"), request.Feature("skin").Text("absent"), asked.Feature("skin").Text("absent")}
}

// By notification everybody hears of a change of a plan or a default, although answers are
// believed for 10 s.
func TestChangedFeaturesAreHeardOf(t *testing.T) {
	t.Parallel()
	all, acme := processes(t, 2, nil)
	for _, p := range all {
		p.listens(t)
	}
	for _, change := range featureChanges {
		for _, p := range all {
			p.skins(t, acme.ID) // is remembered
		}
		_, err := all[0].pool.Exec(t.Context(), change.sql)
		require.NoError(t, err, change.name)
		for _, p := range all {
			eventually(t, change.name, 5*time.Second, func() bool {
				skins := p.skins(t, acme.ID)
				return skins[0] == change.want && skins[1] == change.want && skins[2] == change.want
			})
		}
	}
}

// A number is one that JSON, Postgres and people read alike, and whose digits are bounded.
func TestNumbersOfFeatures(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0", "-0", "12", "-0.5", "1e3", "1E+039", "9.99e39", "1e-40", "-1e-40", strings.Repeat("9", 40), "0.00000000000000000000000000000000000001"} {
		value, err := catalog.FeatureNumber.Parse("feature seats", text)
		require.NoError(t, err, text)
		require.Equal(t, text, string(value))
	}
	for _, text := range []string{
		"null", "", " 1", "1 ", "1 2", "true", `"1"`, "NaN", "Infinity", "01", "+1", ".5", "5.", "0x10", "1_000", "1,5", "1e41", "-1.1e40", "1e-41", "1e99", "1e999",
		"1e99999", "1e-99999", "0e99999", "1e131071", strings.Repeat("9", 41),
	} {
		_, err := catalog.FeatureNumber.Parse("feature seats", text)
		require.ErrorContains(t, err, "it is a number: give one as 12 or 0.5, of up to 40 characters, and 0 or from 1e-40 to 1e+40 without its sign", text)
	}
}

// Without notifications an answer is confirmed before it is believed for longer: its
// confirmation looks at the plan's row and the defaults too.
func TestChangedFeaturesAreFoundByConfirming(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	now := time.Now()
	b.At(func() time.Time { return now })
	for _, change := range featureChanges {
		b.skins(t, acme.ID)
		_, err := b.pool.Exec(ctx, change.sql)
		require.NoError(t, err, change.name)
		now = now.Add(300 * time.Millisecond) // past the half of the 500 ms
		require.Equal(t, []string{change.want, change.want, change.want}, b.skins(t, acme.ID), change.name)
	}
}

// A tenant that was removed from its database is known by its UUID, and takes no work.
func TestARemovedTenantIsKnown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	_, err := b.pool.Exec(ctx, `UPDATE headgate.tenants SET status = 'removed', slug = id::text, status_reason = 'left us', database_id = NULL, database_kind = NULL`)
	require.NoError(t, err)
	got, err := b.Tenant(ctx, acme.ID)
	require.NoError(t, err)
	require.Empty(t, got.Database+got.DatabaseID+got.Server)
	require.Equal(t, 2, got.Version)
	b.At(func() time.Time { return time.Now().Add(time.Minute) })
	for range 2 { // asked, and from memory
		_, _, err = b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
		require.ErrorIs(t, err, jobs.ErrTenantSuspended)
		require.ErrorContains(t, err, "has status removed (left us)")
		_, err = b.ResolveName(ctx, acme.ID)
		require.ErrorIs(t, err, jobs.ErrTenantSuspended)
	}
}
