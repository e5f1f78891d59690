package importer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

func rowsOf(err error) []importer.RowError {
	var wrong *importer.RowsError
	if errors.As(err, &wrong) {
		return wrong.Rows
	}
	return nil
}

// Each way in which spreadsheets and databases write CSV.
func TestCSVForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, test := range map[string]struct{ input, name string }{
		"plain":               {"slug,name\naa,Acme\n", "Acme"},
		"no last line end":    {"slug,name\naa,Acme", "Acme"},
		"CRLF":                {"slug,name\r\naa,Acme\r\n", "Acme"},
		"byte order mark":     {"\ufeffslug,name\naa,Acme\n", "Acme"},
		"quoted":              {"\"slug\",\"name\"\n\"aa\",\"Acme, \"\"the\"\" one\"\n", `Acme, "the" one`},
		"formula of ours":     {"slug,name\naa,'=HYPERLINK(1)\n", "=HYPERLINK(1)"},
		"formula":             {"slug,name\naa,=1+1\n", "=1+1"},
		"apostrophe":          {"slug,name\naa,'t Huys\n", "'t Huys"},
		"semicolon in a name": {"slug,name\naa,\"a;b\"\n", "a;b"},
		"other letters":       {"Slug,Org-Name\naa,Ærø ☃\n", "Ærø ☃"},
		"blank lines":         {"slug,name\n\naa,Acme\n\n", "Acme"},
	} {
		plan, err := b.Import(t.Context(), readCSV(t, test.input), importer.Options{Database: "shared-1"})
		require.NoError(t, err, name)
		require.Equal(t, 1, plan.Rows, name)
		require.Equal(t, test.name, one[string](t, b, `SELECT name FROM headgate.tenants WHERE slug = 'aa'`), name)
	}
}

