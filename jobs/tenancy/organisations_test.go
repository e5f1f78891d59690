package tenancy_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenancy"
	"github.com/headgate/headgate/orchestrator/catalog"
)

var plain = tenancy.Organisations{Table: "public.organisations"}

const all = "SELECT org_id || ' ' || name || coalesce(' ' || slug, '') FROM organisations ORDER BY org_id"

func TestRowsBecomeTheTenantsOfASharedDatabase(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.Database("other", jobstest.DatabaseOpts{})
	b.tenants(3)
	_, err := b.Catalog.AddTenant(t.Context(), catalog.TenantParams{Slug: "elsewhere", OrgID: 9, Database: "other"})
	require.NoError(t, err)
	b.exec("INSERT INTO organisations VALUES (2, 'Old name', 't2'), (77, 'Nobody', NULL)")
	args := plain
	args.Slug = "slug"

	args.ReportOnly = true
	want := "public.organisations: the catalog has 3 tenants here, the table had 2 rows\nmissing 2, added 0: t1 (org_id 1), t3 (org_id 3)\ndifferent 1, changed 0: t2 (org_id 2)\ntoo many 1, removed 0: 77 (\"Nobody\")"
	require.Equal(t, want, b.run(args))
	require.Equal(t, []string{"2 Old name t2", "77 Nobody"}, b.list(all))

	args.ReportOnly = false
	want = "public.organisations: the catalog has 3 tenants here, the table had 2 rows\nmissing 2, added 2: t1 (org_id 1), t3 (org_id 3)\ndifferent 1, changed 1: t2 (org_id 2)\ntoo many 1, removed 0: 77 (\"Nobody\")"
	require.Equal(t, want, b.run(args))
	require.Equal(t, []string{"1 Tenant 1 t1", "2 Tenant 2 t2", "3 Tenant 3 t3", "77 Nobody"}, b.list(all))

	args.Remove = true
	last := b.Wait(b.begin(args))
	require.Equal(t, "public.organisations: the catalog has 3 tenants here, the table had 4 rows\ntoo many 1, removed 1: 77 (\"Nobody\")", last.Result.Output)
	require.EqualValues(t, 1, last.Result.Rows)
	require.Equal(t, "public.organisations: the catalog has 3 tenants here, the table had 3 rows\nno drift", b.run(args))
}

func TestADedicatedDatabaseHoldsOneOrganisation(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema}).work()
	require.Contains(t, b.run(plain), "a dedicated database holds exactly one organisation, and public.organisations has 0 rows")
	b.tenants(1)
	require.NotContains(t, b.run(plain), "exactly one")
	b.exec("INSERT INTO organisations VALUES (8, 'Guest')")
	output := b.run(plain)
	require.Contains(t, output, `too many 1, removed 0: 8 ("Guest")`)
	require.Contains(t, output, "a dedicated database holds exactly one organisation, and public.organisations has 2 rows")
}

func TestRowsThatForeignKeysReferToStay(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(1)
	b.exec("INSERT INTO organisations VALUES (7, 'Has orders'), (8, 'Has none')")
	b.exec("INSERT INTO orders VALUES (7, 1)")
	output := b.run(tenancy.Organisations{Table: "public.organisations", Remove: true})
	require.Contains(t, output, `too many 2, removed 1: 7 ("Has orders"), 8 ("Has none")`)
	require.Contains(t, output, "left 1 of them: rows refer to them in public.orders")
	require.Equal(t, []string{"1 Tenant 1", "7 Has orders"}, b.list(all))
	require.Len(t, b.list("SELECT n::text FROM orders"), 1, "a DELETE would have taken the orders along")
}

func TestMoreThanRemoveMostIsNotRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.exec("INSERT INTO organisations SELECT n, 'x' FROM generate_series(1, 11) AS n")
	output := b.run(tenancy.Organisations{Table: "public.organisations", Remove: true})
	require.Contains(t, output, "too many 11, removed 0")
	require.Contains(t, output, "left 11 of them: they are more than remove_most, 10: none is removed")
	output = b.run(tenancy.Organisations{Table: "public.organisations", Remove: true, RemoveMost: 11})
	require.Contains(t, output, "too many 11, removed 11")
}

// An archived tenant's data stay, so its row does.
func TestRowsOfArchivedTenantsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(2)
	b.exec("INSERT INTO organisations VALUES (1, 'As it was')")
	for _, slug := range []string{"t1", "t2"} {
		require.NoError(t, b.Catalog.SetStatus(t.Context(), slug, catalog.Archived))
	}
	require.Contains(t, b.run(tenancy.Organisations{Table: "public.organisations", Remove: true}), "no drift")
	require.Equal(t, []string{"1 As it was"}, b.list(all))
}

