package main

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// grid is lines of cells, the header first. Its last column is the one that
// gives way.
type grid [][]string

// rightColumn holds figures, which stand under each other.
const rightColumn = 6

const gap = 2 // between two columns

// fit cuts the middle out of what is too long in the last column: of a file's
// name the two ends say most. It returns false, and does nothing, if less than
// least letters would be left.
func (g grid) fit(width, least int) bool {
	last := len(g[0]) - 1
	room := g.longest(last) - max(g.width()-width, 0)
	if room < least {
		return false
	}
	for _, line := range g {
		line[last] = elide(line[last], room)
	}
	return true
}

func elide(s string, room int) string {
	letters := []rune(s)
	if len(letters) <= room {
		return s
	}
	head := room / 2
	return string(letters[:head]) + "…" + string(letters[len(letters)-(room-head-1):])
}

func (g grid) width() int {
	width := gap * (len(g[0]) - 1)
	for column := range g[0] {
		width += g.longest(column)
	}
	return width
}

func (g grid) longest(column int) (n int) {
	for _, line := range g {
		n = max(n, text.StringWidthWithoutEscSequences(line[column]))
	}
	return n
}

// render sets the grid as a table, with the lines in red that red says.
func (g grid) render(red func(line int) bool) string {
	t := table.NewWriter()
	t.SetStyle(table.Style{Box: table.BoxStyle{PaddingRight: strings.Repeat(" ", gap)}})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: rightColumn + 1, Align: text.AlignRight}})
	t.SuppressTrailingSpaces()
	for i, line := range g {
		row := make(table.Row, len(line))
		for column, cell := range line {
			if i > 0 && red(i) {
				cell = text.FgRed.Sprint(cell)
			}
			row[column] = cell
		}
		t.AppendRow(row)
	}
	return t.Render()
}
