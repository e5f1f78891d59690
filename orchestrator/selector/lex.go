package selector

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// sort of a token.
type sort int

const (
	end      sort = iota
	word          // a name, a number or a keyword, as it stands
	text          // what stood in quotes
	operator      // = != < <= > >= ( ) ,
)

// token is a part of an expression.
type token struct {
	sort     sort
	text     string // without the quotes
	from, to int
}

// is tells whether the token is this keyword, in any case.
func (t token) is(keyword string) bool { return t.sort == word && strings.EqualFold(t.text, keyword) }

func (t token) op(text string) bool { return t.sort == operator && t.text == text }

// shown is the token as an error names it.
func (t token) shown() string {
	switch t.sort {
	case end:
		return "the end"
	case text:
		return "the text " + shown(t.text)
	default:
		return shown(t.text)
	}
}

// isWordByte tells what a word may hold without quotes: slugs, plans, time zones, numbers.
func isWordByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_.-/:+@", b) >= 0
}

// otherNotations are operators of other languages, and what they are here.
var otherNotations = []struct{ written, here string }{
	{"==", "="}, {"<>", "!="}, {"=~", "="}, {"&&", "and"}, {"||", "or"}, {"&", "and"}, {"|", "or"},
}

// lex cuts an expression into tokens, of which the last is the end.
func lex(expression string) ([]token, error) {
	var tokens []token
	fail := func(from, to int, format string, args ...any) ([]token, error) {
		return nil, &Error{Text: expression, From: from, To: to, Says: fmt.Sprintf(format, args...)}
	}
	for at := 0; at < len(expression); {
		rest := expression[at:]
		switch b := rest[0]; {
		case b == ' ' || b == '\t' || b == '\n' || b == '\r':
			at++
		case isWordByte(b):
			n := 1
			for n < len(rest) && isWordByte(rest[n]) {
				n++
			}
			tokens = append(tokens, token{word, rest[:n], at, at + n})
			at += n
		case b == '\'':
			said, n := quoted(rest)
			if n == 0 {
				return fail(at, len(expression), "a text begins here and does not end: close it with '")
			}
			tokens = append(tokens, token{text, said, at, at + n})
			at += n
		default:
			for _, o := range otherNotations {
				if strings.HasPrefix(rest, o.written) {
					return fail(at, at+len(o.written), "%s is no operator here: write %s", shown(o.written), o.here)
				}
			}
			n := operatorAt(rest)
			switch _, size := utf8.DecodeRuneInString(rest); {
			case b == '!' && n == 0:
				return fail(at, at+1, "write not, or != between an attribute and a value")
			case b == '"':
				return fail(at, at+1, "write a text in single quotes, as in 'two words'")
			case n == 0:
				return fail(at, at+size, "%s can stand only in a text in single quotes", shown(rest[:size]))
			}
			tokens = append(tokens, token{operator, rest[:n], at, at + n})
			at += n
		}
	}
	return append(tokens, token{end, "", len(expression), len(expression)}), nil
}

// operatorAt is how many bytes of an operator a text begins with.
func operatorAt(rest string) int {
	for _, op := range []string{"!=", "<=", ">=", "=", "<", ">", "(", ")", ","} {
		if strings.HasPrefix(rest, op) {
			return len(op)
		}
	}
	return 0
}

// quoted reads a text in quotes, in which two quotes stand for one. n is 0 if it does
// not end.
func quoted(rest string) (said string, n int) {
	var b strings.Builder
	for i := 1; i < len(rest); i++ {
		switch {
		case rest[i] != '\'':
			b.WriteByte(rest[i])
		case i+1 < len(rest) && rest[i+1] == '\'':
			b.WriteByte('\'')
			i++
		default:
			return b.String(), i + 1
		}
	}
	return "", 0
}
