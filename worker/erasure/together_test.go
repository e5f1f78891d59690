package erasure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/erasure"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// circle is two tables that refer to each other by a foreign key with an ending, and a third
// that refers to one of them.
func circle(ending string) string {
	return fmt.Sprintf(`
		CREATE TABLE accounts (id bigint PRIMARY KEY, org_id bigint NOT NULL, first_contact bigint);
		CREATE TABLE contacts (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts %[1]s);
		ALTER TABLE accounts ADD CONSTRAINT first FOREIGN KEY (first_contact) REFERENCES contacts %[1]s;
		CREATE TABLE letters (account_id bigint NOT NULL REFERENCES accounts %[1]s);
		CREATE INDEX ON accounts (first_contact);
		CREATE INDEX ON contacts (account_id);
		CREATE INDEX ON letters (account_id)`, ending)
}

var circled = []protection.Table{{Name: "accounts"}, {Name: "contacts", Through: "account_id"}, {Name: "letters", Through: "account_id"}}

// fillCircle gives organisations 1 and 2 accounts, each with a contact. The first ones refer
// to each other.
func (b *bundle) fillCircle(accounts, circles int) {
	b.t.Helper()
	b.exec(`INSERT INTO accounts SELECT n, 1 + n % 2 FROM generate_series(1, $1::int) n`, accounts)
	b.exec(`INSERT INTO contacts SELECT n, n FROM generate_series(1, $1::int) n`, accounts)
	b.exec(`INSERT INTO letters SELECT n FROM generate_series(1, $1::int) n`, accounts)
	b.exec(`UPDATE accounts SET first_contact = id WHERE id <= $1`, circles)
}

// others are all rows of a circle's tables that are not organisation 1's, as one text.
const others = `SELECT hashtext(string_agg(x, ' ' ORDER BY x)) FROM (SELECT 'a' || a.* FROM accounts a WHERE org_id <> 1 UNION ALL
	SELECT 'c' || c.* FROM contacts c JOIN accounts a ON a.id = c.account_id WHERE a.org_id <> 1 UNION ALL
	SELECT 'l' || l.* FROM letters l JOIN accounts a ON a.id = l.account_id WHERE a.org_id <> 1) o (x)`

// TestRowsThatReferToEachOtherGoTogether, whatever their foreign keys would do upon a DELETE:
// they stayed, and the application had to change them first. No other row is touched.
func TestRowsThatReferToEachOtherGoTogether(t *testing.T) {
	t.Parallel()
	for _, ending := range []string{
		"", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE", "ON DELETE RESTRICT", "ON DELETE CASCADE", "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
	} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{Schema: circle(ending)}, circled...)
			b.fillCircle(400, 300)
			before := b.number(others)
			b.work(erasure.Config{Batch: 40}, nil)
			b.remove(b.org[1])
			output := b.erased(b.org[1])
			require.Contains(t, output, "600 rows of 3 tables deleted")
			require.Contains(t, output, "public.accounts: 200")
			require.Contains(t, output, "public.contacts: 200")
			require.Equal(t, before, b.number(others))
			require.Equal(t, 600, b.number(`SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM contacts) + (SELECT count(*) FROM letters)`))
		})
	}
}

// TestACircleThatAnotherTenantsRowRefersToStays, and so does what only its rows refer to.
// Circles beside it go. A row that another session has locked keeps its own circle only.
func TestACircleThatAnotherTenantsRowRefersToStays(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: circle("ON DELETE CASCADE") + `;
		CREATE TABLE shares (id bigint PRIMARY KEY, org_id bigint NOT NULL, contact_id bigint REFERENCES contacts ON DELETE CASCADE)`},
		append(circled[:3:3], protection.Table{Name: "shares"})...)
	b.fillCircle(40, 40)
	b.exec(`INSERT INTO shares VALUES (1, 2, 4), (2, 1, 6)`)
	tx, err := b.db.Pool.Begin(b.ctx)
	require.NoError(t, err)
	_, err = tx.Exec(b.ctx, `SELECT FROM accounts WHERE id = 10 FOR UPDATE`)
	require.NoError(t, err)
	before := b.number(others)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "public.contacts: ")
	require.Contains(t, message, "are referred to by rows that are not this tenant's or not declared (")
	require.Contains(t, message, "public.accounts: 1 row is locked by other sessions")
	require.NotContains(t, message, "refer to each other")
	require.Equal(t, 14, b.number(`SELECT sum(id) FROM accounts WHERE org_id = 1`), "4 and 10")
	require.Equal(t, 2, b.number(`SELECT count(*) FROM contacts c JOIN accounts a ON a.id = c.account_id WHERE a.org_id = 1`))
	require.Equal(t, 1, b.number(`SELECT count(*) FROM shares`))
	require.NoError(t, tx.Rollback(b.ctx))
	b.exec(`UPDATE shares SET contact_id = NULL`)
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Equal(t, before, b.number(others))
	require.Equal(t, 1, b.number(`SELECT count(*) FROM shares`))
}

