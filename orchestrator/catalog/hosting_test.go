package catalog_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func (b bundle) sql(t testing.TB, text string, args ...any) {
	t.Helper()
	_, err := b.pool.Exec(context.Background(), text, args...)
	require.NoError(t, err, text)
}

// opened is the address of a login as a worker gets it.
func (b bundle) opened(t testing.TB, database string, login jobs.Login) address.Address {
	t.Helper()
	place, err := b.Hosting().Place(t.Context(), database, login)
	require.NoError(t, err)
	a, err := place.Open(t.Context())
	require.NoError(t, err)
	return a
}

// A host that addresses name stays, and all of them follow to another in one step.
func TestHostsOfAServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	b.addServer(t)
	b.addTenant(t, "acme")
	b.addTenant(t, "brick")
	direct := login("acme_job", "acme")
	direct.Port = 6432
	require.NoError(t, b.Logins().SetDirect(ctx, "acme", jobs.LoginJob, direct))

	_, err := h.RemoveHost(ctx, "main", "db1.example.com")
	require.ErrorIs(t, err, catalog.ErrReferred)
	require.EqualError(t, err, "remove host: host \"db1.example.com\" of server \"main\" is not removed: 5 addresses of databases \"acme\", \"brick\" name it; `headgate server host replace main db1.example.com HOST` leads databases to another host")
	_, err = catalog.New(b.pool, nil).Hosting().RemoveHost(ctx, "main", "db1.example.com")
	require.ErrorContains(t, err, "without the key ring nobody can look: give HEADGATE_KEY")
	_, err = catalog.New(b.pool, ringOf(t, "other")).Hosting().RemoveHost(ctx, "main", "db1.example.com")
	require.ErrorIs(t, err, address.ErrUndecryptable)
	server, err := h.RemoveHost(ctx, "main", "DB1-standby.example.com.")
	require.NoError(t, err)
	require.Equal(t, []string{"db1.example.com"}, server.Hosts)
	_, err = h.RemoveHost(ctx, "main", "nope.example.com")
	require.ErrorContains(t, err, `server "main" has no such host; it has "db1.example.com"`)

	_, err = h.AddHost(ctx, "main", "db1.example.com")
	require.ErrorIs(t, err, catalog.ErrExists)
	_, err = h.AddHost(ctx, "main", "169.254.169.254")
	require.ErrorContains(t, err, "metadata")
	_, err = h.AddHost(ctx, "main", "db2.example.com")
	require.NoError(t, err)

	r := catalog.HostReplacement{Server: "main", Old: "db1.example.com", New: "db9.example.com", DryRun: true}
	done, err := h.ReplaceHost(ctx, r)
	require.NoError(t, err)
	require.Equal(t, catalog.HostReplaced{Concerned: catalog.Concerned{Databases: 2, Tenants: 2, DryRun: true}, Addresses: 5}, done)
	require.Equal(t, "db1.example.com", b.opened(t, "acme", jobs.LoginJob).Host, "a dry run")
	r.DryRun, r.ExpectTenants = false, new(3)
	_, err = h.ReplaceHost(ctx, r)
	require.ErrorIs(t, err, catalog.ErrExpectation)
	r.ExpectTenants = new(2)
	_, err = h.ReplaceHost(ctx, r)
	require.NoError(t, err)
	for _, database := range []string{"acme", "brick"} {
		for _, l := range []jobs.Login{jobs.LoginJob, jobs.LoginOwner} {
			a := b.opened(t, database, l)
			require.Equal(t, "db9.example.com", a.Host)
			require.Equal(t, planted+"-"+a.User, a.Password.Reveal())
		}
	}
	server, err = h.Server(ctx, "main")
	require.NoError(t, err)
	require.Equal(t, []string{"db9.example.com", "db2.example.com"}, server.Hosts)
	verified, err := catalog.NewKeys(b.pool, b.Ring()).Verify(ctx, 1)
	require.NoError(t, err)
	require.Zero(t, verified.Failed)
}

