// Package fit makes text that others wrote fit: into the sentence of an error, and into
// a column. It reads what the rooms of the central side read in one way: UUIDs, and places
// in lists.
package fit

import (
	"strings"

	"github.com/headgate/headgate/jobs/quote"
)

// Cut bounds what an error repeats of a bad value, and leaves out one that may hold a password.
func Cut(s string) string { return quote.Bare(s, 64) }

// Clip makes text fit for a column: valid UTF-8, no NUL, at most n bytes.
func Clip(s string, n int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
