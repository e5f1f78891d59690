package fit

import (
	"strconv"
	"strings"
	"time"
)

// Place is where an item stands in a list by time, as the After of a page: its time to the
// microsecond, and what tells it from others of that time.
func Place(at time.Time, rest string) string {
	return strconv.FormatInt(at.UnixMicro(), 36) + "." + rest
}

// ReadPlace reads what Place has written.
func ReadPlace(after string) (at time.Time, rest string, ok bool) {
	micros, rest, ok := strings.Cut(after, ".")
	n, err := strconv.ParseInt(micros, 36, 64)
	return time.UnixMicro(n), rest, ok && err == nil && rest != ""
}
