package importer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// input is objects that count how often they are read.
type input struct {
	rows  []string
	reads int
	fails error
}

func (in *input) objects(columns ...string) importer.Objects {
	return importer.Objects{Name: "table", Columns: columns, Each: func(_ context.Context, do func([]byte) error) error {
		in.reads++
		for _, row := range in.rows {
			if err := do([]byte(row)); err != nil {
				return err
			}
		}
		return in.fails
	}}
}

// An input that is as it was is read once and compared with nothing, in whatever order its
// rows come. Each change of the catalog that an import reads, and of the input, is seen.
func TestSteadySeesEachChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	steady := importer.NewSteady(b.Importer)
	in := &input{rows: []string{`{"slug": "aa", "plan": "pro"}`, `{"slug": "bb", "plan": "pro"}`, `{"slug": "cc", "plan": "pro"}`}}
	run := func() (plan *importer.Plan, reads int) {
		t.Helper()
		before := in.reads
		plan, err := steady.Import(t.Context(), in.objects("slug", "plan"), synced)
		require.NoError(t, err)
		return plan, in.reads - before
	}
	planned := func(changes int) {
		t.Helper()
		plan, reads := run()
		require.Equal(t, changes, plan.Tenants())
		require.Positive(t, reads)
		if changes > 0 {
			plan, _ = run()
			require.Zero(t, plan.Tenants())
		}
		plan, reads = run()
		require.Equal(t, 1, reads, "it is remembered")
		require.Equal(t, []int{3, 3}, []int{plan.Rows, plan.Unchanged})
		require.True(t, plan.Empty())
	}
	planned(3)
	slices.Reverse(in.rows)
	_, reads := run()
	require.Equal(t, 1, reads, "the order is of no matter")

	b.exec(t, `UPDATE headgate.tenants SET plan = 'free' WHERE slug = 'bb'`)
	planned(1)
	for _, sql := range []string{ // nothing to do, but looked at
		`UPDATE headgate.tenants SET labels = '{"a": "b"}' WHERE slug = 'bb'`,
		`INSERT INTO headgate.tenant_domains (domain, tenant_id, kind) SELECT 'x.example', id, 'custom' FROM headgate.tenants WHERE slug = 'aa'`,
		`INSERT INTO headgate.tenant_emails (domain, tenant_id) SELECT 'x.example', id FROM headgate.tenants WHERE slug = 'aa'`,
		`INSERT INTO headgate.features (name, type) VALUES ('more', 'boolean')`,
		`UPDATE headgate.servers SET hosts = hosts || '{db2.example.com}'`,
		`UPDATE headgate.databases SET name = 'duo' WHERE name = 'solo'`,
	} {
		b.exec(t, sql)
		plan, reads := run()
		require.Equal(t, 2, reads, sql)
		require.True(t, plan.Empty())
		_, reads = run()
		require.Equal(t, 1, reads, sql)
	}
	in.rows[0] = `{"slug": "cc", "plan": "gold"}`
	planned(1)
	in.rows = append(in.rows, in.rows[0]) // the same row twice is another input, and wrong
	_, err := steady.Import(t.Context(), in.objects("slug", "plan"), synced)
	require.ErrorAs(t, err, new(*importer.RowsError))
	in.rows = nil
	_, err = steady.Import(t.Context(), in.objects("slug", "plan"), synced)
	require.ErrorIs(t, err, importer.ErrEmpty)
	require.Equal(t, 3, one[int](t, b, `SELECT count(*) FROM headgate.tenants WHERE status = 'active'`))
}