func TestCSVRefusals(t *testing.T) {
	t.Parallel()
	const head = "slug,name,org_id\n"
	for input, want := range map[string][]importer.RowError{
		head + "aa,Acme\n":                                                {{2, "the line has 2 cells, and the header 3"}},
		head + "aa,Acme,1,x\nbb\n":                                        {{2, "the line has 4 cells, and the header 3"}, {3, "the line has 1 cell, and the header 3"}},
		head + "aa,A\x00b,1\n":                                            {{2, "name: NUL characters and invalid UTF-8 are not allowed"}},
		head + "aa,A\xffb,1\n":                                            {{2, "name: NUL characters and invalid UTF-8 are not allowed"}},
		head + "aa,\"Ac\nme,1\nbb,x,2\n":                                  {{2, "a quoted cell does not end: close it with a quote"}},
		head + "aa,Ac\"me,1\n":                                            {{2, `a quote stands inside a cell that is not quoted: write "a ""quoted"" word"`}},
		head + "aa,\"Ac\"me,1\n":                                          {{2, `a quote inside a quoted cell is written twice, and behind the cell comes a comma: write "a ""quoted"" word"`}},
		head + "aa,x,007\nbb,\"y\nz\",-1\n":                               {{2, `org_id "007": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`}, {3, `org_id "-1": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`}},
		"slug,name,slug\naa,b,c\n":                                        {{1, `column "slug" is given twice`}},
		"slug,name,org-name\naa,b,c\n":                                    {{1, `column "name" is given twice (as "name" and "org-name")`}},
		"slug,nam\naa,b\n":                                                {{1, "column \"nam\" is unknown (did you mean name?); `headgate tenant import --help` lists the columns, and --ignore-columns, or a view, leaves some out"}},
		"slug,labels,label.x\naa,{},c\n":                                  {{1, `columns "labels" and "label.x" say the same in two forms: give one of them`}},
		"slug,dsn,db_host\naa,b,c\n":                                      {{1, `columns "connection_string" and "db_host" say the same in two forms: give one of them`}},
		"slug,labels\naa,\"{\"\"a\"\":\"\"b\"\"}x\"\n":                    {{2, `labels: give an object of JSON, as in {"tier": "gold"}: something follows the object: write one object a line`}},
		"slug,labels\naa,\"{\"\"a\"\":1}\"\n":                             {{2, `labels "a": the value of a label is a text`}},
		"slug,labels\naa,\"{\"\"a\"\":\"\"b\"\",\"\"a\"\":\"\"c\"\"}\"\n": {{2, `labels: give an object of JSON, as in {"tier": "gold"}: the name "a" is given twice`}},
		"slug,domains\naa,a.example a.example\n":                          {{2, `domains "a.example": it is given twice`}},
		"slug,email_domains\naa,GMail.com\n":                              {{2, `email_domains "GMail.com": anybody can have an address there: give a domain that only the tenant's people have addresses at`}},
		"slug,domains\naa,co.uk\n":                                        {{2, `domains "co.uk": it is a public suffix, below which anybody can have a domain: give a name of two or more parts of letters, digits and hyphens, as in acme.example`}},
		"slug,subdomains\naa,x.example:80\n":                              {{2, `subdomains "x.example:80": it has a port: give a name of two or more parts of letters, digits and hyphens, as in acme.example`}},
		"slug,domains\naa,10.0.0.1\n":                                     {{2, `domains "10.0.0.1": it is an IP address, not a domain name: give a name of two or more parts of letters, digits and hyphens, as in acme.example`}},
	} {
		_, err := importer.ReadCSV(strings.NewReader(input), importer.ReadOptions{})
		require.Equal(t, want, rowsOf(err), "%q: %v", input, err)
	}
	for input, want := range map[string]string{
		"aa,Acme,hunter2\n":                 "header: line 1 names the columns, and no cell of it (3) is slug, org_id, org_key or subdomains",
		"slug;name\naa;b\n":                 "header: line 1 has no comma: separate the columns with commas, not with semicolons or tabs",
		"\xff\xfes\x00l\x00":                "input: it is UTF-16: write it in UTF-8",
		"slug\naa\nbb\ncc\n":                "rows: there are more than 2; divide the input and import its parts (an import leaves alone what its input lacks, and a sync would suspend it)",
		"slug\n" + strings.Repeat("a", 300): "input: it is longer than 200 bytes: divide the input and import its parts (an import leaves alone what its input lacks, and a sync would suspend it)",
	} {
		_, err := importer.ReadCSV(strings.NewReader(input), importer.ReadOptions{MaxRows: 2, MaxBytes: 200})
		require.EqualError(t, err, want)
	}
	_, err := importer.ReadCSV(strings.NewReader("slug,created_at,x\naa,b,c\n"), importer.ReadOptions{Ignore: []string{"created_at", "x"}})
	require.NoError(t, err)
	_, err = importer.ReadCSV(strings.NewReader("slug,status\naa,suspended\n"), importer.ReadOptions{Ignore: []string{"Status"}})
	require.EqualError(t, err, `ignore-columns "Status": the input has no such column (did you mean status?); give columns as the input names them`)
}

