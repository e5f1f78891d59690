package address

import (
	"errors"
	"slices"
	"strings"
)

var (
	errPair  = errors.New("connection string: each option is written option=value, and a value that holds spaces in quotes: password='…'")
	errQuote = errors.New(`connection string: a value begins with ' but does not end with ' followed by a space; write ' inside it as \'`)

	errBackslash = errors.New(`connection string: it ends in a backslash; write a backslash in a value as \\`)
)

// pair is one option of the keyword form, with its value unquoted.
type pair struct {
	option, value string
	quoted        bool
}

// parseKeywords reads option=value pairs by libpq's rules: spaces between
// pairs and round the equals sign, single quotes round a value, a backslash
// before any character to take it as it is.
func (p *parser) parseKeywords(s string) error {
	pairs, err := splitPairs(s)
	if !slices.ContainsFunc(pairs, isPostgres) {
		return errNotPostgres
	}
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		if err := p.set(pair.option, pair.value); err != nil {
			return err
		}
		if pair.option == "password" && !pair.quoted {
			p.quiet = true
		}
	}
	return nil
}

func isPostgres(p pair) bool { return slices.Contains(options, p.option) || isForeign(p.option) }

// splitPairs cuts s into pairs. With an error come the pairs read so far, the
// one at fault included if its option was read.
func splitPairs(s string) (pairs []pair, err error) {
	for s = skipSpaces(s); s != "" && err == nil; s = skipSpaces(s) {
		option, rest, ok := strings.Cut(s, "=")
		option = strings.TrimRight(option, " ")
		if !ok || option == "" || strings.ContainsAny(option, ` '\`) {
			return pairs, errPair
		}
		next := pair{option: option}
		next.value, next.quoted, s, err = cutValue(skipSpaces(rest))
		pairs = append(pairs, next)
	}
	return pairs, err
}

func skipSpaces(s string) string { return strings.TrimLeft(s, " ") }

// cutValue takes one value off the front of s.
func cutValue(s string) (value string, quoted bool, rest string, err error) {
	var end byte = ' '
	if quoted = strings.HasPrefix(s, "'"); quoted {
		end, s = '\'', s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case end:
			if rest = s[i+1:]; quoted && rest != "" && rest[0] != ' ' {
				return "", quoted, "", errQuote
			}
			return b.String(), quoted, rest, nil
		case '\\':
			if i++; i == len(s) {
				return "", quoted, "", errBackslash
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", quoted, "", errQuote
	}
	return b.String(), quoted, "", nil
}
