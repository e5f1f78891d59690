package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/headgate/headgate/jobs/report"
)

// Formats are the values of --output.
var Formats = []string{"table", "json", "jsonl", "csv"}

// Column is one column of a table and of csv. JSON has the whole row instead.
type Column[T any] struct {
	Name string // snake_case
	Of   func(T) any

	Aside bool // not in a list's table, which has no room for the column
}

// List prints rows. empty is told on stderr instead of a table without rows:
// why there is nothing, and what makes something.
func List[T any](app *App, rows []T, empty string, columns []Column[T]) error {
	switch app.Output {
	case "json":
		if rows == nil {
			rows = []T{}
		}
		return app.JSON(rows)
	case "jsonl":
		return JSONLines(app, rows)
	case "csv":
		return CSV(app, rows, columns)
	}
	if len(rows) == 0 {
		app.Say("%s", empty)
		return nil
	}
	return Table(app, rows, columns)
}

// lineWidth is what a line of a terminal has room for.
const lineWidth = 80

// One prints a single row: an object in JSON, a table of one line otherwise. What a line has
// no room for stands upright.
func One[T any](app *App, row T, columns []Column[T]) error {
	switch app.Output {
	case "json":
		return app.JSON(row)
	case "jsonl":
		return JSONLines(app, []T{row})
	case "csv":
		return CSV(app, []T{row}, columns)
	}
	line := rendered(app, []T{row}, columns)
	if text.LongestLineLen(line) > lineWidth {
		return Upright(app, row, columns)
	}
	return app.Print("%s", line)
}

// Say tells people something on stderr.
func (app *App) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(app.Stderr, format+"\n", args...) // where else could one say so
}

// Print writes a line of data.
func (app *App) Print(format string, args ...any) error {
	_, err := fmt.Fprintf(app.Stdout, format+"\n", args...)
	return err
}

// JSON writes one value, indented.
func (app *App) JSON(value any) error {
	out := json.NewEncoder(app.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// JSONLines writes each row as JSON on one line.
func JSONLines[T any](app *App, rows []T) error {
	out := json.NewEncoder(app.Stdout)
	out.SetEscapeHTML(false)
	for _, row := range rows {
		if err := out.Encode(row); err != nil {
			return err
		}
	}
	return nil
}

// CSV writes a header and the rows.
func CSV[T any](app *App, rows []T, columns []Column[T]) error {
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.Name
	}
	out := report.AppendCSV(nil, header)
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = csvCell(c.Of(row))
		}
		out = report.AppendCSV(out, cells)
	}
	_, err := app.Stdout.Write(out)
	return err
}

// Table writes rows for people, without the columns that stand aside.
func Table[T any](app *App, rows []T, columns []Column[T]) error {
	columns = slices.DeleteFunc(slices.Clone(columns), func(c Column[T]) bool { return c.Aside })
	return app.Print("%s", rendered(app, rows, columns))
}

// rendered is a table of rows.
func rendered[T any](app *App, rows []T, columns []Column[T]) string {
	t := NewTable()
	header := make(table.Row, len(columns))
	for i, c := range columns {
		header[i] = strings.ReplaceAll(c.Name, "_", " ")
	}
	t.AppendHeader(header)
	for _, row := range rows {
		cells := make(table.Row, len(columns))
		for i, c := range columns {
			cells[i] = app.Cell(c.Of(row))
		}
		t.AppendRow(cells)
	}
	return t.Render()
}

// NewTable has no lines: two spaces between columns, capitals on top.
func NewTable() table.Writer {
	t := table.NewWriter()
	t.SuppressTrailingSpaces()
	style := table.StyleDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatUpper
	t.SetStyle(style)
	return t
}

// Upright prints a single row: as One does, but in a table each column is a line.
func Upright[T any](app *App, row T, columns []Column[T]) error {
	if app.Output != "table" {
		return One(app, row, columns)
	}
	t := NewTable()
	for _, c := range columns {
		t.AppendRow(table.Row{strings.ReplaceAll(c.Name, "_", " "), app.Cell(c.Of(row))})
	}
	return app.Print("%s", t.Render())
}