// A server goes when nothing refers to it, and whatever does is named with its remedy.
func TestRemoveServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	server := b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindShared)
	b.sql(t, `INSERT INTO headgate.pauses (scope, target) VALUES ('server', $1)`, server.ID)
	b.sql(t, `INSERT INTO headgate.closures (name, kind, server_id, spans) VALUES ('freeze', 'blackout', $1, '{"MON 01:00-02:00"}')`, server.ID)
	err := h.RemoveServer(ctx, "main")
	require.ErrorIs(t, err, catalog.ErrReferred)
	require.EqualError(t, err, "remove server: server \"main\" is not removed: blackout freeze is for it, which `headgate schedule blackout delete freeze` removes; "+
		"database acme lies there, which `headgate database reattach acme --server SERVER` moves and `headgate database remove acme` takes out; it is paused, which `headgate resume server main` ends")
	_, err = b.pool.Exec(ctx, `DELETE FROM headgate.servers`)
	require.Error(t, err, "neither does SQL take a blackout along")
	b.sql(t, `DELETE FROM headgate.closures`)
	b.sql(t, `DELETE FROM headgate.pauses`)
	_, err = h.RemoveDatabase(ctx, catalog.DatabaseRemoval{Database: "acme"})
	require.NoError(t, err)
	require.NoError(t, h.RemoveServer(ctx, "main"))
	require.ErrorIs(t, h.RemoveServer(ctx, "main"), catalog.ErrUnknownServer)
}

func TestServersAreRenamedDrainedAndInRegions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	b.addServer(t)
	b.addTenant(t, "acme")
	_, err := h.RenameServer(ctx, "main", "eu-1")
	require.NoError(t, err)
	_, err = h.RenameServer(ctx, "main", "x")
	require.ErrorIs(t, err, catalog.ErrUnknownServer)
	_, err = b.AddServer(ctx, catalog.ServerParams{Name: "main", Hosts: []string{"db"}})
	require.NoError(t, err)
	_, err = h.RenameServer(ctx, "main", "eu-1")
	require.EqualError(t, err, `rename server: server "eu-1" exists already`)

	drained, err := h.Drain(ctx, "eu-1", catalog.Decision{Reason: "new disks", Actor: "kim"})
	require.NoError(t, err)
	require.Equal(t, []string{"draining", "new disks", "kim"}, []string{drained.State, drained.StateReason, drained.StateBy})
	opened, err := h.Resume(ctx, "eu-1", catalog.Decision{Actor: "kim"})
	require.NoError(t, err)
	require.Equal(t, "open", opened.State)

	require.NoError(t, h.AddRegion(ctx, "eu", "Europe"))
	require.ErrorIs(t, h.AddRegion(ctx, "eu", ""), catalog.ErrExists)
	_, err = b.SetServer(ctx, "eu-1", catalog.ServerChange{Region: new("us")})
	require.ErrorIs(t, err, catalog.ErrUnknownRegion)
	_, err = b.SetServer(ctx, "eu-1", catalog.ServerChange{Region: new("eu")})
	require.NoError(t, err)
	regions, _, err := h.Regions(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []catalog.Region{{Name: "eu", Note: "Europe", Servers: 1}}, regions)
	require.EqualError(t, h.RemoveRegion(ctx, "eu"), "remove region: region \"eu\" is not removed: server eu-1 is in it, which `headgate server set eu-1 --region REGION` changes")
	server, err := b.SetServer(ctx, "eu-1", catalog.ServerChange{Region: new("")})
	require.NoError(t, err)
	require.Empty(t, server.Region)
	require.NoError(t, h.RemoveRegion(ctx, "eu"))
	require.ErrorIs(t, h.RemoveRegion(ctx, "eu"), catalog.ErrUnknownRegion)
}

