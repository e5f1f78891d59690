// Package quote says how messages repeat a value that somebody gave: in quotation marks, cut
// to a length that fits a line, and not at all where the value may hold a password. People
// paste an address where a name belongs, and messages go to logs and screens.
//
// All messages about values go through this package, in Go and in commands. The weakness: a
// password that stands alone looks like any name, and is repeated.
package quote

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Hidden stands in a message for a value that may hold a password.
const Hidden = "the value given"

// Value is a value in quotation marks, of which at most so many bytes are shown, or Hidden.
func Value(value string, most int) string {
	switch {
	case MayHide(value):
		return Hidden
	case len(value) <= most:
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%q…", Cut(value, most))
}

// Bare is Value without quotation marks, because the message has its own or needs none.
func Bare(value string, most int) string {
	switch {
	case MayHide(value):
		return "[not shown]"
	case len(value) <= most:
		return value
	}
	return Cut(value, most) + "…"
}

// Cut is the beginning of a text, at most so many bytes, which ends with a whole character.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.ToValidUTF8(text[:most], "\uFFFD")
}

var (
	login   = regexp.MustCompile(`:\S*@`)
	setting = regexp.MustCompile(`(?i)(passw(or)?d|pwd)["']?\s*[=:]`)
)

// MayHide reports that a value may hold a password: a colon and a @ behind the colon without
// a blank between them, as in user:password@host, or a setting of that name, as in
// password=…. It looks at the whole value, so ask before the value is cut.
func MayHide(value string) bool { return login.MatchString(value) || setting.MatchString(value) }

// NoAddress says of a value what is wrong if IsAddress is true of it.
const NoAddress = "the value given is an address with a password, and none belongs there: give a text without one, and change the password if others may have read it"

var (
	url     = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^/?#\s:@]*:[^/?#\s]+@`)
	urlWith = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://\S*[?&](ssl)?password=[^&\s]`)
	server  = regexp.MustCompile(`(?i)\b(host|hostaddr|user|dbname|port)\s*=`)
)

// IsAddress reports that a value is an address with a password in it, whatever its scheme is,
// or holds one: a URL, or Postgres' keywords and values.
func IsAddress(value string) bool {
	return url.MatchString(value) || urlWith.MatchString(value) || setting.MatchString(value) && server.MatchString(value)
}
