package catalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestAddServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()

	main, err := b.AddServer(ctx, catalog.ServerParams{Name: "main", Hosts: []string{"DB1.Example.com.", "10.0.0.7"}})
	require.NoError(t, err)
	require.Equal(t, catalog.Server{
		ID: main.ID, Name: "main", Hosts: []string{"db1.example.com", "10.0.0.7"}, Transport: address.TLS, Pooler: address.NoPooler, State: "open", Budget: 20, CreatedAt: main.CreatedAt, StateSince: main.StateSince,
	}, main)
	local, err := b.AddServer(ctx, catalog.ServerParams{Name: "local", Hosts: []string{"/tmp/pg"}, Transport: address.Socket})
	require.NoError(t, err)

	servers, _, err := b.Servers(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []catalog.Server{local, main}, servers)
}

func TestAddServerRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	for name, test := range map[string]struct {
		params catalog.ServerParams
		want   string
	}{
		"taken":     {catalog.ServerParams{Name: "main", Hosts: []string{"db"}}, `add server: server "main" exists already`},
		"name":      {catalog.ServerParams{Name: "A_B", Hosts: []string{"db"}}, `add server: name "A_B": it must match [a-z][a-z0-9-]{0,62}`},
		"no name":   {catalog.ServerParams{Hosts: []string{"db"}}, `add server: name: it must match [a-z][a-z0-9-]{0,62}`},
		"uuid name": {catalog.ServerParams{Name: "abcdef01-0000-7000-8000-000000000001", Hosts: []string{"db"}}, `add server: name "abcdef01-0000-7000-8000-000000000001": it reads as a UUID; choose a name`},
		"no host":   {catalog.ServerParams{Name: "x"}, `add server: hosts: 0 hosts given; a server has 1 to 16`},
		"hosts":     {catalog.ServerParams{Name: "x", Hosts: strings.Split(strings.Repeat("h,", 16)+"h", ",")}, `add server: hosts: 17 hosts given; a server has 1 to 16`},
		"twice":     {catalog.ServerParams{Name: "x", Hosts: []string{"db", "DB."}}, `add server: hosts "db": it is given twice: give each host once`},
		"a secret":  {catalog.ServerParams{Name: "x", Hosts: []string{"postgres://u:planted@h/db"}}, `add server: hosts: host: the value given is neither a host name nor an IP address`},
		"metadata":  {catalog.ServerParams{Name: "x", Hosts: []string{"169.254.169.254"}}, `add server: hosts "169.254.169.254": host: address 169.254.169.254 is refused: it is a cloud's metadata service`},
		"loopback":  {catalog.ServerParams{Name: "x", Hosts: []string{"localhost"}}, `add server: hosts "localhost": host: localhost is not allowed with transport tls; use a server with transport plain-loopback or socket`},
		"far":       {catalog.ServerParams{Name: "x", Hosts: []string{"db"}, Transport: address.PlainLoopback}, `add server: hosts "db": host: transport plain-loopback allows localhost, 127.0.0.0/8 and ::1 only (got "db")`},
		"transport": {catalog.ServerParams{Name: "x", Hosts: []string{"db"}, Transport: "udp"}, `add server: transport "udp": use tls, plain-loopback or socket`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.AddServer(t.Context(), test.params)
			require.EqualError(t, err, test.want)
			var input *jobs.InputError
			require.True(t, errors.Is(err, catalog.ErrExists) != errors.As(err, &input))
		})
	}
}

// A failed write leaves the caller's transaction usable, and a rolled back one
// leaves nothing.
func TestWritesInTheCallersTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	write := func(tx pgx.Tx) {
		_, err := b.AddServerTx(ctx, tx, catalog.ServerParams{Name: "main", Hosts: []string{"db1.example.com"}})
		require.NoError(t, err)
		_, err = b.AddDatabaseTx(ctx, tx, databaseParams("one", catalog.KindDedicated))
		require.NoError(t, err)
		_, err = b.AddTenantTx(ctx, tx, catalog.TenantParams{Slug: "acme", Database: "one"})
		require.NoError(t, err)
		_, err = b.AddTenantTx(ctx, tx, catalog.TenantParams{Slug: "second", Database: "one"})
		require.ErrorIs(t, err, catalog.ErrExists)
		_, err = b.AddTenantsTx(ctx, tx, []catalog.TenantParams{{Slug: "third", Database: "one"}})
		require.ErrorIs(t, err, catalog.ErrExists)
		require.NoError(t, b.Domains().AddTx(ctx, tx, "acme", "acme.example.com", catalog.DomainCustom))
		require.NoError(t, b.SetStatusTx(ctx, tx, "acme", catalog.Suspended))
		require.NoError(t, b.Logins().SetTx(ctx, tx, "one", 0, login("new", "one")))
		_, err = b.Features().SetTx(ctx, tx, "beta", catalog.FeatureChange{Type: catalog.FeatureBoolean})
		require.NoError(t, err)
		for _, kind := range []string{"one", "two"} {
			_, err = b.Features().RequireTx(ctx, tx, "beta", catalog.Gate{Kind: kind})
			require.NoError(t, err)
		}
		_, err = b.Features().ReleaseTx(ctx, tx, "beta", catalog.Gate{Kind: "one"})
		require.NoError(t, err)
	}

	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	write(tx)
	require.NoError(t, tx.Rollback(ctx))
	servers, _, err := b.Servers(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, servers)
	features, _, err := b.Features().List(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Empty(t, features)

	tx, err = b.pool.Begin(ctx)
	require.NoError(t, err)
	write(tx)
	require.NoError(t, tx.Commit(ctx))
	tenant, err := b.ResolveHost(ctx, "acme.example.com")
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
	require.Equal(t, catalog.Suspended, tenant.Status)
	features, _, err = b.Features().List(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{"two"}, features[0].Kinds)
}

// A budget is changed for the places resolved from then on, and only to what a
// server can have.
func TestSetBudget(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	_, place, err := b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	require.Equal(t, 20, place.Budget)
	server, err := b.SetServer(ctx, "main", catalog.ServerChange{Budget: new(7)})
	require.NoError(t, err)
	require.Equal(t, 7, server.Budget)
	_, place, err = b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	require.Equal(t, 7, place.Budget)
	for _, n := range []int{-1, 0, 10_001} {
		_, err = b.SetServer(ctx, "main", catalog.ServerChange{Budget: &n})
		require.ErrorContains(t, err, "may have 1 to 10000")
	}
	_, err = b.SetServer(ctx, "mian", catalog.ServerChange{Budget: new(7)})
	require.ErrorIs(t, err, catalog.ErrUnknownServer)
	undone := errors.New("undone")
	require.ErrorIs(t, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		server, err := b.SetServerTx(ctx, tx, "main", catalog.ServerChange{Budget: new(9)})
		require.NoError(t, err)
		require.Equal(t, 9, server.Budget)
		return undone
	}), undone)
	servers, _, err := b.Servers(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, 7, servers[0].Budget)
}
