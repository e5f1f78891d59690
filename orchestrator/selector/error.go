package selector

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"

	"github.com/headgate/headgate/jobs/quote"
)

// Error says what of an expression cannot be read, and where.
type Error struct {
	Text     string // the expression
	From, To int    // the bytes of it that are wrong; From is len(Text) where something is missing
	Says     string // what is wrong there and what is allowed, as a clause
}

// shownWidth is how many characters of an expression an error shows at most.
const shownWidth = 72

// Error is one sentence, without the expression.
func (e *Error) Error() string {
	return fmt.Sprintf("selector, character %d: %s", utf8.RuneCountInString(e.Text[:e.From])+1, e.Says)
}

// Pointed is two lines for a terminal: the expression, at most 74 characters of it about the
// place, and carets below the place.
func (e *Error) Pointed() string {
	flat := []rune(strings.Map(flatten, e.Text))
	from := utf8.RuneCountInString(e.Text[:e.From])
	to := from + max(1, utf8.RuneCountInString(e.Text[e.From:e.To]))
	begin := 0
	if len(flat) > shownWidth {
		begin = max(0, min(from-shownWidth/2, len(flat)-shownWidth))
	}
	end := min(len(flat), begin+shownWidth)
	before, after := "", ""
	if begin > 0 {
		before = "…"
	}
	if end < len(flat) {
		after = "…"
	}
	carets := max(1, min(to, end)-from)
	return fmt.Sprintf("  %s%s%s\n  %s%s", before, string(flat[begin:end]), after,
		strings.Repeat(" ", utf8.RuneCountInString(before)+from-begin), strings.Repeat("^", carets))
}

// flatten keeps an expression of several lines, and what a terminal would obey, in one line.
func flatten(r rune) rune {
	switch {
	case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
		return ' '
	}
	return r
}

// didYouMean ends a clause with the name that was probably meant, if one is near.
func didYouMean(written string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if distance := levenshtein.ComputeDistance(strings.ToLower(written), name); distance < least && distance < len(name) {
			best, least = name, distance
		}
	}
	if best == "" || len(written) > 100 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// shown is a part of an expression as an error repeats it.
func shown(text string) string { return quote.Value(text, 64) }