// One row that a session holds keeps neither the job nor the other rows.
func TestALockedRowIsLeftForTheNextRun(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(3)
	b.exec("INSERT INTO organisations VALUES (1, 'a'), (2, 'b'), (66, 'held'), (67, 'free')")
	tx, err := b.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM organisations WHERE org_id IN (1, 66) FOR UPDATE")
	require.NoError(t, err)
	output := b.run(tenancy.Organisations{Table: "public.organisations", Remove: true})
	require.Contains(t, output, "missing 1, added 1")
	require.Contains(t, output, "different 2, changed 1")
	require.Contains(t, output, "locked by other sessions 1: the next run changes them")
	require.Contains(t, output, "too many 2, removed 1")
	require.Equal(t, []string{"1 a", "2 Tenant 2", "3 Tenant 3", "66 held"}, b.list(all))
	require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context())))
	b.run(plain)
	require.Equal(t, []string{"1 Tenant 1", "2 Tenant 2", "3 Tenant 3", "66 held"}, b.list(all))
}

// A session that adds a row which refers to an organisation does not keep its name back.
func TestASessionThatRefersToARowDoesNotHoldItsName(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(1)
	b.exec("INSERT INTO organisations VALUES (1, 'a')")
	tx, err := b.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "INSERT INTO orders VALUES (1, 1)")
	require.NoError(t, err)
	require.Contains(t, b.run(plain), "different 1, changed 1")
}

func TestKeysThatAreTextOrUUID(t *testing.T) {
	t.Parallel()
	for typ, key := range map[string]string{"text": "acme-key", "varchar(12)": "acme-key", "uuid": "6F9619FF-8B86-D011-B42D-00C04FC964FF"} {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE SCHEMA crm; CREATE TABLE crm."Customers" ("Ref" ` + typ + ` PRIMARY KEY, title varchar(20) NOT NULL, again ` + typ + `)`}).work()
			_, err := b.Catalog.AddTenants(t.Context(), []catalog.TenantParams{{Slug: "acme", Name: "Acme", OrgKey: key, Database: b.in}, {Slug: "plain", OrgID: 5, Database: b.in}})
			require.NoError(t, err)
			args := tenancy.Organisations{Table: "crm.Customers", ID: "Ref", Name: "title", Key: "again"}
			output := b.run(args)
			rows := b.list(`SELECT "Ref" || ' ' || title || ' ' || again FROM crm."Customers" ORDER BY title`)
			if typ == "uuid" {
				const id = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
				require.Equal(t, []string{id + " Acme " + id}, rows)
				require.Contains(t, output, `refused 1: plain (org_id 5): its org_key "5" is no UUID, and column "Ref" holds UUIDs`)
				require.Contains(t, b.run(args), "refused 1")
				return
			}
			require.Equal(t, []string{"acme-key Acme acme-key", "5 plain 5"}, rows)
			require.Contains(t, b.run(args), "no drift")
		})
	}
}

// One name that does not fit keeps no other row back.
func TestARowThatTheDatabaseRefusesIsNamed(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id int PRIMARY KEY, name varchar(12) NOT NULL CONSTRAINT nice CHECK (name <> 'bad'))`}).work()
	b.tenants(40)
	b.rename("t7", "a name that is far too long")
	b.rename("t23", "bad")
	output := b.run(plain)
	require.Contains(t, output, "missing 40, added 38")
	require.Contains(t, output, "refused 2: t7 (org_id 7): value too long for type character varying(12) (22001), t23 (org_id 23): constraint nice (23514)")
	b.rename("t7", "shorter")
	b.rename("t8", "bad")
	b.rename("t9", "new")
	output = b.run(plain)
	require.Contains(t, output, "missing 2, added 1")
	require.Contains(t, output, "different 2, changed 1")
}

// A slug that one tenant gave up and another took moves between two rows of a unique column.
func TestASlugMovesFromOneRowToAnother(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text UNIQUE)`}).work()
	b.tenants(4)
	b.exec("INSERT INTO organisations VALUES (1, 'Tenant 1', 't2'), (2, 'Tenant 2', 't3'), (3, 'Tenant 3', 't4'), (4, 'Tenant 4', 'gone')")
	output := b.run(tenancy.Organisations{Table: "public.organisations", Slug: "slug"})
	require.Contains(t, output, "different 4, changed 4")
	require.NotContains(t, output, "refused")
	require.Equal(t, []string{"1 Tenant 1 t1", "2 Tenant 2 t2", "3 Tenant 3 t3", "4 Tenant 4 t4"}, b.list(all))
}

func TestWhatIsWrongWithTheTableIsOneSentence(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `
		CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, n int, at timestamptz UNIQUE, nick text);
		CREATE TABLE strict (org_id bigint PRIMARY KEY, name text, owner text NOT NULL);
		CREATE VIEW seen AS SELECT * FROM organisations`}).work()
	b.tenants(1)
	b.exec("CREATE TABLE foreigner (org_id bigint PRIMARY KEY, name text)")
	b.exec("CREATE TABLE hidden (org_id bigint PRIMARY KEY, name text); GRANT ALL ON hidden TO PUBLIC; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY")
	for want, args := range map[string]tenancy.Organisations{
		`there is no table "public"."nothing" in this database`:                                                         {Table: "public.nothing"},
		`"public"."seen" is not a table`:                                                                                {Table: "public.seen"},
		`has no column "title" (argument name); it has org_id, name, n, at, nick`:                                       {Table: "public.organisations", Name: "title"},
		`column "n" of "public"."organisations" is of type integer, want text for the tenant's name`:                    {Table: "public.organisations", Name: "n"},
		`column "nick" of "public"."organisations" has no unique index of its own`:                                      {Table: "public.organisations", ID: "nick"},
		`column "at" of "public"."organisations" is of type timestamp with time zone, want smallint, integer or bigint`: {Table: "public.organisations", ID: "at"},
		`column "owner" of "public"."strict" must have a value in each row and has no default`:                          {Table: "public.strict"},
		`may not read and write table "public"."foreigner"`:                                                             {Table: "public.foreigner"},
		`row-level security hides rows of table "public"."hidden"`:                                                      {Table: "public.hidden"},
	} {
		require.Contains(t, b.refused(args), want)
	}
}

