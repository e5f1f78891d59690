package catalog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// A login has a way past the pooler once it is given one, with the same user, on
// a host of the server; places know it, and what stands before the server.
func TestSetDirect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	place := func(login jobs.Login) address.Place {
		_, place, err := b.ResolveTenant(ctx, acme.ID, login)
		require.NoError(t, err)
		return place
	}
	_, ok := place(jobs.LoginJob).Session()
	require.True(t, ok, "without a pooler every connection has a session")

	server, err := b.SetServer(ctx, "main", catalog.ServerChange{Pooler: ptr(address.TransactionPooler)})
	require.NoError(t, err)
	require.Equal(t, address.TransactionPooler, server.Pooler)
	require.Equal(t, 20, server.Budget, "what is not named stays")
	_, ok = place(jobs.LoginOwner).Session()
	require.False(t, ok)

	direct := login("acme_owner", "acme")
	direct.Host, direct.Port = "db1-standby.example.com", 6000
	require.NoError(t, b.Logins().SetDirect(ctx, "acme", jobs.LoginOwner, direct))
	pooled := place(jobs.LoginOwner)
	require.Equal(t, address.TransactionPooler, pooled.Pooler)
	past, ok := pooled.Session()
	require.True(t, ok)
	require.True(t, past.Direct)
	require.Equal(t, address.NoPooler, past.Pooler)
	a, err := past.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, direct.Canonical(address.TLS), a)
	_, ok = place(jobs.LoginJob).Session()
	require.False(t, ok, "each login has its own")

	require.NoError(t, b.Logins().SetDirect(ctx, "acme", jobs.LoginOwner, direct))
	again, _ := place(jobs.LoginOwner).Session()
	require.Greater(t, again.Version, past.Version)

	direct.User = "acme_job"
	require.ErrorContains(t, b.Logins().SetDirect(ctx, "acme", jobs.LoginOwner, direct), "it is the same login, past the pooler")
	direct.User, direct.Host = "acme_owner", "elsewhere.example.com"
	require.ErrorContains(t, b.Logins().SetDirect(ctx, "acme", jobs.LoginOwner, direct), "elsewhere.example.com")
	require.ErrorIs(t, b.Logins().SetDirect(ctx, "none", jobs.LoginOwner, direct), jobs.ErrUnknownDatabase)
	_, err = b.SetServer(ctx, "main", catalog.ServerChange{Pooler: ptr(address.Pooler("statement"))})
	require.ErrorContains(t, err, "use none, transaction or session")
}

func ptr[T any](value T) *T { return &value }
