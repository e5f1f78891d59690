package protection_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/protection"
)

// Organisations 1 and 2 have brands 1 and 2, each with one row.
const branded = `
CREATE TABLE sales (id int PRIMARY KEY, org_id bigint NOT NULL, brand_id smallint, note text); CREATE INDEX ON sales (org_id, brand_id);
CREATE TABLE lines (sale_id int NOT NULL REFERENCES sales, note text); CREATE INDEX ON lines (sale_id);
INSERT INTO sales SELECT o * 10 + b, o, b, '' FROM generate_series(1, 2) o, generate_series(1, 2) b;
INSERT INTO lines SELECT id, '' FROM sales;`

var salesByBrand = protection.Table{Name: "sales", Brand: "brand_id"}

// asBrand runs work as a job of one brand of an organisation, and undoes it.
func (h *house) asBrand(org int64, brand int, work func(tx pgx.Tx)) {
	h.t.Helper()
	ctx := context.Background()
	tx, err := h.job.Begin(ctx)
	require.NoError(h.t, err)
	defer func() { require.NoError(h.t, tx.Rollback(ctx)) }()
	key := strconv.FormatInt(org, 10)
	ticket := tenantdb.SignTicket(h.db.SigningKey, time.Now(), tenantdb.Bearer{Org: org, Key: key, Brand: strconv.Itoa(brand), UID: uuid.NewString()})
	_, err = tx.Exec(ctx, `SELECT headgate.enter_job($1, $2, 0, '', 0, 0, 0)`, ticket.Text, ticket.MAC)
	require.NoError(h.t, err)
	work(tx)
}

// ids are the keys that a job of a brand sees.
func (h *house) ids(org int64, brand int, table, key string) (seen []int) {
	h.t.Helper()
	h.asBrand(org, brand, func(tx pgx.Tx) {
		rows, _ := tx.Query(context.Background(), `SELECT `+key+` FROM `+table+` ORDER BY 1`)
		var err error
		seen, err = pgx.CollectRows(rows, pgx.RowTo[int])
		require.NoError(h.t, err)
	})
	return seen
}

// A job of a brand meets that brand's rows of its own organisation, in the table and in what
// is reached through it, and writes no others.
func TestBrandsBesideOrganisations(t *testing.T) {
	t.Parallel()
	h := newHouse(t, branded)
	h.protect(h.request(salesByBrand, protection.Table{Name: "lines", Through: "sale_id"}))
	require.Empty(t, h.open())
	for _, org := range []int64{1, 2} {
		require.Equal(t, 2, h.count(org, "sales"), "a job of all brands")
		require.Equal(t, 2, h.count(org, "lines"))
		for _, brand := range []int{1, 2} {
			own := []int{int(org)*10 + brand}
			require.Equal(t, own, h.ids(org, brand, "sales", "id"))
			require.Equal(t, own, h.ids(org, brand, "lines", "sale_id"))
		}
		require.Empty(t, h.ids(org, 0, "sales", "id"), "brand 0 is a brand")
	}
	ctx := context.Background()
	for _, sql := range []string{
		`INSERT INTO sales VALUES (100, 1, 2)`, `INSERT INTO sales VALUES (100, 2, 1)`, `INSERT INTO sales VALUES (100, 1, NULL)`,
		`UPDATE sales SET brand_id = 2`, `UPDATE sales SET org_id = 2`, `INSERT INTO lines VALUES (12)`,
	} {
		h.asBrand(1, 1, func(tx pgx.Tx) {
			_, err := tx.Exec(ctx, sql)
			require.ErrorContains(t, err, "42501", sql)
		})
	}
	h.asBrand(1, 1, func(tx pgx.Tx) {
		_, err := tx.Exec(ctx, `INSERT INTO sales VALUES (100, 1, 1)`)
		require.NoError(t, err)
		tag, err := tx.Exec(ctx, `UPDATE sales SET note = 'x'`)
		require.NoError(t, err)
		require.EqualValues(t, 2, tag.RowsAffected())
		tag, err = tx.Exec(ctx, `DELETE FROM lines`)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	})
}

