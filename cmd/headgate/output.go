package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/headgate/headgate/jobs"
)

var formats = []string{"table", "json", "jsonl", "csv"}

// column is one column of a table and of csv. JSON has the whole row instead.
type column[T any] struct {
	name string // snake_case
	of   func(T) any
}

// list prints rows. empty is told on stderr instead of a table without rows:
// why there is nothing, and what makes something.
func list[T any](p *program, rows []T, empty string, columns []column[T]) error {
	switch p.output {
	case "json":
		if rows == nil {
			rows = []T{}
		}
		return p.json(rows)
	case "jsonl":
		return jsonLines(p, rows)
	case "csv":
		return csvRows(p, rows, columns)
	}
	if len(rows) == 0 {
		p.say("%s", empty)
		return nil
	}
	return tableRows(p, rows, columns)
}

// one prints a single row: an object in JSON, a table of one line otherwise.
func one[T any](p *program, row T, columns []column[T]) error {
	switch p.output {
	case "json":
		return p.json(row)
	case "jsonl":
		return jsonLines(p, []T{row})
	case "csv":
		return csvRows(p, []T{row}, columns)
	}
	return tableRows(p, []T{row}, columns)
}

// say tells people something on stderr.
func (p *program) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...) // where else could one say so
}

// print writes a line of data.
func (p *program) print(format string, args ...any) error {
	_, err := fmt.Fprintf(p.stdout, format+"\n", args...)
	return err
}

func (p *program) json(value any) error {
	out := json.NewEncoder(p.stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

func jsonLines[T any](p *program, rows []T) error {
	out := json.NewEncoder(p.stdout)
	out.SetEscapeHTML(false)
	for _, row := range rows {
		if err := out.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

func csvRows[T any](p *program, rows []T, columns []column[T]) error {
	out := csv.NewWriter(p.stdout)
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.name
	}
	if err := out.Write(header); err != nil {
		return err
	}
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = csvCell(c.of(row))
		}
		if err := out.Write(cells); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func tableRows[T any](p *program, rows []T, columns []column[T]) error {
	t := newTable()
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = strings.ReplaceAll(c.name, "_", " ")
	}
	t.AppendHeader(header)
	for _, row := range rows {
		cells := make(table.Row, len(columns))
		for i, c := range columns {
			cells[i] = p.tableCell(c.of(row))
		}
		t.AppendRow(cells)
	}
	_, err := fmt.Fprintln(p.stdout, t.Render())
	return err
}

// newTable has no lines: two spaces between columns, capitals on top.
func newTable() table.Writer {
	t := table.NewWriter()
	t.SuppressTrailingSpaces()
	style := table.StyleDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	return t
}

// tableCell shows a value to a person: times local with their zone, nothing as
// a dash, no control characters, which could rewrite a terminal.
func (p *program) tableCell(value any) string {
	shown := ""
	switch v := value.(type) {
	case time.Time:
		if !v.IsZero() {
			shown = v.In(p.zone).Format("2006-01-02 15:04:05 MST")
		}
	case *time.Time:
		if v != nil {
			shown = v.In(p.zone).Format("2006-01-02 15:04:05 MST")
		}
	case jobs.Time:
		shown = v.In(p.zone).Format("2006-01-02 15:04:05 MST")
	case *jobs.Time:
		if v != nil {
			shown = v.In(p.zone).Format("2006-01-02 15:04:05 MST")
		}
	default:
		shown = plain(value)
	}
	shown = printable(shown)
	if shown == "" {
		return "-"
	}
	return shown
}

// csvCell writes a value for a program; text that a spreadsheet would take for a
// formula gets a quote in front.
func csvCell(value any) string {
	switch v := value.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case *time.Time:
		if v == nil {
			return ""
		}
		return v.UTC().Format(time.RFC3339Nano)
	case jobs.Time:
		return v.UTC().String()
	case *jobs.Time:
		if v == nil {
			return ""
		}
		return v.UTC().String()
	case int, int64:
		return plain(v)
	}
	cell := plain(value)
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func plain(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case []string:
		return strings.Join(v, ", ")
	case map[string]string:
		pairs := make([]string, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			pairs = append(pairs, key+"="+v[key])
		}
		return strings.Join(pairs, ", ")
	case json.RawMessage:
		return string(v)
	default:
		return fmt.Sprint(v)
	}
}

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.In(r, unicode.Bidi_Control):
			return '\uFFFD'
		}
		return r
	}, s)
}
