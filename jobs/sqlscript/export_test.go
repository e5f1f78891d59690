package sqlscript

import "github.com/headgate/headgate/jobs/internal/sqltext"

// Empty tells whether a text holds white space, comments and semicolons only.
func Empty(sql string) bool {
	s := sqltext.Scanner{Rest: sql}
	return s.Word() == "" && s.At == ""
}

// Refusal is refusal.
func Refusal(sql string) string { return refusal(sql) }
