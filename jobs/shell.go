package jobs

import (
	"strings"
	"unicode"

	"github.com/headgate/headgate/jobs/quote"
)

// mostWord is how long a word of an advised command may be, in bytes.
const mostWord = 200

// ShellWord writes a value as one word of a command that a message advises, as a POSIX shell
// reads words: in single quotes unless it is of letters, digits and - _ . , : @ / + only.
// A value that a terminal would not show as it is, or of more than 200 bytes, is VALUE: nobody
// could check what they paste. So is a value that may hold a password.
func ShellWord(value string) string {
	if quote.MayHide(value) {
		return "VALUE"
	}
	plain := value != ""
	for _, r := range value {
		switch {
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return "VALUE"
		case !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.,:@/+", r):
			plain = false
		}
	}
	switch {
	case len(value) > mostWord:
		return "VALUE"
	case plain:
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
