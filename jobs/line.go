package jobs

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/headgate/headgate/jobs/quote"
)

// CheckText holds a text of one line that people read, such as a note or a reason, to at
// most so many characters of valid UTF-8. Control characters are refused, and so are
// characters that show nothing or turn the direction of what follows. Of these the
// joiners U+200C and U+200D are allowed, because scripts are written with them. A text of
// blanks alone is refused, and so is an address with a password, because people and records
// would keep it. The empty text is allowed. The error is an *InputError that repeats nothing
// of the text.
func CheckText(field, text string, most int) error { return checkLine(field, text, most, isJoiner) }

// CheckValue is CheckText of a text that is compared, such as the name of a plan: the
// joiners are refused too, because two values that look alike would differ.
func CheckValue(field, text string, most int) error {
	return checkLine(field, text, most, func(rune) bool { return false })
}

func checkLine(field, text string, most int, allowed func(rune) bool) error {
	if n := utf8.RuneCountInString(text); n > most {
		return Inputf(field, "", "%d characters is too long; at most %d are allowed", n, most)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return Inputf(field, "", "control characters and invalid UTF-8 are not allowed")
	}
	for _, r := range text {
		if isInvisible(r) && !allowed(r) {
			return Inputf(field, "", "the invisible character %U is not allowed: leave it out", r)
		}
	}
	if quote.IsAddress(text) {
		return Inputf(field, "", "%s", quote.NoAddress)
	}
	if text != "" && strings.TrimSpace(text) == "" {
		return Inputf(field, "", "there are blanks alone: give a text, or none")
	}
	return nil
}

// isInvisible is true of format characters, of which the marks of direction are some, and
// of the separators of lines and paragraphs.
func isInvisible(r rune) bool { return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) }

func isJoiner(r rune) bool { return r == '\u200c' || r == '\u200d' }
