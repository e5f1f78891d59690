package importer_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// addressOf opens the address of a login, as a worker does.
func (b bundle) addressOf(t testing.TB, database string, login jobs.Login) address.Address {
	t.Helper()
	place, err := b.catalog.ResolveDatabase(t.Context(), database, login)
	require.NoError(t, err)
	a, err := place.Open(t.Context())
	require.NoError(t, err)
	return a
}

func owner(t testing.TB) *importer.Owner {
	t.Helper()
	o, err := importer.ParseOwner(address.NewSecret("postgres://app_owner:S3cret-owner@{host}:{port}/{database}\n"))
	require.NoError(t, err)
	return &o
}

// The table of the guide to database per tenant: slug and the parts of an address.
func TestTheSeedWithParts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const table = "slug,db_name,db_host,db_username,db_password,db_port\n" +
		"tenant1,db1,DB1.example.com,u1,\"S3cret,one\",5432\n" +
		"tenant2,db2,db1.example.com,u2,'=S3cret-two,\n"
	opts := importer.Options{Owner: owner(t)}
	plan, err := b.Import(t.Context(), readCSV(t, table), opts)
	require.NoError(t, err)
	require.Equal(t, 2, plan.Databases)
	a := b.addressOf(t, "tenant1", jobs.LoginJob)
	require.Equal(t, "u1@db1.example.com:5432/db1", a.String())
	require.Equal(t, "S3cret,one", a.Password.Reveal())
	require.Equal(t, "'=S3cret-two", b.addressOf(t, "tenant2", jobs.LoginJob).Password.Reveal(), "a password is taken as it is")
	require.Equal(t, "app_owner@db1.example.com:5432/db2", b.addressOf(t, "tenant2", jobs.LoginOwner).String())
	require.Equal(t, "dedicated", one[string](t, b, `SELECT kind FROM headgate.databases WHERE name = 'tenant2'`))

	before := b.fingerprint(t)
	plan, err = b.Import(t.Context(), readCSV(t, table), opts)
	require.NoError(t, err)
	require.True(t, plan.Empty())
	require.Equal(t, before, b.fingerprint(t))

	plan, err = b.Import(t.Context(), readCSV(t, strings.Replace(table, "S3cret,one", "S3cret-new", 1)), opts)
	require.NoError(t, err)
	require.Equal(t, 1, plan.Logins)
	require.Equal(t, "S3cret-new", b.addressOf(t, "tenant1", jobs.LoginJob).Password.Reveal())
	require.Equal(t, "app_owner", b.addressOf(t, "tenant1", jobs.LoginOwner).User)
}

// The catalog of the hybrid design: org-id, org-name, org-domain, plan, connection string.
func TestTheSeedWithConnectionStrings(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const table = "org-id,org-name,org-domain,pricing-plan-type,db-connection-string,owner-dsn,db_kind,database\n" +
		"1,Org One,org-a.issuetracker.com,enterprise,postgres://u1:S3cret-1@db1.example.com/org-1,postgres://o1:S3cret-2@db1.example.com/org-1,,\n" +
		"2,Org Two,org-b.issuetracker.com,freemium,postgres://u2:S3cret-3@db1.example.com/org-freemium-1,postgres://o2:S3cret-4@db1.example.com/org-freemium-1,shared,freemium\n" +
		"3,Org Three,org-c.issuetracker.com,freemium,postgres://u2:S3cret-3@db1.example.com/org-freemium-1,postgres://o2:S3cret-4@db1.example.com/org-freemium-1,shared,freemium\n"
	plan, err := b.Import(t.Context(), readCSV(t, table), importer.Options{Source: "crm"})
	require.NoError(t, err)
	require.Equal(t, 3, plan.Added)
	require.Equal(t, 2, plan.Databases)
	require.Equal(t, "org-a org-b org-c", one[string](t, b, `SELECT string_agg(slug, ' ' ORDER BY slug) FROM headgate.tenants`))
	require.Equal(t, 2, one[int](t, b, `SELECT count(*) FROM headgate.tenants t JOIN headgate.databases d ON d.id = t.database_id WHERE d.name = 'freemium' AND d.kind = 'shared'`))
	found, err := b.catalog.ResolveHost(t.Context(), "org-a.issuetracker.com")
	require.NoError(t, err)
	require.Equal(t, "enterprise", found.Plan)
	require.Equal(t, "S3cret-2", b.addressOf(t, "org-a", jobs.LoginOwner).Password.Reveal())
	plan, err = b.Import(t.Context(), readCSV(t, table), importer.Options{Source: "crm"})
	require.NoError(t, err)
	require.True(t, plan.Empty())
}