// Another source, database, number or column is another import.
func TestSteadyKeepsImportsApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	steady := importer.NewSteady(b.Importer)
	in := &input{rows: []string{`{"slug": "aa"}`}}
	for range 3 {
		_, err := steady.Import(t.Context(), in.objects("slug"), synced)
		require.NoError(t, err)
	}
	b.exec(t, `UPDATE headgate.tenants SET name = 'Other'`)
	for range 2 {
		_, err := steady.Import(t.Context(), in.objects("slug"), synced)
		require.NoError(t, err)
	}
	plan, err := steady.Import(t.Context(), in.objects("slug", "name"), synced)
	require.NoError(t, err)
	require.Equal(t, 1, plan.Changed, "the column says that the name is the slug")
	_, err = steady.Import(t.Context(), in.objects("slug"), importer.Options{Source: "other"})
	require.ErrorContains(t, err, `belongs to the sync "crm"`)
}

// A source that fails half way is an error, whether it is remembered or not, and a wrong row
// too.
func TestSteadyWithAFailingSource(t *testing.T) {
	t.Parallel()
	b := setup(t)
	steady := importer.NewSteady(b.Importer)
	in := &input{rows: []string{`{"slug": "aa"}`}, fails: errors.New("gone")}
	for _, fails := range []error{in.fails, nil, nil, nil, in.fails} {
		in.fails = fails
		plan, err := steady.Import(t.Context(), in.objects("slug"), synced)
		require.ErrorIs(t, err, fails)
		if fails != nil {
			require.Nil(t, plan)
		}
	}
	in.fails = nil
	_, err := steady.Import(t.Context(), in.objects("slug", "nam"), synced)
	require.ErrorContains(t, err, `column "nam" is unknown (did you mean name?)`)
}

// Whatever inputs follow each other, the catalog is as after a plain import of each.
func TestSteadyIsImport(t *testing.T) {
	t.Parallel()
	plain, steadily := setup(t), setup(t)
	steady := importer.NewSteady(steadily.Importer)
	tenants := `SELECT coalesce(string_agg(concat_ws(' ', slug, name, plan, status, status_reason, source), ',' ORDER BY slug), '') FROM headgate.tenants`
	rapid.Check(t, func(r *rapid.T) {
		in := &input{}
		for _, slug := range rapid.SliceOfNDistinct(rapid.SampledFrom(strings.Split("aa bb cc dd ee", " ")), 1, 5, rapid.ID).Draw(r, "slugs") {
			in.rows = append(in.rows, fmt.Sprintf(`{"slug": %q, "plan": %q}`, slug, rapid.SampledFrom([]string{"free", "pro"}).Draw(r, "plan")))
		}
		edit := rapid.SampledFrom([]string{`SELECT`, `UPDATE headgate.tenants SET plan = 'hand' WHERE slug = 'aa'`, `UPDATE headgate.tenants SET status = 'suspended', status_reason = 'by hand' WHERE slug = 'bb'`}).Draw(r, "edit")
		table, err := importer.ReadObjects(context.Background(), in.objects("slug", "plan"), importer.ReadOptions{})
		require.NoError(r, err)
		_, held := plain.Import(context.Background(), table, synced)
		if held != nil {
			require.ErrorIs(r, held, importer.ErrMissing)
		}
		for range rapid.IntRange(1, 3).Draw(r, "runs") {
			_, err := steady.Import(context.Background(), in.objects("slug", "plan"), synced)
			require.Equal(r, held, err)
		}
		require.Equal(r, one[string](t, plain, tenants), one[string](t, steadily, tenants))
		plain.exec(t, edit)
		steadily.exec(t, edit)
	})
}

func TestReadObjectsIsBounded(t *testing.T) {
	t.Parallel()
	in := &input{rows: []string{`{"slug": "aa"}`, `{"slug": "bb"}`, `{"slug": "cc"}`}}
	for says, opts := range map[string]importer.ReadOptions{
		"there are more than 2":      {MaxRows: 2},
		"it is longer than 20 bytes": {MaxBytes: 20},
	} {
		_, err := importer.ReadObjects(t.Context(), in.objects("slug"), opts)
		require.ErrorContains(t, err, says)
	}
	in.rows = []string{`{"slug": "aa", "nam": "x"}`}
	_, err := importer.ReadObjects(t.Context(), in.objects("slug"), importer.ReadOptions{})
	require.ErrorContains(t, err, `column "nam" is unknown`)
}