// TestACircleOfTooManyRowsStays and is named, circles beside it go, and no column is changed.
func TestACircleOfTooManyRowsStays(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO categories SELECT n, 1, NULL FROM generate_series(1, 130) n`)
	b.exec(`UPDATE categories SET parent = CASE WHEN id = 100 THEN 1 WHEN id < 100 THEN id + 1 WHEN id % 3 = 0 THEN id - 2 ELSE id + 1 END WHERE id <= 129`)
	b.work(erasure.Config{Batch: 60, Circle: 99}, nil)
	b.remove(b.org[1])
	uid, message := b.failed(b.org[1])
	require.Contains(t, message, "more than 99 rows of public.categories refer to each other: have the application set the columns of one foreign key to NULL in the rows of org_id 1, or delete them (")
	require.Equal(t, []int{100, 5050}, []int{b.number(`SELECT count(parent) FROM categories`), b.number(`SELECT sum(id) FROM categories`)})
	b.exec(`UPDATE categories SET parent = NULL WHERE id = 100`)
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.Zero(t, b.number(`SELECT count(*) FROM categories`))
}

// TestACircleWithATriggerStays where nobody trusts the trigger, and where it refuses. However
// many it refuses, the others go.
func TestACircleWithATriggerStays(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{Schema: circle("") + `;
		CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id <= 60 THEN RAISE EXCEPTION 'no'; END IF; IF OLD.id = 62 THEN RETURN NULL; END IF; RETURN OLD; END $$;
		CREATE TRIGGER judge BEFORE DELETE ON contacts FOR EACH ROW EXECUTE FUNCTION judge()`}, circled...)
	b.fillCircle(160, 160)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	_, message := b.failed(b.org[1])
	require.Contains(t, message, "trigger judge of public.contacts would run with the owner login's rights")
	require.Equal(t, 80, b.number(`SELECT count(*) FROM accounts WHERE org_id = 1`))
	b.trust("public.judge()")
	uid := b.erase(b.org[1]).JobUID
	failed := b.WaitFor(uid, func(o jobs.Outcome) bool {
		return o.State != jobs.Failed || !strings.Contains(o.Message, "owner login's rights")
	})
	require.Contains(t, failed.Message, "a trigger refused the deletion (P0001)")
	require.Contains(t, failed.Message, "1 row is kept by a trigger")
	require.Equal(t, 992, b.number(`SELECT sum(id) FROM accounts WHERE org_id = 1`), "those up to 62")
	b.exec(`DROP TRIGGER judge ON contacts`)
	last := b.Wait(uid)
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
}

// TestATreeWithinATableGoesLeafByLeaf: five levels of 5,000 rows, whose parents are older than
// their children, and a second tree whose parents are younger.
func TestATreeWithinATableGoesLeafByLeaf(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO categories SELECT n, 1, CASE WHEN n > 1 THEN (n + 6) / 8 END FROM generate_series(1, 5000) n`)
	b.exec(`INSERT INTO categories SELECT 20000 - n, 1, CASE WHEN n > 1 THEN 20000 - (n + 6) / 8 END FROM generate_series(5000, 1, -1) n`)
	b.exec(`INSERT INTO categories VALUES (20000, 2, NULL), (20001, 2, 20000)`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	require.Contains(t, b.erased(b.org[1]), "public.categories: 10000")
	require.Equal(t, 2, b.number(`SELECT count(*) FROM categories`))
}

// TestAChainWithinATableGoes whether parents are older or younger than their children. One
// statement deletes the rows of a batch: row by row each cost a look at all others.
func TestAChainWithinATableGoes(t *testing.T) {
	t.Parallel()
	for name, parent := range map[string]string{"younger children": "NULLIF(n - 1, 0)", "younger parents": "NULLIF(n + 1, 5001)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, jobstest.DatabaseOpts{})
			b.exec(`INSERT INTO categories SELECT n, 1, ` + parent + ` FROM generate_series(1, 5000) n`)
			b.exec(`INSERT INTO categories SELECT n, 2, NULLIF(n, 5001) - 1 FROM generate_series(5001, 6000) n`)
			b.exec(`ANALYZE categories`)
			reads := `SELECT seq_scan + idx_scan FROM pg_stat_all_tables WHERE relid = 'categories'::regclass`
			b.exec(`SELECT pg_stat_reset()`)
			b.work(erasure.Config{}, nil)
			b.remove(b.org[1])
			require.Contains(t, b.erased(b.org[1]), "public.categories: 5000")
			require.Equal(t, 1000, b.number(`SELECT count(*) FROM categories`))
			require.Eventually(t, func() bool {
				return b.number(`SELECT n_tup_del FROM pg_stat_all_tables WHERE relid = 'categories'::regclass`) == 5000
			}, time.Minute, 10*time.Millisecond)
			t.Log(b.number(reads))
			require.Less(t, b.number(reads), 100_000, "looks at the table by index")
		})
	}
}

// TestALoopWithinATableGoes with the row that leads to it, beside a row that refers to itself.
func TestALoopWithinATableGoes(t *testing.T) {
	t.Parallel()
	b := setup(t, jobstest.DatabaseOpts{})
	b.exec(`INSERT INTO categories VALUES (1, 1, NULL), (2, 1, 1), (3, 1, 2), (4, 1, 4), (5, 1, 1), (6, 1, NULL), (7, 2, 7)`)
	b.exec(`UPDATE categories SET parent = 3 WHERE id = 1; `)
	b.exec(`UPDATE categories SET parent = 6 WHERE id = 3`)
	b.exec(`UPDATE categories SET parent = 2 WHERE id = 6`)
	b.work(erasure.Config{}, nil)
	b.remove(b.org[1])
	require.Contains(t, b.erased(b.org[1]), "public.categories: 6")
	require.Equal(t, 7, b.number(`SELECT sum(id) FROM categories`))
}