// What is wrong with an address is said without it, whatever column holds the password.
func TestSecretsAreShownNowhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const secret = "S3cret"
	inputs := []string{
		"slug,dsn\naa,S3cret\n", "slug,dsn\naa,postgres://u:S3cret@h:notaport/db\n", "slug,dsn\naa,postgres://u:S3cret@evil.example/db\n", "slug,dsn\naa,Server=h;Password=S3cret\n",
		"slug,dsn\naa,postgres://u:p@db1.example.com/db?passfile=S3cret\n", "slug,dsn\naa,\"postgres://u:S3cret\n@db1.example.com/d\"\n",
	}
	// A cell too few on the left, and so each value one column off.
	columns := []string{"slug", "org_id", "org_key", "name", "plan", "timezone", "database", "server", "status", "labels", "features", "label.x", "feature.beta", "feature.seats", "domains", "subdomains", "email_domains", "db_kind", "db_host", "db_port", "db_name", "db_user", "owner_user", "owner_password"}
	for _, column := range columns {
		for _, value := range []string{"S3cret", "s3cret-PASSWORD", "a S3cret b", "=S3cret|", "S3cret.example/"} {
			if column == "slug" {
				inputs = append(inputs, fmt.Sprintf("slug,db_password,db_host\n%s,p,db1.example.com\n", value))
				continue
			}
			fields := map[string]string{"slug": "aa", "db_host": "db1.example.com", "db_name": "dd", "db_user": "uu", "db_password": "pp"}
			fields[column] = value
			var header, cells []string
			for name, cell := range fields {
				header, cells = append(header, name), append(cells, cell)
			}
			inputs = append(inputs, strings.Join(header, ",")+"\n"+strings.Join(cells, ",")+"\n")
		}
	}
	for _, input := range inputs {
		for _, opts := range []importer.Options{{Database: "shared-1"}, {Database: "solo", Owner: owner(t), DryRun: true}} {
			table, err := importer.ReadCSV(strings.NewReader(input), importer.ReadOptions{})
			if err == nil {
				_, err = b.Import(t.Context(), table, opts)
			}
			if err == nil {
				require.True(t, opts.DryRun, "%q", input)
				continue
			}
			var says bytes.Buffer
			fmt.Fprintln(&says, err)
			for _, row := range rowsOf(err) {
				fmt.Fprintln(&says, row.Says)
			}
			require.NotContains(t, strings.ToLower(says.String()), strings.ToLower(secret), "%q", input)
		}
	}
	for _, text := range []string{"S3cret", "postgres://u:S3cret@{host}/{database}", "postgres://{host}:S3cret@{host}:{port}/{database}", "postgres://u:S3cret@{database}:{port}/{host}"} {
		_, err := importer.ParseOwner(address.NewSecret(text))
		require.Error(t, err)
		require.NotContains(t, err.Error(), secret)
	}
}

func TestDatabasesThatCannotBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug\nold\n")
	const parts = "slug,db_host,db_name,db_user,db_password,owner_user,owner_password,db_kind,database\n"
	for _, test := range []struct{ input, want string }{
		{parts + "aa,db1.example.com,dd,uu,pp,,,,\n", "owner_user: the database is new, and its owner login is missing: give columns owner_user and owner_password or owner_connection_string, or --owner-url-file"},
		{parts + "aa,db1.example.com,dd,uu,pp,uu,oo,,\n", "owner_user: it is the job login's user too; jobs must not run as the owner of the tables, so give each its own"},
		{parts + "aa,db9.example.com,dd,uu,pp,oo,oo,,\n", "db_host: no server has this host: `headgate server list` shows them, and `headgate server add` makes one"},
		{parts + "aa,db1.example.com,dd,uu,pp,oo,oo,both,\n", "db_kind: give shared or dedicated"},
		{parts + "aa,db1.example.com,dd,uu,pp,oo,oo,,solo\n", "database: the name that the new database would have is another database's: give a name in a column database"},
		{parts + "aa,db1.example.com,dd,uu,,oo,oo,,\n", "db_password: it is empty: give db_host, db_name, db_user and db_password"},
		{parts + "aa,,,,,oo,oo,,\n", "db_host: there is an owner login and no job login: give db_host, db_name, db_user and db_password, or connection_string"},
		{parts + "old,db1.example.com,dd,uu,pp,oo,oo,,\n", "database: the address leads to another database than shared-1, where the tenant with org_id 1 lives, and an import moves nobody"},
		{parts + "aa,db1.example.com,dd,uu,pp,oo,oo,,\nbb,db1.example.com,dd,uu,pp,oo,oo,,\n", `database: "aa" is dedicated and has its tenant already; give a shared one (db_kind shared where the input adds it), or another`},
		{parts + "aa,db1.example.com,dd,uu,pp,oo,oo,shared,\nbb,db1.example.com,dd,uu,p2,oo,oo,shared,\n", "db_user: line 2 gives another address for the same database"},
		{parts + "aa,db1.example.com,shared-1,uu,pp,oo,oo,dedicated,\n", `db_kind: database "shared-1" is shared`},
	} {
		wrong := b.refused(t, test.input, importer.Options{})
		require.Equal(t, test.want, wrong[len(wrong)-1].Says, "%q", test.input)
	}
	_, err := b.catalog.AddServer(t.Context(), catalog.ServerParams{Name: "twin", Hosts: []string{"db1.example.com"}})
	require.NoError(t, err)
	require.Contains(t, b.refused(t, parts+"aa,db1.example.com,dd,uu,pp,oo,oo,,\n", importer.Options{})[0].Says, `servers "main" and "twin" both have this host: name one in a column server`)
	plan, err := b.Import(t.Context(), readCSV(t, "server,"+parts+"twin,aa,db1.example.com,dd,uu,pp,oo,oo,,\n"), importer.Options{})
	require.NoError(t, err)
	require.Equal(t, 1, plan.Databases)

	keyless := importer.New(b.pool, catalog.New(b.pool, nil))
	_, err = keyless.Import(t.Context(), readCSV(t, parts+"zz,db1.example.com,zz,uu,pp,oo,oo,,\n"), importer.Options{})
	require.Error(t, err)
}
