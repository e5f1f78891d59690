package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Table is an input that was read to its end and has no wrong cell. It prints no secret.
type Table struct {
	has   map[string]bool
	rows  []row
	quiet bool // it has a column of secrets
}

// Rows is how many rows there are.
func (t *Table) Rows() int { return len(t.rows) }

// HasLogins reports that rows hold addresses of databases, so that keys are needed.
func (t *Table) HasLogins() bool {
	return slices.ContainsFunc(connections, func(name string) bool { return t.has[name] })
}

// row is what an input says of a tenant. What it leaves out is the zero value.
type row struct {
	line                                                               int
	orgID                                                              int64
	slug, orgKey, name, plan, timezone, database, server, status, kind string
	labels                                                             map[string]string
	features                                                           map[string]cell
	domains                                                            []catalog.BulkDomain
	logins                                                             *logins
}

// logins are the addresses of a row.
type logins struct {
	job, owner address.Address // the zero Owner: not given
}

// ReadOptions bound and direct the reading of an input.
type ReadOptions struct {
	// Ignore are columns, as the input names them, that are left out.
	Ignore []string

	// MaxRows is how many rows an input may have. 0 means 200,000.
	MaxRows int

	// MaxBytes is how long an input may be. 0 means 128 MiB. Its
	// rows have at most wire.MaxRowText each, and their fields wire.MaxFieldText.
	MaxBytes int64
}

const (
	defaultMaxRows  = 200_000
	defaultMaxBytes = 128 << 20
	maxLine         = 1 << 20
)

