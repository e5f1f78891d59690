package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

func TestAddDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	server := b.addServer(t)

	shared := b.addDatabase(t, "shared-1", catalog.KindShared)
	params := databaseParams("acme", catalog.KindDedicated)
	params.ID, params.DBName = "0190AAAA-0000-7000-8000-000000000001", "acme"
	acme, err := b.AddDatabase(ctx, params)
	require.NoError(t, err)
	require.Equal(t, catalog.Database{
		ID: "0190aaaa-0000-7000-8000-000000000001", Name: "acme", ServerID: server.ID, Server: "main", DBName: "acme", Kind: catalog.KindDedicated, CreatedAt: acme.CreatedAt, State: catalog.Attached, StateSince: acme.StateSince, Protection: catalog.ProtectionEnforced, ProtectionSince: acme.ProtectionSince, Installed: true,
	}, acme)

	_, err = b.AddTenants(ctx, []catalog.TenantParams{{Slug: "a", Database: "shared-1"}, {Slug: "b", Database: shared.ID}})
	require.NoError(t, err)
	shared.Tenants = 2
	databases, _, err := b.Databases(ctx, jobs.Page{})
	require.NoError(t, err)
	require.Equal(t, []catalog.Database{acme, shared}, databases)

	for _, name := range []string{"acme", acme.ID, strings.ToUpper(acme.ID)} {
		id, err := b.DatabaseID(ctx, name)
		require.NoError(t, err)
		require.Equal(t, acme.ID, id)
	}
	for _, name := range []string{"", "nope", "00000000-0000-0000-0000-000000000000", "a'; drop table x--", "\x01"} {
		_, err = b.DatabaseID(ctx, name)
		require.ErrorIs(t, err, jobs.ErrUnknownDatabase)
		require.EqualError(t, err, fmt.Sprintf("unknown database %q", name))
	}
}

func TestAddDatabaseRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	taken := b.addDatabase(t, "taken", catalog.KindShared)
	for name, test := range map[string]struct {
		change func(p *catalog.DatabaseParams)
		want   string
	}{
		"server":    {func(p *catalog.DatabaseParams) { p.Server = "nope" }, `unknown server "nope"`},
		"name":      {func(p *catalog.DatabaseParams) { p.Name = "taken" }, `database "taken" exists already`},
		"bad name":  {func(p *catalog.DatabaseParams) { p.Name = "../x" }, `name "../x": it must match [a-z][a-z0-9-]{0,62}`},
		"id":        {func(p *catalog.DatabaseParams) { p.ID = taken.ID }, "a database with id " + taken.ID + " exists already"},
		"bad id":    {func(p *catalog.DatabaseParams) { p.ID = "{x}" }, `id "{x}": give a UUID, or none to mint one`},
		"nil id":    {func(p *catalog.DatabaseParams) { p.ID = "00000000-0000-0000-0000-000000000000" }, `id "00000000-0000-0000-0000-000000000000": give a UUID, or none to mint one`},
		"kind":      {func(p *catalog.DatabaseParams) { p.Kind = "" }, `kind: give shared or dedicated`},
		"same":      {func(p *catalog.DatabaseParams) { p.Job.Database, p.Owner.Database = "taken", "taken" }, `database "taken" of server "main" is in the catalog already, under another name`},
		"dbname":    {func(p *catalog.DatabaseParams) { p.DBName = "other" }, `job: the address leads to database "new", not to "other"`},
		"owner db":  {func(p *catalog.DatabaseParams) { p.Owner.Database = "other" }, `owner: the address leads to database "other", not to "new"`},
		"one user":  {func(p *catalog.DatabaseParams) { p.Owner.User = p.Job.User }, `owner: its user "new_job" is the job login's too; jobs must not run as the owner of the tables, so give each its own`},
		"host":      {func(p *catalog.DatabaseParams) { p.Job.Host = "evil" }, `job: host: "evil" is not one of the server's hosts (db1.example.com, db1-standby.example.com) (server "main")`},
		"no secret": {func(p *catalog.DatabaseParams) { p.Owner.Password = address.Secret{} }, `owner: password missing (server "main")`},
		"sslmode":   {func(p *catalog.DatabaseParams) { p.Owner.SSLMode = "disable" }, `owner: sslmode must be verify-full (got disable); verify-ca is the only other choice for a server with transport tls (server "main")`},
		"no login":  {func(p *catalog.DatabaseParams) { p.Job = address.Address{} }, `job: host missing (server "main")`},
	} {
		t.Run(name, func(t *testing.T) {
			params := databaseParams("new", catalog.KindShared)
			test.change(&params)
			_, err := b.AddDatabase(t.Context(), params)
			require.EqualError(t, err, "add database: "+test.want)
			require.NotContains(t, fmt.Sprintf("%+v %#v", err, err), planted)
		})
	}
	databases, _, err := b.Databases(t.Context(), jobs.Page{})
	require.NoError(t, err)
	require.Len(t, databases, 1, "nothing was written")
}

// The addresses stand in the table sealed: neither password nor user nor host
// can be read there.
func TestAddressesAreStoredSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.addServer(t)
	b.addDatabase(t, "acme", catalog.KindShared)
	var job, owner []byte
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT job_login, owner_login FROM headgate.databases").Scan(&job, &owner))
	for _, word := range []string{planted, "acme", "example", "host"} {
		require.NotContains(t, string(job), word)
		require.NotContains(t, string(owner), word)
	}
}