func TestJSONLinesRefusals(t *testing.T) {
	t.Parallel()
	for input, want := range map[string][]importer.RowError{
		`{"slug":"aa"} {"slug":"bb"}`:           {{1, "something follows the object: write one object a line"}},
		`{"slug":"aa"}` + "\n\n" + `{"slug":"b`: {{3, "this is no object of JSON"}},
		`[{"slug":"aa"}]`:                       {{1, "this is an array: write one object a line, without brackets and commas between them"}},
		`{"slug":"aa","slug":"bb"}`:             {{1, `the name "slug" is given twice`}},
		`{"slug":"a\u0000"}`:                    {{1, "slug: NUL characters and invalid UTF-8 are not allowed"}},
		"{\"slug\":\"a\xff\"}":                  {{1, "NUL characters and invalid UTF-8 are not allowed"}},
		`{"slug":"aa","name":{}}`:               {{1, "name: give a text"}},
		`{"slug":"aa","name":true}`:             {{1, "name: give a text"}},
		`{"slug":"aa","org_id":1.5}`:            {{1, `org_id "1.5": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`}},
		`{"slug":"aa","domains":[1]}`:           {{1, "domains: give an array of texts, or one text with blanks between them"}},
		`{"slug":"aa","features":{"beta":[]}}`:  {{1, `features "beta": the value of a feature is true, false, a number or a text`}},
		`{"slug":"aa","labels":["x"]}`:          {{1, `labels: give an object of JSON, as in {"tier": "gold"}: this is no object of JSON`}},
		`{"slug":"aa","plam":"x"}`:              {{1, "column \"plam\" is unknown (did you mean plan?); `headgate tenant import --help` lists the columns, and --ignore-columns, or a view, leaves some out"}},
		`null`:                                  {{1, "this is no object of JSON"}},
	} {
		_, err := importer.ReadJSONLines(strings.NewReader(input), importer.ReadOptions{})
		require.Equal(t, want, rowsOf(err), "%q: %v", input, err)
	}
	_, err := importer.ReadJSONLines(strings.NewReader(`{"slug":"`+strings.Repeat("a", 1<<20)+`"}`), importer.ReadOptions{})
	require.ErrorContains(t, err, "line 1 is longer than 1048576 bytes")
}

// An org_id that the catalog cannot have is refused with the same sentence in each form of an
// input, however large it is.
func TestAnOrgIDBeyondTheRange(t *testing.T) {
	t.Parallel()
	b, conn := setup(t), source(t)
	b.imports(t, "slug,org_id\nfirst,1\n")
	before := b.fingerprint(t)
	for _, beyond := range []string{"0", "922337203685477", "9223372036854775807", "9223372036854775808", "99999999999999999999999999999999"} {
		want := []string{`org_id "` + beyond + `": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`}
		says := func(rows []importer.RowError) (all []string) {
			for _, r := range rows {
				all = append(all, r.Says)
			}
			return all
		}
		refusedBy := func(table *importer.Table, err error) []string {
			require.Nil(t, table)
			return says(rowsOf(err))
		}
		require.Equal(t, want, refusedBy(importer.ReadCSV(strings.NewReader("slug,org_id\naa,"+beyond+"\n"), importer.ReadOptions{})))
		require.Equal(t, want, refusedBy(importer.ReadJSONLines(strings.NewReader(`{"slug":"aa","org_id":`+beyond+`}`), importer.ReadOptions{})))
		require.Equal(t, want, refusedBy(importer.ReadJSONLines(strings.NewReader(`{"slug":"aa","org_id":"`+beyond+`"}`), importer.ReadOptions{})))
		require.Equal(t, want, refusedBy(importer.ReadQuery(t.Context(), conn, `SELECT 'aa' AS slug, `+beyond+` AS org_id`, importer.QueryOptions{})))
	}
	b.imports(t, "slug,org_id\nfirst,1\n")
	require.Equal(t, before, b.fingerprint(t))
}