func (o ReadOptions) withDefaults() ReadOptions {
	if o.MaxRows <= 0 {
		o.MaxRows = defaultMaxRows
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	return o
}

// The kinds of cell. CSV has text only, which may stand for any.
const (
	isAbsent = iota
	isText
	isString
	isNumber
	isBool
	isJSON // an object or array
	isHalf // half of a character, as it is escaped: no value
)

type cell struct {
	text string
	kind byte
}

// builder makes a table of cells.
type builder struct {
	opts    ReadOptions
	columns columns
	table   Table
	wrong   RowsError
}

func newBuilder(opts ReadOptions) *builder {
	has := map[string]bool{}
	return &builder{opts: opts.withDefaults(), columns: columns{ignore: opts.Ignore, has: has}, table: Table{has: has}}
}

// quiet reports that no value may be repeated.
func (b *builder) quiet() bool {
	return slices.ContainsFunc(secrets, func(name string) bool { return b.columns.has[name] })
}

// full refuses one row too many.
func (b *builder) full() error {
	if len(b.table.rows) < b.opts.MaxRows {
		return nil
	}
	return jobs.Inputf("rows", "", "there are more than %d; divide the input and import its parts (an import leaves alone what its input lacks, and a sync would suspend it)", b.opts.MaxRows)
}

// tooLong refuses more bytes than an input may have.
func tooLong(most int64) error {
	return jobs.Inputf("input", "", "it is longer than %d bytes: divide the input and import its parts (an import leaves alone what its input lacks, and a sync would suspend it)", most)
}

// end is the table, or all that is wrong.
func (b *builder) end() (*Table, error) {
	if err := b.wrong.err(); err != nil {
		return nil, err
	}
	if len(b.table.rows) == 0 {
		return nil, fmt.Errorf("%w: nothing was written; give a row for each tenant", ErrEmpty)
	}
	if err := b.columns.ignored(); err != nil {
		return nil, err
	}
	b.table.quiet = b.quiet()
	return &b.table, nil
}

// parts are the cells of an address.
type parts map[string]string

// add makes a row of cells, which are in the order of columns.
func (b *builder) add(line int, of []column, cells []cell) {
	r, address := row{line: line}, parts{}
	if says := tooWide(of, cells); says != "" {
		b.wrong.add(line, says)
		b.table.rows = append(b.table.rows, r)
		return
	}
	for i, c := range of {
		if c.name == "" || cells[i].kind == isAbsent {
			continue
		}
		if err := r.set(c, cells[i], address); err != nil {
			b.wrong.add(line, sentence(err, b.quiet()))
		}
	}
	logins, err := address.logins()
	if err != nil {
		b.wrong.add(line, err.Error())
	}
	if b.wrong.Total > 0 { // there will be no table
		r = row{line: line}
	}
	r.logins, r.orgKey = logins, catalog.CanonicalKey(r.orgKey)
	b.table.rows = append(b.table.rows, r)
}

// tooWide says which cell is too long, or that all are together. Ignored columns count,
// because their cells are read too.
func tooWide(of []column, cells []cell) string {
	widest, whole := 0, 0
	for i := range cells {
		whole += len(cells[i].text)
		if len(cells[i].text) > len(cells[widest].text) {
			widest = i
		}
	}
	switch {
	case len(cells) == 0:
		return ""
	case len(cells[widest].text) > wire.MaxFieldText:
		return fmt.Sprintf("column %q has %d bytes, and a field may have %d", cut(of[widest].written), len(cells[widest].text), wire.MaxFieldText)
	case whole > wire.MaxRowText:
		return fmt.Sprintf("the row has %d bytes, %d of them in column %q: a row may have %d", whole, len(cells[widest].text), cut(of[widest].written), wire.MaxRowText)
	}
	return ""
}

var errText = errors.New("NUL characters and invalid UTF-8 are not allowed")

func (r *row) set(c column, v cell, address parts) (err error) {
	if strings.ContainsRune(v.text, 0) || !utf8.ValidString(v.text) {
		return jobs.Inputf(c.name, "", "%v", errText)
	}
	if v.kind == isHalf {
		return jobs.Inputf(c.name, "", "it %s", halfOf(v.text))
	}
	if texts := r.texts(c.name); texts != nil {
		*texts, err = v.plain(c.name)
		return err
	}
	switch {
	case slices.Contains(connections, c.name):
		address[c.name], err = v.plain(c.name)
	case c.name == "org_id":
		r.orgID, err = catalog.ParseOrgID(c.name, v.text)
	case c.name == "labels":
		r.labels, err = v.labels()
	case c.name == "features":
		r.features, err = v.features()
	case strings.HasPrefix(c.name, labelPrefix):
		err = r.setLabel(c, v)
	case strings.HasPrefix(c.name, featurePrefix):
		if v.text != "" {
			if r.features == nil {
				r.features = map[string]cell{}
			}
			r.features[c.key] = v
		}
	default:
		err = r.setDomains(c.name, v)
	}
	return err
}

// texts is the field of a column that is plain text, nil for the other columns.
func (r *row) texts(name string) *string {
	switch name {
	case "slug":
		return &r.slug
	case "org_key":
		return &r.orgKey
	case "name":
		return &r.name
	case "plan":
		return &r.plan
	case "timezone":
		return &r.timezone
	case "database":
		return &r.database
	case "server":
		return &r.server
	case "status":
		return &r.status
	case "db_kind":
		return &r.kind
	}
	return nil
}

func (r *row) setLabel(c column, v cell) error {
	text, err := v.plain(c.name)
	if text == "" || err != nil {
		return err
	}
	if r.labels == nil {
		r.labels = map[string]string{}
	}
	r.labels[c.key] = text
	return nil
}

// kindsOf are the kinds of domain of the columns.
var kindsOf = map[string]string{"domains": catalog.DomainCustom, "subdomains": catalog.DomainSubdomain, "email_domains": catalog.DomainEmail}

func (r *row) setDomains(name string, v cell) error {
	list, err := v.list(name)
	if err != nil {
		return err
	}
	for _, domain := range list {
		canonical, err := catalog.CheckDomain(name, domain, kindsOf[name])
		if err != nil {
			return err
		}
		d := catalog.BulkDomain{Name: canonical, Kind: kindsOf[name]}
		if slices.Contains(r.domains, d) {
			return jobs.Inputf(name, domain, "it is given twice")
		}
		r.domains = append(r.domains, d)
	}
	return nil
}

// plain is a text, or a number as text.
func (c cell) plain(field string) (string, error) {
	if c.kind == isBool || c.kind == isJSON {
		return "", jobs.Inputf(field, "", "give a text")
	}
	return c.text, nil
}

// list is an array of JSON, or texts with blanks, commas or semicolons between them.
func (c cell) list(field string) (list []string, err error) {
	if c.kind != isJSON {
		text, err := c.plain(field)
		return strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' || r == ';' }), err
	}
	if json.Unmarshal([]byte(c.text), &list) != nil {
		return nil, jobs.Inputf(field, "", "give an array of texts, or one text with blanks between them")
	}
	return list, nil
}

func (c cell) labels() (labels map[string]string, err error) {
	cells, err := c.object("labels")
	for key, value := range cells {
		if value.kind != isString {
			return nil, jobs.Inputf("labels", key, "the value of a label is a text")
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = value.text
	}
	return labels, err
}

func (c cell) features() (map[string]cell, error) {
	cells, err := c.object("features")
	for key, value := range cells {
		if value.kind == isJSON || value.kind == isAbsent {
			return nil, jobs.Inputf("features", key, "the value of a feature is true, false, a number or a text")
		}
	}
	return cells, err
}

// object reads an object of JSON, of the cell's own kind or as text.
func (c cell) object(field string) (map[string]cell, error) {
	if c.text == "" {
		return nil, nil //nolint:nilnil // an empty object
	}
	names, values, err := readObject([]byte(c.text))
	if err != nil {
		return nil, jobs.Inputf(field, "", "give an object of JSON, as in {\"tier\": \"gold\"}: %v", err)
	}
	cells := make(map[string]cell, len(names))
	for i, name := range names {
		if strings.ContainsRune(name, 0) || strings.ContainsRune(values[i].text, 0) {
			return nil, jobs.Inputf(field, "", "%v", errText)
		}
		if values[i].kind == isHalf {
			return nil, jobs.Inputf(field, "", "it %s", halfOf(values[i].text))
		}
		cells[name] = values[i]
	}
	return cells, nil
}
