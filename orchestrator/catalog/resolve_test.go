package catalog_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestTenantByEveryName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addTenant(t, "other")
	acme := b.addTenant(t, "acme")
	names := []string{"acme", acme.ID, strings.ToUpper(acme.ID), strconv.FormatInt(acme.OrgID, 10)}
	for _, name := range names {
		got, err := b.Tenant(ctx, name)
		require.NoError(t, err, name)
		require.Equal(t, acme, got)
	}
	found, err := b.TenantsByName(ctx, append(names, "other", "acme"))
	require.NoError(t, err)
	require.Len(t, found, 5)
	for _, name := range names {
		require.Equal(t, acme, found[name])
	}

	_, err = b.Tenant(ctx, "")
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	for _, name := range []string{"nope", "Acme", "acme ", "0", "-1", "01", "+2", "99", "99999999999999999999", "00000000-0000-0000-0000-000000000000",
		"urn:uuid:" + acme.ID, "{" + acme.ID + "}", "%", "a\x00", "\xff", "' or true --"} {
		_, err = b.Tenant(ctx, name)
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		require.EqualError(t, err, fmt.Sprintf("unknown tenant: no tenant has the slug, UUID or org_id %q", name))
	}
	_, err = b.TenantsByName(ctx, []string{"x4", "acme", "x2", "x5", "x1", "x3"})
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	require.EqualError(t, err, `unknown tenant: no tenant has the slug, UUID or org_id "x1", "x2", "x3" and 2 more`)
	_, err = b.TenantsByName(ctx, []string{"acme", ""})
	require.ErrorIs(t, err, jobs.ErrNoTenant)
	found, err = b.TenantsByName(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestResolveTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	server := b.addServer(t)
	acme := b.addTenant(t, "acme")

	for _, which := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
		tenant, place, err := b.ResolveTenant(ctx, acme.ID, which)
		require.NoError(t, err)
		require.Equal(t, acme.Tenant, tenant)
		a, err := place.Open(ctx)
		require.NoError(t, err)
		require.Equal(t, login("acme_"+which.String(), "acme").Canonical(address.TLS), a)
		newer, err := place.Reload(ctx)
		require.NoError(t, err)
		require.Equal(t, place.Version, newer.Version)
		key, err := place.SigningKey(ctx)
		require.NoError(t, err)
		require.Len(t, key.Reveal(), 64)
		place.Open, place.Reload, place.SigningKey = nil, nil, nil
		require.Equal(t, address.Place{
			ServerID: server.ID, Server: server.Name, Budget: 20, Version: 1, DatabaseID: acme.DatabaseID, Database: "acme", Login: which.String(),
			OrgID: acme.OrgID, OrgKey: acme.OrgKey, Generation: 1, Transport: address.TLS, Pooler: address.NoPooler,
		}, place)
	}

	place, err := b.ResolveDatabase(ctx, acme.DatabaseID, jobs.LoginOwner)
	require.NoError(t, err)
	require.Zero(t, place.OrgID)
	require.Zero(t, place.Generation)
	require.Equal(t, "acme_owner", b.open(t, "acme", jobs.LoginOwner).User)
}

func TestResolveRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")

	for status, want := range map[catalog.Status]error{
		catalog.Provisioning: jobs.ErrTenantSuspended, catalog.Suspended: jobs.ErrTenantSuspended, catalog.Archived: jobs.ErrTenantSuspended, catalog.Moving: jobs.ErrTenantMoving,
	} {
		require.NoError(t, b.SetStatus(ctx, "acme", status))
		tenant, place, err := b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
		require.ErrorIs(t, err, want)
		require.ErrorContains(t, err, `"acme"`)
		require.Zero(t, tenant)
		require.Nil(t, place.Open)
	}
	for _, id := range []string{"", "acme", "1", "00000000-0000-0000-0000-000000000000"} {
		_, _, err := b.ResolveTenant(ctx, id, jobs.LoginJob)
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	}
	_, err := b.ResolveDatabase(ctx, "nope", jobs.LoginJob)
	require.ErrorIs(t, err, jobs.ErrUnknownDatabase)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, _, err = b.ResolveTenant(ended, acme.ID, jobs.LoginOwner) // which is not remembered
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, jobs.ErrUnknownTenant)
}

// An address is held to its server's row as it is when the place is resolved,
// whatever was allowed when the address was sealed.
func TestPlaceFollowsTheServersRules(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	_, err := b.pool.Exec(ctx, "UPDATE headgate.servers SET hosts = '{db9.example.com}'")
	require.NoError(t, err)
	_, place, err := b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	_, err = place.Open(ctx)
	require.EqualError(t, err, `the job address of database "acme": it does not fit its server any more: host: "db1.example.com" is not one of the server's hosts (db9.example.com)`)
	require.NotErrorIs(t, err, address.ErrUndecryptable)
}

// What was sealed is what the server wants: each login connects as itself.
func TestAPlaceLeadsThere(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := t.Context()
	there := env.Database("there", jobstest.DatabaseOpts{})
	for login, want := range map[jobs.Login]address.Address{jobs.LoginJob: there.Job, jobs.LoginOwner: there.Owner} {
		place, err := env.Catalog.ResolveDatabase(ctx, "there", login)
		require.NoError(t, err)
		a, err := place.Open(ctx)
		require.NoError(t, err)
		conn := connect(t, a)
		var user, database string
		require.NoError(t, conn.QueryRow(ctx, "SELECT current_user, current_database()").Scan(&user, &database))
		require.Equal(t, want.User, user)
		require.Equal(t, want.Database, database)
		require.NoError(t, conn.Close(ctx))
	}
}

func connect(t *testing.T, a address.Address) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig("")
	require.NoError(t, err)
	config.Host, config.Port, config.Database, config.User, config.Password = a.Host, uint16(a.Port), a.Database, a.User, a.Password.Reveal()
	config.TLSConfig, config.Fallbacks = nil, nil
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	return conn
}

// One query, by index, on whatever names.
func TestResolvingWalksIndexes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addMany(t, 5000)
	_, err := b.pool.Exec(ctx, "ANALYZE headgate.tenants")
	require.NoError(t, err)

	conn, err := b.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for _, statement := range []string{
		"SET plan_cache_mode = force_generic_plan",
		"PREPARE by_name (text[], uuid[], bigint[]) AS " + catalog.TenantsByNameSQL,
		"PREPARE by_id (uuid, boolean) AS " + catalog.ResolveTenantSQL,
	} {
		_, err = conn.Exec(ctx, statement)
		require.NoError(t, err)
	}
	for _, statement := range []string{
		"EXPLAIN EXECUTE by_name ('{t1}', NULL, NULL)",
		"EXPLAIN EXECUTE by_id ('00000000-0000-0000-0000-000000000000', true)",
	} {
		var plan string
		rows, err := conn.Query(ctx, statement)
		require.NoError(t, err)
		for rows.Next() {
			plan += string(rows.RawValues()[0]) + "\n"
		}
		require.NoError(t, rows.Err())
		require.NotContains(t, plan, "Seq Scan on tenants", plan)
	}
}

func TestOpenNeedsAKey(t *testing.T) {
	b := setup(t)
	t.Setenv("HEADGATE_KEY", "")
	t.Setenv("HEADGATE_KEY_FILE", "")
	_, err := catalog.Open(t.Context(), b.pool)
	require.ErrorIs(t, err, catalog.ErrNoKey)
	t.Setenv("HEADGATE_KEY", catalog.NewKey("k1").Reveal())
	_, err = catalog.Open(t.Context(), b.pool)
	require.NoError(t, err)
}
