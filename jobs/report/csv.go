package report

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Guard returns a text as a spreadsheet may show it: an apostrophe in front keeps a
// spreadsheet from running it as a formula. Numbers need none.
func Guard(text string) string {
	if text != "" && strings.IndexByte("=+-@\t\r\n", text[0]) >= 0 {
		return "'" + text
	}
	return text
}

// AppendCSV appends a line of CSV (RFC 4180, ended by a line feed). A cell with a
// semicolon is quoted too: where the comma is the decimal sign, spreadsheets cut lines
// at semicolons, and what follows one would be a cell that nobody has guarded.
func AppendCSV(line []byte, cells []string) []byte {
	for i, cell := range cells {
		if i > 0 {
			line = append(line, ',')
		}
		if !needsQuotes(cell) {
			line = append(line, cell...)
			continue
		}
		line = append(line, '"')
		line = append(line, strings.ReplaceAll(cell, `"`, `""`)...)
		line = append(line, '"')
	}
	return append(line, '\n')
}

// needsQuotes is the rule of encoding/csv, and the semicolon.
func needsQuotes(cell string) bool {
	if cell == "" {
		return false
	}
	first, _ := utf8.DecodeRuneInString(cell)
	return cell == `\.` || strings.ContainsAny(cell, ",;\"\r\n") || unicode.IsSpace(first)
}
