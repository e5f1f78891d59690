// Package sqltext reads as much of a SQL text as one must to know what it begins with.
package sqltext

import "strings"

// Scanner reads the words at the head of a text as Postgres's own scanner does.
// Where the two could differ it errs towards reading less: a word that it does
// not return is a word that is not allowed.
type Scanner struct {
	Rest string // what is not read yet
	At   string // the text from the last word on, or from what is none
}

// Word returns the next word in lower case, "" if what comes next is none: a
// quote, a number, the end.
func (s *Scanner) Word() string {
	s.skip()
	s.At = s.Rest
	n := 0
	for n < len(s.Rest) && isWord(s.Rest[n], n) {
		n++
	}
	word := s.Rest[:n]
	s.Rest = s.Rest[n:]
	if n == 0 {
		s.Rest = "" // nothing behind it is read either
	}
	return lower(word)
}

// skip passes over white space, comments, and what may stand before a command:
// semicolons, which Postgres drops, and the parentheses of (SELECT …).
func (s *Scanner) skip() {
	for s.Rest != "" {
		switch {
		case strings.IndexByte(" \t\n\r\f\v;(", s.Rest[0]) >= 0:
			s.Rest = s.Rest[1:]
		case strings.HasPrefix(s.Rest, "--"):
			end := strings.IndexAny(s.Rest, "\n\r")
			if end < 0 {
				end = len(s.Rest)
			}
			s.Rest = s.Rest[end:]
		case strings.HasPrefix(s.Rest, "/*"):
			s.Rest = afterComment(s.Rest)
		default:
			return
		}
	}
}

// afterComment returns what follows a block comment, which may hold others.
func afterComment(text string) string {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return text[i+1:]
		}
	}
	return ""
}

// isWord tells whether a byte belongs to a word at its place n. Bytes from 128 on
// do, as for Postgres, so that no word of ours begins or ends in one of its own.
func isWord(b byte, n int) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b == '_', b >= 0x80:
		return true
	}
	return n > 0 && (b >= '0' && b <= '9' || b == '$')
}

// lower folds ASCII letters only, as Postgres folds keywords.
func lower(word string) string {
	folded := []byte(word)
	for i, b := range folded {
		if b >= 'A' && b <= 'Z' {
			folded[i] = b + 'a' - 'A'
		}
	}
	return string(folded)
}
