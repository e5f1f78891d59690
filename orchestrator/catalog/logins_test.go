package catalog_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// open resolves a login of a database and unseals it.
func (b bundle) open(t *testing.T, database string, which jobs.Login) address.Address {
	t.Helper()
	place, err := b.ResolveDatabase(t.Context(), database, which)
	require.NoError(t, err)
	a, err := place.Open(t.Context())
	require.NoError(t, err)
	return a
}

func TestSetLogin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addDatabase(t, "acme", catalog.KindShared)
	before, err := b.ResolveDatabase(ctx, "acme", jobs.LoginJob)
	require.NoError(t, err)

	rotated := login("acme_job", "acme")
	rotated.Password = address.NewSecret("rotated")
	rotated.Host = "DB1-standby.example.com."
	require.NoError(t, b.Logins().Set(ctx, "acme", jobs.LoginJob, rotated))

	got := b.open(t, "acme", jobs.LoginJob)
	require.Equal(t, "rotated", got.Password.Reveal())
	require.Equal(t, "db1-standby.example.com", got.Host)
	require.Equal(t, "verify-full", got.SSLMode)
	require.Equal(t, login("acme_owner", "acme").Canonical(address.TLS), b.open(t, "acme", jobs.LoginOwner), "the other login stays")
	old, err := before.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, planted+"-acme_job", old.Password.Reveal(), "a place resolved before keeps what it has")

	require.NoError(t, b.Logins().Set(ctx, acme.ID, jobs.LoginOwner, login("other_owner", "acme")))
	require.Equal(t, "other_owner", b.open(t, acme.ID, jobs.LoginOwner).User)
	require.Equal(t, "rotated", b.open(t, "acme", jobs.LoginJob).Password.Reveal())
}

func TestSetLoginRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindShared)

	err := b.Logins().Set(ctx, "nope", jobs.LoginJob, login("u", "acme"))
	require.ErrorIs(t, err, jobs.ErrUnknownDatabase)
	require.EqualError(t, err, `set the job login of database "nope": unknown database "nope"`)
	err = b.Logins().Set(ctx, "acme", jobs.LoginJob, login("u", "other"))
	require.EqualError(t, err, `set the job login of database "acme": job: the address leads to database "other", not to "acme"`)
	err = b.Logins().Set(ctx, "acme", jobs.LoginJob, login("acme_owner", "acme"))
	require.ErrorContains(t, err, `its user "acme_owner" is the job login's too`)
	err = b.Logins().Set(ctx, "acme", jobs.LoginOwner, login("acme_job", "acme"))
	require.ErrorContains(t, err, `its user "acme_job" is the job login's too`)
	err = b.Logins().Set(ctx, "acme", 7, login("u", "acme"))
	require.EqualError(t, err, `set login of database "acme": login "7": give jobs.LoginJob or jobs.LoginOwner`)
	elsewhere := login("u", "acme")
	elsewhere.Host = "evil.example.com"
	err = b.Logins().Set(ctx, "acme", jobs.LoginJob, elsewhere)
	require.ErrorContains(t, err, `host: "evil.example.com" is not one of the server's hosts`)
	require.NotContains(t, err.Error(), planted)

	require.Equal(t, "acme_job", b.open(t, "acme", jobs.LoginJob).User, "nothing was written")
}

// Setting both logins anew brings a database back whose key is lost.
func TestSetLoginAfterALostKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindShared)

	found := bundle{Catalog: catalog.New(b.pool, ringOf(t, "k2"))}
	place, err := found.ResolveDatabase(ctx, "acme", jobs.LoginJob)
	require.NoError(t, err)
	_, err = place.Open(ctx)
	require.ErrorIs(t, err, address.ErrUndecryptable)
	require.EqualError(t, err, `the job address of database "acme": the sealed address cannot be opened: it was sealed with key "k1", which the ring (k2) lacks; add that key behind the first of the ring (HEADGATE_KEY or the file of HEADGATE_KEY_FILE)`)

	require.NoError(t, found.Logins().Set(ctx, "acme", jobs.LoginJob, login("u", "acme")))
	require.ErrorContains(t, found.Logins().Set(ctx, "acme", jobs.LoginOwner, login("u", "acme")), "is the job login's too")
	require.NoError(t, found.Logins().Set(ctx, "acme", jobs.LoginOwner, login("o", "acme")))
	require.Equal(t, "u", found.open(t, "acme", jobs.LoginJob).User)
	require.Equal(t, "o", found.open(t, "acme", jobs.LoginOwner).User)
}

// P17 in the table itself: an address put into another row or column, or beside
// another version, does not open.
func TestSwappedAddressesDoNotOpen(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]string{
		"rows": `UPDATE headgate.databases d SET job_login = o.job_login, owner_login = o.owner_login
		         FROM headgate.databases o WHERE o.id <> d.id`,
		"columns": `UPDATE headgate.databases SET job_login = owner_login, owner_login = job_login`,
		"version": `UPDATE headgate.databases SET job_version = 2, owner_version = 3`,
		"cut":     `UPDATE headgate.databases SET job_login = ''::bytea, owner_login = substr(owner_login, 1, 50)`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			ctx := t.Context()
			b.addServer(t)
			b.addDatabase(t, "one", catalog.KindShared)
			b.addDatabase(t, "two", catalog.KindShared)
			_, err := b.pool.Exec(ctx, swap)
			require.NoError(t, err)
			for _, database := range []string{"one", "two"} {
				for _, which := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
					place, err := b.ResolveDatabase(ctx, database, which)
					require.NoError(t, err)
					a, err := place.Open(ctx)
					require.ErrorIs(t, err, address.ErrUndecryptable)
					require.Zero(t, a)
				}
			}
		})
	}
}

// Whatever the order, both columns open afterwards and hold one of the
// addresses that were set, and each call counted.
func TestSetLoginConcurrently(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindShared)

	const calls = 40
	errs := make([]error, calls)
	var group sync.WaitGroup
	for i := range calls {
		group.Go(func() {
			which := jobs.Login(i % 2)
			errs[i] = b.Logins().Set(ctx, "acme", which, login(fmt.Sprintf("%s_%d", which, i), "acme"))
		})
	}
	group.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Regexp(t, `^job_\d+$`, b.open(t, "acme", jobs.LoginJob).User)
	require.Regexp(t, `^owner_\d+$`, b.open(t, "acme", jobs.LoginOwner).User)
	var jobVersion, ownerVersion int
	require.NoError(t, b.pool.QueryRow(ctx, "SELECT job_version, owner_version FROM headgate.databases").Scan(&jobVersion, &ownerVersion))
	require.Equal(t, 1+calls/2, jobVersion)
	require.Equal(t, 1+calls/2, ownerVersion)
}