// An address with a password in a column of names is refused, and no error repeats it.
func TestAnAddressWithAPasswordIsNoCell(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug\nfirst\n")
	before := b.fingerprint(t)
	for _, column := range []string{"slug", "org_key", "name", "plan", "timezone", "database", "status", "label.tier", "labels", "feature.beta", "features", "domains", "subdomains", "email_domains", "org_id"} {
		for _, address := range []string{"postgres://app:planted-S3cret@db/x", "host=db password=planted-S3cret"} {
			head := "slug," + column
			row := "aa," + address
			if column == "slug" {
				head, row = "slug,name", address+",x"
			}
			table, err := importer.ReadCSV(strings.NewReader(head+"\n"+row+"\n"), importer.ReadOptions{})
			if err == nil {
				_, err = b.Import(t.Context(), table, importer.Options{Database: "shared-1"})
			}
			require.NotEmpty(t, rowsOf(err), "%s: %v", column, err)
			for _, text := range []string{fmt.Sprintf("%v", err), fmt.Sprintf("%+v", rowsOf(err))} {
				require.NotContains(t, text, "planted", column)
				require.NotContains(t, text, "S3cret", column)
			}
		}
	}
	_, err := importer.ReadCSV(strings.NewReader("slug,postgres://app:planted-S3cret@db/x\naa,b\n"), importer.ReadOptions{})
	require.Error(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v", err, rowsOf(err)), "planted")
	require.Equal(t, before, b.fingerprint(t))
}

// Half of a surrogate pair became U+FFFD, and was written.
func TestHalfOfACharacterIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const says = `, which is half of a character: write the character itself, or both halves`
	for input, want := range map[string]string{
		`{"slug":"aa","name":"x\ud800"}`:                             `name: it holds \ud800` + says,
		`{"slug":"aa","name":"\uDC00x"}`:                             `name: it holds \uDC00` + says,
		`{"slug":"aa","name":"\ud83d\ud83d\ude00"}`:                  `name: it holds \ud83d` + says,
		`{"slug":"aa","labels":{"tier":"\ud800"}}`:                   `labels: it holds \ud800` + says,
		`{"slug":"aa","labels":{"\ud800":"gold"}}`:                   `labels: it holds \ud800` + says,
		`{"slug":"aa","labels":"{\"tier\": \"\\ud800\"}"}`:           `labels: it holds \ud800` + says,
		`{"slug":"aa","labels":"{\"\\ud800\": \"gold\"}"}`:           `labels: give an object of JSON, as in {"tier": "gold"}: a name holds \ud800` + says,
		`{"slug":"aa","features":{"theme":"\ud800"}}`:                `features: it holds \ud800` + says,
		`{"slug":"aa","label.tier":"\ud800"}`:                        `label.tier: it holds \ud800` + says,
		`{"slug":"aa","domains":["\ud800.example"]}`:                 `domains: it holds \ud800` + says,
		`{"slug":"aa","nam\ud800":"x"}`:                              `a name holds \ud800` + says,
		`{"slug":"aa","connection_string":"postgres://u:p\ud800@h"}`: `connection_string: it holds \ud800` + says,
	} {
		before := b.fingerprint(t)
		_, err := importer.ReadJSONLines(strings.NewReader(`{"slug":"first"}`+"\n"+input), importer.ReadOptions{})
		require.Equal(t, []importer.RowError{{Line: 2, Says: want}}, rowsOf(err), "%s: %v", input, err)
		require.Equal(t, before, b.fingerprint(t))
	}
	table, err := importer.ReadJSONLines(strings.NewReader(`{"slug":"aa","name":"\ud83d\ude00 \\ud800 \ufffd","note":"cut\ud83d"}`), importer.ReadOptions{Ignore: []string{"note"}})
	require.NoError(t, err, "whole characters, and what is ignored")
	_, err = b.Import(t.Context(), table, importer.Options{Database: "shared-1"})
	require.NoError(t, err)
	require.Equal(t, "\U0001F600 \\ud800 \uFFFD", one[string](t, b, `SELECT name FROM headgate.tenants`))
}