// Nobody resolves a detached database, until it is attached again, where it is then.
func TestADatabaseIsDetachedAndReattached(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	b.addServer(t)
	acme := b.addTenant(t, "acme")
	_, _, err := b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	_, err = h.Detach(ctx, "acme", catalog.Decision{Actor: "kim"})
	require.ErrorContains(t, err, "reason")
	_, err = h.Detach(ctx, "acme", catalog.Decision{Reason: "restore", Actor: "kim"})
	require.NoError(t, err)
	_, _, err = b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.ErrorIs(t, err, jobs.ErrDatabaseDetached, "from memory neither")
	_, err = b.ResolveDatabase(ctx, "acme", jobs.LoginOwner)
	require.ErrorIs(t, err, jobs.ErrDatabaseDetached)

	_, err = b.AddServer(ctx, catalog.ServerParams{Name: "second", Hosts: []string{"db2.example.com"}})
	require.NoError(t, err)
	job, owner := login("acme_job", "acme2"), login("acme_owner", "acme2")
	job.Host, owner.Host = "db2.example.com", "db2.example.com"
	_, err = h.Reattach(ctx, catalog.Reattachment{Database: "acme", Job: job, Owner: owner})
	require.ErrorContains(t, err, "is not one of the server's hosts")
	d, err := h.Reattach(ctx, catalog.Reattachment{Database: "acme", Server: "second", Job: job, Owner: owner, Actor: "kim"})
	require.NoError(t, err)
	require.Equal(t, []string{"second", "acme2", "attached", ""}, []string{d.Server, d.DBName, string(d.State), d.StateReason})
	_, place, err := b.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	require.Equal(t, "second", place.Server)
	a, err := place.Open(ctx)
	require.NoError(t, err)
	require.Equal(t, "acme2", a.Database)
	_, err = place.SigningKey(ctx)
	require.NoError(t, err, "the key stays")

	b.addDatabase(t, "brick", catalog.KindShared)
	job, owner = login("acme_job", "brick"), login("acme_owner", "brick")
	_, err = h.Reattach(ctx, catalog.Reattachment{Database: "acme", Server: "main", Job: job, Owner: owner})
	require.ErrorContains(t, err, `database "brick" of server "main" is in the catalog already, under another name`)
	_, err = h.RenameDatabase(ctx, "acme", "brick")
	require.ErrorIs(t, err, catalog.ErrExists)
	d, err = h.RenameDatabase(ctx, "acme", "zeta")
	require.NoError(t, err)
	require.Equal(t, "zeta", d.Name)
}

func TestRemoveDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, h := t.Context(), b.Hosting()
	b.addServer(t)
	tenants := b.addMany(t, 5)
	_, err := h.RemoveDatabase(ctx, catalog.DatabaseRemoval{Database: "shared"})
	require.ErrorIs(t, err, catalog.ErrReferred)
	require.EqualError(t, err, "remove database \"shared\": 5 tenants live there, \"t0\", \"t1\", \"t2\" and 2 more: remove these first; `headgate tenant list --database shared` shows them")
	for _, tenant := range tenants {
		b.sql(t, `UPDATE headgate.tenants SET status = 'removed', slug = id::text WHERE id = $1`, tenant.ID)
	}
	_, err = h.RemoveDatabase(ctx, catalog.DatabaseRemoval{Database: "shared"})
	require.ErrorContains(t, err, "the rows of 5 removed tenants lie there yet: erase them first, or `headgate database remove shared --rows-stay`")
	removed, err := h.RemoveDatabase(ctx, catalog.DatabaseRemoval{Database: "shared", RowsStay: true, DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 5, removed.Removed)
	_, err = b.Adopt(ctx, catalog.AdoptParams{Database: "shared"})
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		_, err := h.RemoveDatabaseTx(ctx, tx, catalog.DatabaseRemoval{Database: "shared", RowsStay: true})
		return err
	}))
	var placeless int
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT count(*) FROM headgate.tenants WHERE database_id IS NULL`).Scan(&placeless))
	require.Equal(t, 5, placeless)
	_, err = h.Database(ctx, "shared")
	require.ErrorIs(t, err, jobs.ErrUnknownDatabase)
}
