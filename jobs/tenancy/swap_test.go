package tenancy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenancy"
)

var withSlug = tenancy.Organisations{Table: "public.organisations", Slug: "slug"}

const slugs = "SELECT org_id || ' ' || slug FROM organisations ORDER BY org_id"

// TestSlugsThatChangePlaces were refused by the unique column in each run, for ever. The
// control is the row whose name is refused: it keeps no other one back.
func TestSlugsThatChangePlaces(t *testing.T) {
	t.Parallel()
	for name, column := range map[string]string{
		"unique":            "slug varchar(8) UNIQUE",
		"checked":           "slug text UNIQUE CHECK (slug ~ '^[a-z][a-z0-9-]*$')",
		"without case":      "slug text); CREATE UNIQUE INDEX ON organisations (lower(slug)",
		"padded":            "slug char(12) UNIQUE",
		"excluded":          "slug text, EXCLUDE (slug WITH =)",
		"initially at once": "slug text UNIQUE DEFERRABLE INITIALLY IMMEDIATE",
		"at commit":         "slug text UNIQUE DEFERRABLE INITIALLY DEFERRED",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name varchar(12) NOT NULL, ` + column + `);
				CREATE TABLE orders (org_id bigint NOT NULL REFERENCES organisations)`}).work()
			b.tenants(9)
			b.exec(`INSERT INTO organisations SELECT n, 'Tenant ' || n, 't' || n FROM generate_series(1, 3) n`)
			b.exec(`INSERT INTO organisations VALUES (4, 'Tenant 4', 't5'), (5, 'Tenant 5', 't4'), (6, 'Tenant 6', 't7'), (7, 'Tenant 7', 't8'), (8, 'Tenant 8', 't6'), (9, 'Tenant 9', 'old')`)
			b.exec(`INSERT INTO orders VALUES (1), (2), (5)`)
			b.rename("t9", "a name that is far too long")
			output := b.run(withSlug)
			require.Contains(t, output, "different 6, changed 5")
			require.Contains(t, output, "refused 1: t9 (org_id 9): value too long")
			require.Equal(t, []string{"1 t1", "2 t2", "3 t3", "4 t4", "5 t5", "6 t6", "7 t7", "8 t8", "9 old"}, b.list(slugs))
			b.rename("t9", "Tenant 9")
			require.Contains(t, b.run(withSlug), "different 1, changed 1")
			require.Contains(t, b.run(withSlug), "no drift")
		})
	}
}

// TestALockedRowOfASwapKeepsItsUnitOnly: the rows of the other unit change places.
func TestALockedRowOfASwapKeepsItsUnitOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text UNIQUE)`}).work()
	b.tenants(4)
	b.exec("INSERT INTO organisations VALUES (1, 'Tenant 1', 't2'), (2, 'Tenant 2', 't1'), (3, 'Tenant 3', 't4'), (4, 'Tenant 4', 't3')")
	tx, err := b.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM organisations WHERE org_id = 1 FOR UPDATE")
	require.NoError(t, err)
	output := b.run(withSlug)
	require.Contains(t, output, "different 4, changed 2")
	require.Contains(t, output, "locked by other sessions 2, left for the next run: ")
	require.NotContains(t, output, "refused")
	require.Equal(t, []string{"1 t2", "2 t1", "3 t3", "4 t4"}, b.list(slugs))
	require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context())))
	require.Contains(t, b.run(withSlug), "different 2, changed 2")
	require.Contains(t, b.run(withSlug), "no drift")
}

