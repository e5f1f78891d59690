package importer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/headgate/headgate/jobs"
)

// ReadCSV reads CSV (RFC 4180, UTF-8 with or without a byte order mark) to its end. The
// first line names the columns. An apostrophe before a formula's first character, which
// Export writes, is taken off, except in columns of secrets. A *RowsError lists wrong rows.
func ReadCSV(r io.Reader, opts ReadOptions) (*Table, error) {
	b := newBuilder(opts)
	in, err := plainText(r, b.opts.MaxBytes)
	if err != nil {
		return nil, err
	}
	records := csv.NewReader(in)
	records.ReuseRecord, records.FieldsPerRecord = true, -1
	header, err := records.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w, and no header: nothing was written; the first line names the columns", ErrEmpty)
	case err != nil:
		return nil, csvError(err)
	}
	if err := b.header(header); err != nil {
		return nil, err
	}
	for {
		record, err := records.Read()
		switch {
		case errors.Is(err, io.EOF):
			return b.end()
		case err != nil: // what follows cannot be told from it
			wrong := &RowsError{}
			if !errors.As(csvError(err), &wrong) {
				return nil, err
			}
			b.wrong.add(wrong.Rows[0].Line, wrong.Rows[0].Says)
			return b.end()
		}
		if err := b.full(); err != nil {
			return nil, err
		}
		line, _ := records.FieldPos(0)
		b.record(line, record)
	}
}

// csvError is an error of the form as one of a line. csv's own sentences repeat nothing of
// the input.
func csvError(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	says := "a quoted cell does not end: close it with a quote"
	if errors.Is(parse.Err, csv.ErrBareQuote) {
		says = `a quote stands inside a cell that is not quoted: write "a ""quoted"" word"`
	} else if parse.Line == parse.StartLine {
		says = `a quote inside a quoted cell is written twice, and behind the cell comes a comma: write "a ""quoted"" word"`
	}
	return &RowsError{Total: 1, Rows: []RowError{{parse.StartLine, says}}}
}

func (b *builder) header(header []string) error {
	if !named(header) {
		if len(header) == 1 && strings.ContainsAny(header[0], ";\t") {
			return jobs.Inputf("header", "", "line 1 has no comma: separate the columns with commas, not with semicolons or tabs")
		}
		return jobs.Inputf("header", "", "line 1 names the columns, and no cell of it (%d) is slug, org_id, org_key or subdomains", len(header))
	}
	for _, name := range header {
		if _, err := b.columns.add(name); err != nil {
			b.wrong.add(1, err.Error())
		}
	}
	return b.wrong.err()
}

func (b *builder) record(line int, record []string) {
	if len(record) != len(b.columns.given) {
		b.wrong.add(line, fmt.Sprintf("the line has %s, and the header %d", jobs.Count(len(record), "cell"), len(b.columns.given)))
		b.table.rows = append(b.table.rows, row{line: line})
		return
	}
	cells := make([]cell, len(record))
	for i, text := range record {
		if !b.columns.given[i].secret() {
			text = unguard(text)
		}
		cells[i] = cell{text, isText}
	}
	b.add(line, b.columns.given, cells)
}

const formula = "=+-@\t\r\n"

// guard puts an apostrophe before what a spreadsheet would run, and before what unguard
// would shorten.
func guard(text string) string {
	if rest := strings.TrimLeft(text, "'"); rest != "" && strings.IndexByte(formula, rest[0]) >= 0 {
		return "'" + text
	}
	return text
}

func unguard(text string) string {
	if rest := strings.TrimLeft(text, "'"); rest != "" && rest != text && strings.IndexByte(formula, rest[0]) >= 0 {
		return text[1:]
	}
	return text
}

// plainText is UTF-8 without its byte order mark, no longer than most bytes.
func plainText(r io.Reader, most int64) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(&bounded{r: r, left: most, most: most}, 64<<10)
	mark, err := in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(mark, []byte("\xef\xbb\xbf")):
		_, err = in.Discard(3)
		return in, err
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return nil, jobs.Inputf("input", "", "it is UTF-16: write it in UTF-8")
	}
	return in, nil
}

// bounded refuses more than so many bytes, where an io.LimitedReader would cut them off.
type bounded struct {
	r          io.Reader
	left, most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, tooLong(b.most)
	}
	return n, err
}