func TestArgumentsThatNoJobCanWorkWith(t *testing.T) {
	t.Parallel()
	for want, args := range map[string]tenancy.Organisations{
		`table "organisations": want schema.name`:                {Table: "organisations"},
		`table "a.b.c": want schema.name`:                        {Table: "a.b.c"},
		`id "or g": want a column's name`:                        {Table: "a.b", ID: "or g"},
		`slug: column name holds the name already`:               {Table: "a.b", Slug: "name"},
		`remove_most "1001": want 1 to 1000`:                     {Table: "a.b", Remove: true, RemoveMost: 1001},
		`remove_most is given without remove`:                    {Table: "a.b", RemoveMost: 3},
		`remove and report_only exclude each other: give one of`: {Table: "a.b", Remove: true, ReportOnly: true},
	} {
		err := args.Check()
		require.ErrorContains(t, err, want)
		var input *jobs.InputError
		require.ErrorAs(t, err, &input)
	}
	require.NoError(t, plain.Check())
}

// A tenant that is added while the job looks, with its row, is not taken for a row too many.
func TestATenantThatComesMeanwhileKeepsItsRow(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema})
	b.tenants(1)
	b.exec("INSERT INTO organisations VALUES (1, 'Tenant 1'), (2, 'Early row'), (3, 'Nobody')")
	looks := 0
	b.workWith(func(ctx context.Context, database string, after int64, limit int) ([]tenancy.Organisation, error) {
		placed, err := source(b.Catalog)(ctx, database, after, limit)
		if looks++; looks == 1 && err == nil {
			_, err = b.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "t2", OrgID: 2, Name: "Early row", Database: b.in})
		}
		return placed, err
	})
	output := b.run(tenancy.Organisations{Table: "public.organisations", Remove: true})
	require.Contains(t, output, "too many 2, removed 1")
	require.Contains(t, output, "a tenant has come for them")
	require.Equal(t, []string{"1 Tenant 1", "2 Early row"}, b.list(all))
}

// Jobs of one table follow each other, so that an older list is never written over a newer
// one. However the catalog changes while they run, the last one makes the rows equal.
func TestConcurrentJobsAndEditsEndEqual(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(50)
	var edits sync.WaitGroup
	for writer := range 4 {
		edits.Go(func() {
			for i := range 20 {
				slug := fmt.Sprintf("t%d", (writer*20+i)%50+1)
				if _, err := b.Pool.Exec(context.Background(), `UPDATE headgate.tenants SET name = $2 WHERE slug = $1`, slug, fmt.Sprintf("by %d, %d", writer, i)); err != nil {
					t.Errorf("renaming: %v", err)
				}
				if _, err := b.Catalog.AddTenant(context.Background(), catalog.TenantParams{Slug: fmt.Sprintf("new%d-%d", writer, i), Database: b.in}); err != nil {
					t.Errorf("adding: %v", err)
				}
			}
		})
	}
	uids := make([]string, 12)
	for i := range uids {
		uids[i] = b.begin(plain)
	}
	edits.Wait()
	for _, uid := range append(uids, b.begin(plain)) {
		last := b.Wait(uid)
		require.Equal(t, jobs.Succeeded, last.State, last.Message)
	}
	require.Contains(t, b.run(plain), "no drift")
	rows, err := b.Pool.Query(t.Context(), `SELECT org_id || ' ' || name FROM headgate.tenants ORDER BY org_id`)
	require.NoError(t, err)
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, want, b.list("SELECT org_id || ' ' || name FROM organisations ORDER BY org_id"))
	require.Len(t, want, 130)
}

func TestTenThousandTenants(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema}).work()
	b.tenants(10_000)
	output := b.run(plain)
	require.Contains(t, output, "missing 10000, added 10000: t1 (org_id 1), ")
	require.Contains(t, output, "t20 (org_id 20), and 9980 more")
	b.exec("UPDATE organisations SET name = 'other' WHERE org_id % 2 = 0")
	b.exec("DELETE FROM organisations WHERE org_id % 1000 = 1")
	output = b.run(plain)
	require.Contains(t, output, "missing 10, added 10")
	require.Contains(t, output, "different 5000, changed 5000")
	require.Contains(t, b.run(plain), "the catalog has 10,000 tenants here, the table had 10,000 rows\nno drift")
	require.False(t, slices.Contains(b.list("SELECT DISTINCT name FROM organisations"), "other"))
}
