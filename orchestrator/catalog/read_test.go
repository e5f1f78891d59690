package catalog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A database has a read address once it is given one, until that is taken out: with the job
// login's user, at another place of the server. Places of the job login know it.
func TestSetRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	place := func(login jobs.Login) address.Place {
		_, place, err := b.ResolveTenant(ctx, acme.ID, login)
		require.NoError(t, err)
		whole, err := b.ResolveDatabase(ctx, "acme", login)
		require.NoError(t, err)
		require.Equal(t, whole.OpenRead == nil, place.OpenRead == nil)
		require.Equal(t, whole.ReadVersion, place.ReadVersion)
		return place
	}
	listed := func() bool {
		databases, _, err := b.Databases(ctx, jobs.Page{})
		require.NoError(t, err)
		return databases[0].ReadAddress
	}
	_, some := place(jobs.LoginJob).Replica()
	require.False(t, some)
	require.False(t, listed())

	read := login("acme_job", "acme")
	read.Host, read.Port = "db1-standby.example.com", 6000
	require.NoError(t, b.Logins().SetRead(ctx, "acme", read))
	own := place(jobs.LoginJob)
	replica, some := own.Replica()
	require.True(t, some)
	require.True(t, replica.Reading)
	a, err := replica.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, read.Canonical(address.TLS), a)
	a, err = own.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, "db1.example.com", a.Host, "the login's own address stays")
	require.True(t, listed())
	_, some = place(jobs.LoginOwner).Replica()
	require.False(t, some, "the owner's login has none")
	_, some = replica.Replica()
	require.False(t, some)

	require.NoError(t, b.Logins().RemoveRead(ctx, "acme"))
	_, some = place(jobs.LoginJob).Replica()
	require.False(t, some)
	require.False(t, listed())
	require.NoError(t, b.Logins().RemoveRead(ctx, "acme"), "there is none")
	require.NoError(t, b.Logins().SetRead(ctx, "acme", read))
	again, some := place(jobs.LoginJob).Replica()
	require.True(t, some)
	require.Greater(t, again.Version, replica.Version, "a version is not given twice")

	require.NoError(t, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.Logins().RemoveReadTx(ctx, tx, "acme") }))
	require.False(t, listed())
	require.NoError(t, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return b.Logins().SetReadTx(ctx, tx, acme.DatabaseID, read) }))
	require.True(t, listed())
	require.ErrorIs(t, b.Logins().RemoveRead(ctx, "none"), jobs.ErrUnknownDatabase)
}

// What is refused as a read address, of which nothing is written.
func TestSetReadRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	b.addTenant(t, "acme")
	read := login("acme_job", "acme")
	read.Host = "db1-standby.example.com"
	for says, change := range map[string]func(*address.Address){
		"it is the same login, at a replica":      func(a *address.Address) { a.User = "acme_owner" },
		"elsewhere.example.com":                   func(a *address.Address) { a.Host = "elsewhere.example.com" },
		"leads to the job login's own host":       func(a *address.Address) { a.Host = "DB1.example.com." },
		"certificate authority \"none\"":          func(a *address.Address) { a.RootCert = "none" },
		"sslmode must be verify-full (got allow)": func(a *address.Address) { a.SSLMode = "allow" },
	} {
		wrong := read
		change(&wrong)
		require.ErrorContains(t, b.Logins().SetRead(ctx, "acme", wrong), says)
	}
	require.ErrorIs(t, b.Logins().SetRead(ctx, "none", read), jobs.ErrUnknownDatabase)
	databases, _, err := b.Databases(ctx, jobs.Page{})
	require.NoError(t, err)
	require.False(t, databases[0].ReadAddress)
}

// authorities_of has every authority that an address can name.
func TestAuthoritiesOfHasAllColumns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	b.addTenant(t, "acme")
	ctx := t.Context()
	rows, err := b.pool.Query(ctx, `SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'headgate' AND table_name = 'databases' AND column_name LIKE '%\_ca'`)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Len(t, columns, 5)
	for _, column := range columns {
		tx, err := b.pool.Begin(ctx)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `INSERT INTO headgate.certificate_authorities (name, pem, fingerprints, not_after) VALUES ('here', 'x', '{x}', now())`)
		require.NoError(t, err)
		_, err = tx.Exec(ctx, `UPDATE headgate.databases SET `+pgx.Identifier{column}.Sanitize()+` = 'here'`)
		require.NoError(t, err)
		var named bool
		require.NoError(t, tx.QueryRow(ctx, `SELECT 'here' = ANY (headgate.authorities_of(d)) FROM headgate.databases d`).Scan(&named))
		require.True(t, named, column)
		require.NoError(t, tx.Rollback(ctx))
	}
}