// All that is wrong with an input is said at once, and nothing is written.
func TestBadRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug,org_id,org_key,domains,database\nold,3,old-key,old.example,shared-1\nother,4,,,shared-1\nsolo,9,,,solo\n")
	for _, test := range []struct {
		input string
		want  []string
	}{
		{"slug\nA_B\nadmin\n", []string{`2 slug "A_B": it must match [a-z][a-z0-9-]{0,62}`, `3 slug "admin": it is reserved (admin, api, app, assets, auth, billing, cdn, dashboard, headgate, help, internal, localhost, login, mail, root, static, status, support, system, www); choose another`}},
		{"slug\naa\naa\n", []string{"3 slug: line 2 has the same"}},
		{"slug,org_id\naa,5\nbb,5\n", []string{"3 org_id: line 2 has the same"}},
		{"slug,org_id\nold,3\nnew,3\n", []string{"3 this is the tenant of line 2 too (org_id 3)"}},
		{"slug,org_id\nold,5\n", []string{"2 slug: the tenant with org_id 3 has it"}},
		{"slug,org_id\nold,4\n", []string{"2 slug: the tenant with org_id 3 has it"}},
		{"slug,org_key\naa,old-key\nold,\n", []string{"3 this is the tenant of line 2 too (org_id 3)"}},
		{"slug,org_key\nold,x\n", []string{"2 org_key: the tenant with org_id 3 has another one, which cannot be changed, because the rows of its tables carry it"}},
		{"slug,org_id,org_key\naa,5,old-key\n", []string{"2 org_id: the tenant with this org_key has the org_id 3, which cannot be changed, because the rows of its tables carry it"}},
		{"slug,org_key\naa,kk\nbb,kk\n", []string{"3 org_key: line 2 has the same in the same database"}},
		{"slug,org_id\naa,922337203685477\n", []string{`2 org_id "922337203685477": give a whole number from 1 to 922337203685476 in digits, or none for the next free one`}},
		{"slug,domains\naa,old.example\nbb,b.example\ncc,B.example.\n", []string{"2 domains: one of these domains is that of the tenant with org_id 3", "4 domains: line 3 has one of these domains too"}},
		{"slug,domains,subdomains\naa,b.example,b.example\n", []string{"2 subdomains: line 2 has one of these domains too"}},
		{"slug,timezone\naa,Europe/Pariss\n", []string{`2 timezone "Europe/Pariss": unknown IANA time zone "Europe/Pariss" (did you mean "Europe/Paris"?)`}},
		{"slug,plan\naa," + strings.Repeat("p", 64) + "\n", []string{"2 plan: 64 characters is too long; at most 63 are allowed"}},
		{"slug,name\naa,\"two\nlines\"\n", []string{"2 name: control characters and invalid UTF-8 are not allowed"}},
		{"slug,label.a b\naa,x\n", []string{`2 labels "a b": a key must have up to 63 letters, digits, _ . or -`}},
		{"slug,status\naa,actif\nbb,moving\nold,provisioning\n", []string{`2 status "actif": give active, suspended or archived`, `3 status "moving": give active, suspended or archived`}},
		{"slug,feature.bta\naa,true\n", []string{`2 features: there is no feature "bta" (did you mean beta?); the catalog has beta, seats, theme`}},
		{"slug,feature.beta,feature.seats\naa,maybe,many\nold,1,2\n", []string{`2 feature.beta "maybe": it is a switch: give true or false`, `2 feature.seats "many": it is a number: give one as 12 or 0.5, of up to 40 characters, and 0 or from 1e-40 to 1e+40 without its sign`, `3 feature.beta "1": it is a switch: give true or false`}},
		{"slug,database\naa,shared-9\nbb,\n", []string{"2 database \"shared-9\": no database has this name (did you mean shared-1?); `headgate database list` shows them"}},
		{"slug,database\nold,shared-2\n", []string{"2 database: the tenant with org_id 3 lives in shared-1, and an import moves nobody; give that one, or leave the columns out"}},
		{"slug,database\naa,solo\n", []string{`2 database: "solo" is dedicated and has its tenant already; give a shared one (db_kind shared where the input adds it), or another`}},
		{"org_id,name\n50,x\n", []string{"2 slug: it is missing, and there is no domain to take it from"}},
	} {
		var says []string
		for _, row := range b.refused(t, test.input, importer.Options{Database: "shared-1"}) {
			says = append(says, fmt.Sprintf("%d %s", row.Line, row.Says))
		}
		require.Equal(t, test.want, says, "%q", test.input)
	}

	// A hundred are listed, and all are counted.
	_, err := b.Import(t.Context(), readCSV(t, strings.ReplaceAll(numbered(0, 150), "t", "T")), importer.Options{Database: "shared-1"})
	var wrong *importer.RowsError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, 150, wrong.Total)
	require.Len(t, wrong.Rows, 100)
	require.ErrorContains(t, err, "150 errors in the input (nothing was written); the first is in line 2: slug")
	require.Contains(t, b.refused(t, "slug\naa\n", importer.Options{})[0].Says, "database: say where this tenant lives")
}
