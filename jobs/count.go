package jobs

import (
	"strconv"
	"strings"
)

// Count is a number of things in a sentence, with the thousands set apart: "1 tenant",
// "0 rows", "1,050 addresses", "2 entries". noun is in the singular, and may have words before
// it, as in "removed tenant".
func Count[N int | int64](n N, noun string) string {
	if n != 1 {
		noun = plural(noun)
	}
	return Thousands(n) + " " + noun
}

// CountVerb is Count with the verb of that number: "1 tenant lives", "2 tenants live".
func CountVerb[N int | int64](n N, noun, one, many string) string {
	if n == 1 {
		many = one
	}
	return Count(n, noun) + " " + many
}

// Thousands writes 10000 as 10,000.
func Thousands[N int | int64](n N) string {
	text, first := strconv.FormatInt(int64(n), 10), 0
	if n < 0 {
		first = 1
	}
	for i := len(text) - 3; i > first; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// plural is a noun's regular plural.
func plural(noun string) string {
	switch last := len(noun) - 1; {
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "x"), strings.HasSuffix(noun, "ch"):
		return noun + "es"
	case last > 0 && noun[last] == 'y' && !strings.ContainsRune("aeiou", rune(noun[last-1])):
		return noun[:last] + "ies"
	}
	return noun + "s"
}