// The same request again changes nothing: the brand's policy was dropped and made anew each
// time, with a lock on the table.
func TestProtectingABrandAgainChangesNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"smallint", "integer", "bigint"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, branded)
			h.mine(`ALTER TABLE sales ALTER brand_id TYPE ` + kind + `; ALTER TABLE sales RENAME brand_id TO "Brand"`)
			table := protection.Table{Name: "sales", Brand: `"Brand"`}
			h.protect(h.request(table))
			before := h.fingerprint()
			require.Empty(t, h.protect(h.request(table)).Statements)
			require.Empty(t, h.protect(h.request(protection.Table{Name: "sales"})).Statements, "what is declared stays")
			require.Equal(t, before, h.fingerprint())
			require.Equal(t, []int{11}, h.ids(1, 1, "sales", "id"))
			h.mine(`ALTER TABLE sales RENAME "Brand" TO "Marque"`)
			require.Empty(t, h.open(), "the policy has followed")
		})
	}
}

// A brand's policy that is taken away, or holds for less than it did, is open, and the command
// that is advised puts it right.
func TestAnOpenBrandIsNoticed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, branded)
	h.mine(`ALTER TABLE sales ADD shop_id int`)
	h.protect(h.request(salesByBrand))
	declared, err := protection.Declarations(context.Background(), h.owner)
	require.NoError(t, err)
	require.Equal(t, "brand_id", declared[0].Brand)
	const drop = `DROP POLICY headgate_brand ON sales; `
	const condition = `(SELECT headgate.current_brand()) IS NULL OR brand_id = (SELECT headgate.current_brand())`
	for name, does := range map[string]string{
		"taken away":             drop,
		"permissive":             drop + `CREATE POLICY headgate_brand ON sales TO headgate_job USING (` + condition + `)`,
		"for one command":        drop + `CREATE POLICY headgate_brand ON sales AS RESTRICTIVE FOR SELECT TO headgate_job USING (` + condition + `)`,
		"for another role":       drop + `CREATE POLICY headgate_brand ON sales AS RESTRICTIVE TO ` + h.db.Owner.User + ` USING (` + condition + `)`,
		"written freely":         `ALTER POLICY headgate_brand ON sales WITH CHECK (true)`,
		"with another way in":    `ALTER POLICY headgate_brand ON sales USING (` + condition + ` OR note = '')`,
		"of another column":      `ALTER POLICY headgate_brand ON sales USING ((SELECT headgate.current_brand()) IS NULL OR shop_id = (SELECT headgate.current_brand()))`,
		"of the organisation":    `ALTER POLICY headgate_brand ON sales USING ((SELECT headgate.current_brand()) IS NULL OR org_id = (SELECT headgate.current_org()))`,
		"where a brand is given": `ALTER POLICY headgate_brand ON sales USING ((SELECT headgate.current_brand()) IS NOT NULL OR brand_id = (SELECT headgate.current_brand()))`,
	} {
		t.Run(name, func(t *testing.T) {
			h := &house{t: t, db: h.db, owner: h.owner, job: h.job}
			h.within(does, "mixed_brands public.sales")
			before := h.fingerprint()
			h.mine(does)
			require.NotEqual(t, before, h.fingerprint(), "a worker looks again")
			require.Equal(t, "`headgate database protect shared --table public.sales --brand-column brand_id`", h.next("mixed_brands"))
			h.protect(h.request(protection.Table{Name: "public.sales", Brand: "brand_id"}))
			require.Empty(t, h.open())
			require.Equal(t, []int{11}, h.ids(1, 1, "sales", "id"))
			require.Equal(t, 2, h.count(1, "sales"))
		})
	}
	h.within(`DROP POLICY headgate_org ON sales`, "unguarded public.sales")
	h.within(`ALTER POLICY headgate_brand ON sales USING (brand_id = (SELECT headgate.current_brand())) WITH CHECK (headgate.current_brand() = brand_id)`, "")
}

