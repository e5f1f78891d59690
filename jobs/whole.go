package jobs

import "strconv"

// ParseWhole reads a whole number from 0 on as people write it: decimal digits, without
// sign, blank, underscore or leading zero. ok is false for any other text, and for a
// number beyond an int64.
func ParseWhole(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == text
}
