package importer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// Import finds nothing to change in what Export has written, and makes the same catalog of
// it elsewhere.
func TestImportOfAnExportChangesNothing(t *testing.T) {
	t.Parallel()
	b, other, ctx := setup(t), setup(t), context.Background()
	rapid.Check(t, func(r *rapid.T) {
		for _, x := range []bundle{b, other} {
			_, err := x.pool.Exec(ctx, `WITH d AS (DELETE FROM headgate.tenant_domains), e AS (DELETE FROM headgate.tenant_emails) DELETE FROM headgate.tenants`)
			require.NoError(r, err)
		}
		table, err := importer.ReadJSONLines(strings.NewReader(drawTenants(r)), importer.ReadOptions{})
		require.NoError(r, err)
		_, err = b.Import(ctx, table, importer.Options{})
		require.NoError(r, err)

		var first string
		for _, format := range []string{importer.CSV, importer.JSONLines} {
			for _, x := range []bundle{b, other, other} {
				var out bytes.Buffer
				_, err := b.Export(ctx, &out, format)
				require.NoError(r, err)
				read := importer.ReadCSV
				if format == importer.JSONLines {
					read = importer.ReadJSONLines
				}
				table, err := read(bytes.NewReader(out.Bytes()), importer.ReadOptions{})
				require.NoError(r, err)
				plan, err := x.Import(ctx, table, importer.Options{})
				require.NoError(r, err)
				require.True(r, plan.Empty() || x.pool == other.pool && first == "", "%+v", plan.Items)
				var again bytes.Buffer
				_, err = x.Export(ctx, &again, format)
				require.NoError(r, err)
				require.Equal(r, out.String(), again.String())
				if x.pool == other.pool {
					first = "written"
				}
			}
		}
	})
}

// drawTenants draws tenants as JSON Lines.
func drawTenants(r *rapid.T) string {
	text := rapid.OneOf(
		rapid.StringMatching(`['=+@;,"\\ a-zé-]{0,12}`).Filter(func(s string) bool { return s == "" || strings.TrimSpace(s) != "" }), rapid.StringMatching(`[A-Za-z ]{0,20}`).Filter(func(s string) bool { return s == "" || strings.TrimSpace(s) != "" }),
		rapid.SampledFrom([]string{"", "''=1", `\.`, "'", "null", "{}", "0", "a|b"}))
	slugs := rapid.SliceOfNDistinct(rapid.StringMatching(`[b-z][a-z0-9-]{3,10}`), 1, 8, rapid.ID[string]).Draw(r, "slugs")
	var out strings.Builder
	lines := json.NewEncoder(&out)
	for i, slug := range slugs {
		row := map[string]any{
			"slug": slug, "name": text.Draw(r, "name"), "plan": rapid.SampledFrom([]string{"", "pro", "=1"}).Draw(r, "plan"), "database": rapid.SampledFrom([]string{"shared-1", "shared-2"}).Draw(r, "database"),
			"timezone": rapid.SampledFrom([]string{"", "UTC", "Europe/Paris"}).Draw(r, "timezone"), "status": rapid.SampledFrom([]string{"active", "suspended", "archived"}).Draw(r, "status"),
			"labels":   rapid.MapOfN(rapid.StringMatching(`[A-Za-z0-9_.-]{1,8}`).Filter(func(k string) bool { return !strings.ContainsAny(k[:1], "_.-") }), text, 0, 3).Draw(r, "labels"),
			"features": rapid.SampledFrom([]map[string]any{{}, {"beta": true}, {"beta": false, "seats": 1.5, "theme": "=x"}, {"seats": json.RawMessage("1.0"), "theme": ""}, {"seats": -1e20}}).Draw(r, "features"),
		}
		if rapid.Bool().Draw(r, "key") {
			row["org_key"] = "key-" + slug
		}
		if rapid.Bool().Draw(r, "domains") {
			row["domains"], row["subdomains"], row["email_domains"] = []string{slug + "x.example", "a." + slug + "x.example"}, []string{slug + "x.saas.example"}, []string{slug + "x.example"}
		}
		if i == 0 && rapid.Bool().Draw(r, "number") {
			row["org_id"] = rapid.IntRange(1_000_000, 2_000_000).Draw(r, "org_id")
		}
		if lines.Encode(row) != nil {
			r.Fatal("no JSON")
		}
	}
	return out.String()
}

// A tenant that is being moved, and one that is not ready, are exported and left alone.
func TestStatusesUnderWayStay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug\naa\nbb\n")
	require.NoError(t, b.catalog.SetStatus(t.Context(), "aa", catalog.Moving))
	require.NoError(t, b.catalog.SetStatus(t.Context(), "bb", catalog.Provisioning))
	var out bytes.Buffer
	_, err := b.Export(t.Context(), &out, importer.CSV)
	require.NoError(t, err)
	require.Contains(t, out.String(), "moving")
	require.True(t, b.imports(t, out.String()).Empty())
	plan := b.imports(t, "slug,status\naa,suspended\nbb,active\n")
	require.True(t, plan.Empty())
	require.Equal(t, 2, plan.Kept)
}

func FuzzReadCSV(f *testing.F) {
	for _, text := range []string{"slug,name\naa,b\n", "\ufeffslug\r\n\"a\"\"a\"\n", "slug,labels\naa,\"{\"\"a\"\":\"\"b\"\"}\"\n", "slug,db_host,db_password\na,b,c\n", "org_id,dsn\n1,postgres://u:p@h/d\n", "slug,'=x\n", "slug,feature.x\na,\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { fuzzed(t, text, importer.ReadCSV) })
}

func FuzzReadJSONLines(f *testing.F) {
	for _, text := range []string{`{"slug":"aa","org_id":1}`, `{"slug":"aa"}` + "\n" + `{"labels":{"a":"b"},"domains":["x.example"]}`, `{"slug":"a","features":{"x":1e5}}`, `[]`, `{"a":null}`, `{"slug":"a","dsn":"postgres://u:p@h/d"}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { fuzzed(t, text, importer.ReadJSONLines) })
}

// fuzzed reads anything: there are rows, or an error whose text is valid.
func fuzzed(t *testing.T, text []byte, read func(io.Reader, importer.ReadOptions) (*importer.Table, error)) {
	t.Helper()
	table, err := read(bytes.NewReader(text), importer.ReadOptions{MaxRows: 100})
	if err == nil {
		require.Positive(t, table.Rows())
		return
	}
	require.True(t, utf8.ValidString(err.Error()))
	for _, row := range rowsOf(err) {
		require.Positive(t, row.Line)
		require.Less(t, len(row.Says), 1000)
	}
}