// TestAConstraintAtCommitKeepsOneRow: it was checked when the job had ended, so that one row
// kept all others back.
func TestAConstraintAtCommitKeepsOneRow(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text CONSTRAINT one_slug UNIQUE DEFERRABLE INITIALLY DEFERRED);
		CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'bad' THEN RAISE EXCEPTION 'no'; END IF; RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER judge AFTER INSERT OR UPDATE ON organisations DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION judge()`}).work()
	b.tenants(30)
	b.exec("INSERT INTO organisations VALUES (77, 'Nobody', 't5'), (1, 'old', 't1'), (2, 'old', 't2')")
	b.rename("t2", "bad")
	output := b.run(withSlug)
	require.Contains(t, output, "missing 28, added 27")
	require.Contains(t, output, "different 2, changed 1")
	require.Contains(t, output, "refused 2: t2 (org_id 2): a trigger refused it (P0001), t5 (org_id 5): constraint one_slug (23505)")
	b.exec("DELETE FROM organisations WHERE org_id = 77")
	b.rename("t2", "good")
	require.Contains(t, b.run(withSlug), "missing 1, added 1")
	require.Contains(t, b.run(withSlug), "no drift")
}

// TestARowThatAnotherSessionHasNotCommitted keeps no other one back: the wait for it ended
// the job (55P03), and with it all rows.
func TestARowThatAnotherSessionHasNotCommitted(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text UNIQUE)`}).work()
	b.tenants(1000)
	b.exec("INSERT INTO organisations SELECT n, 'old', 't' || n FROM generate_series(1, 500) n WHERE n <> 400")
	b.exec("INSERT INTO organisations VALUES (400, 'old', 'was')")
	tx, err := b.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO organisations VALUES (700, 'theirs', 't400')")
	require.NoError(t, err)
	output := b.run(withSlug)
	require.Contains(t, output, "missing 500, added 499")
	require.Contains(t, output, "different 500, changed 499")
	require.Contains(t, output, "locked by other sessions 2, left for the next run: t400 (org_id 400), t700 (org_id 700)")
	require.Equal(t, []string{"400 old was"}, b.list("SELECT org_id || ' ' || name || ' ' || slug FROM organisations WHERE name = 'old'"))
	require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context())))
	require.Contains(t, b.run(withSlug), "different 1, changed 1")
	require.Contains(t, b.run(withSlug), "no drift")
}

// TestADeletionThatIsRefusedKeepsOneRow: a trigger that refused one row too many ended the
// job, and what the job had added was gone.
func TestADeletionThatIsRefusedKeepsOneRow(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: schema + `;
		CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.org_id = 77 THEN RAISE EXCEPTION 'no'; END IF; RETURN OLD; END $$;
		CREATE TRIGGER judge BEFORE DELETE ON organisations FOR EACH ROW EXECUTE FUNCTION judge()`}).work()
	b.tenants(2)
	b.exec("INSERT INTO organisations VALUES (76, 'a'), (77, 'b'), (78, 'c')")
	output := b.run(tenancy.Organisations{Table: "public.organisations", Remove: true})
	require.Contains(t, output, "missing 2, added 2")
	require.Contains(t, output, "too many 3, removed 2")
	require.Contains(t, output, "left 1 of them: a trigger refused it (P0001)")
	require.Equal(t, []string{"1 Tenant 1", "2 Tenant 2", "77 b"}, b.list(all))
}

// TestTenThousandSlugsChangePlaces by two, in one statement that makes the places free and
// one that fills them. A chain of 1,000 that take one after the other comes behind.
func TestTenThousandSlugsChangePlaces(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: `CREATE TABLE organisations (org_id bigint PRIMARY KEY, name text NOT NULL, slug text UNIQUE);
		CREATE TABLE writes (n int);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN INSERT INTO public.writes VALUES (1); RETURN NULL; END $$;
		CREATE TRIGGER note AFTER UPDATE ON organisations FOR EACH STATEMENT EXECUTE FUNCTION note()`}).work()
	b.tenants(10_000)
	b.exec("INSERT INTO organisations SELECT n, 'Tenant ' || n, 't' || CASE WHEN n % 2 = 0 THEN n - 1 ELSE n + 1 END FROM generate_series(1, 10000) n")
	require.Contains(t, b.run(withSlug), "different 10000, changed 10000")
	require.Equal(t, []string{"2"}, b.list("SELECT count(*)::text FROM writes"))
	require.Contains(t, b.run(withSlug), "no drift")
	b.exec("UPDATE organisations SET slug = 'was' || org_id WHERE org_id <= 1000")
	b.exec("UPDATE organisations SET slug = 't' || org_id + 1 WHERE org_id < 1000")
	output := b.run(withSlug)
	require.Contains(t, output, "different 1000, changed 1000")
	require.NotContains(t, output, "refused")
	require.Contains(t, b.run(withSlug), "no drift")
}