// What a brand's column cannot be is refused, and a view, which would show all brands, does
// not take the place of the policy.
func TestABrandThatCannotBeBound(t *testing.T) {
	t.Parallel()
	h := newHouse(t, branded)
	h.refused(h.request(protection.Table{Name: "sales", Brand: "note"}), "column note of public.sales is of type text", "smallint, integer and bigint")
	h.refused(h.request(protection.Table{Name: "sales", Brand: "brand"}), "public.sales has no column brand", "--brand-column")
	h.refused(h.request(protection.Table{Name: "sales", Brand: "brand_id", By: protection.ByView}), "take neither public nor --by view")
	before := h.text(guards, "sales")
	h.protect(h.request(salesByBrand))
	h.refused(h.request(protection.Table{Name: "sales", By: protection.ByView}), "a view would show them all brands", "--withdraw public.sales")
	h.refused(h.request(protection.Table{Name: "lines", Through: "sale_id", By: protection.ByView}), "whose brands a view does not keep apart")
	h.protect(withdrawing(h, "sales"))
	require.Equal(t, before, h.text(guards, "sales"))
	h.protect(h.request(protection.Table{Name: "sales", By: protection.ByView}))
	require.Empty(t, h.open())
}

// TestABrandColumnThatIsTheOrganisations was taken, and jobs of a brand then saw no rows. So
// was org_brand_id, which holds another number than the brand's. The control is brand_id.
func TestABrandColumnThatIsTheOrganisations(t *testing.T) {
	t.Parallel()
	h := newHouse(t, branded+`ALTER TABLE sales ADD customer_id bigint, ADD org_brand_id bigint;`)
	for _, table := range []protection.Table{
		{Name: "sales", Brand: "org_id"},
		{Name: "sales", Column: "customer_id", Brand: "customer_id"},
		{Name: "sales", Column: "customer_id", Brand: "org_id"},
		{Name: "sales", Brand: "org_brand_id"},
	} {
		h.refused(h.request(table), "column "+table.Brand+" of public.sales holds an organisation", "0 to 9999", "--brand-column")
	}
	require.Equal(t, "0", h.text(`SELECT count(*)::text FROM headgate.protected`))
	h.protect(h.request(salesByBrand))
	require.Equal(t, []int{11}, h.ids(1, 1, "sales", "id"))
	h.refused(h.request(protection.Table{Name: "sales", Column: "brand_id"}), "column brand_id of public.sales holds an organisation")
}

// In a dedicated database the tables that are declared to keep brands apart are looked at, and
// no others; rights that its jobs have on others stay.
func TestBrandsOfADedicatedDatabase(t *testing.T) {
	t.Parallel()
	h := newHouse(t, branded+`CREATE TABLE notes (n int); GRANT SELECT, INSERT, UPDATE ON sales, notes TO headgate_job`)
	dedicated := func(h *house) string {
		report, err := protection.Inspect(context.Background(), h.job, protection.Options{Dedicated: true, Database: "shared"})
		require.NoError(t, err)
		return lines(report.Findings)
	}
	require.Empty(t, dedicated(h))
	req := h.request(salesByBrand)
	req.Dedicated = true
	h.protect(req)
	require.Empty(t, dedicated(h))
	require.Equal(t, []bool{true, true, false}, []bool{h.may("notes", "INSERT"), h.may("sales", "UPDATE"), h.may("sales", "DELETE")}, "rights are as they were")
	require.Equal(t, []int{11}, h.ids(1, 1, "sales", "id"))
	require.Empty(t, h.protect(req).Statements)
	for _, does := range []string{
		`DROP POLICY headgate_brand ON sales`,
		`ALTER TABLE sales DISABLE ROW LEVEL SECURITY`,
	} {
		before := h.fingerprint()
		h.mine(does)
		require.NotEqual(t, before, h.fingerprint())
		require.Equal(t, "mixed_brands public.sales", dedicated(h), does)
		h.protect(req)
		require.Empty(t, dedicated(h))
	}
	h.mine(`REVOKE ALL ON sales FROM headgate_job; DROP POLICY headgate_brand ON sales`)
	require.Empty(t, dedicated(h), "jobs have no right on it")
}
