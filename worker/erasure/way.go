package erasure

import (
	"strconv"
	"strings"
)

// way is how far pages have come in a part. Where the places came in one direction, the next
// page begins behind the last, and does not read again what lies before it. Rows that it
// misses thereby the next plan's look finds.
type way struct {
	last     string
	at       uint64
	any      bool
	zigzag   bool
	downward bool
}

// pass notes the places of a batch.
func (w *way) pass(places []string) {
	for _, place := range places {
		at, ok := number(place)
		down := at < w.at
		if !ok || w.any && down != w.downward {
			w.zigzag = true
		}
		w.any, w.downward = w.last != "", down
		w.last, w.at = place, at
	}
}

// further is a condition on the rows of the next page.
func (w *way) further() string {
	switch {
	case !w.any || w.zigzag:
		return ""
	case w.downward:
		return " AND t.ctid < '" + w.last + "'::tid"
	}
	return " AND t.ctid > '" + w.last + "'::tid"
}

// number orders places as Postgres does.
func number(place string) (uint64, bool) {
	block, line, ok := strings.Cut(strings.Trim(place, "()"), ",")
	b, err := strconv.ParseUint(block, 10, 32)
	l, wrong := strconv.ParseUint(line, 10, 16)
	return b<<16 | l, ok && err == nil && wrong == nil
}
