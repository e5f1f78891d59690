package jobs

import (
	"cmp"
	"strconv"
)

// Page says which part of a list is wanted. A list returns a Next beside its items:
// the After of the page behind them, or "" if nothing follows. The zero Page is the
// beginning of the list, as long as the list says.
type Page struct {
	After string // what Next of the page before was; "" means from the beginning
	Limit int    // how many items at most; 0 means the list's default
}

// Size returns the page's limit, or the default if there is none. It is an
// *InputError if the limit is negative or past most: no list is cut silently.
func (p Page) Size(preset, most int) (int, error) {
	if p.Limit < 0 || p.Limit > most {
		return 0, Inputf("limit", strconv.Itoa(p.Limit), "give 1 to %d, or 0 for %d", most, preset)
	}
	return cmp.Or(p.Limit, preset), nil
}

// Unknown is the *InputError of an After that no Next of this list was.
func (p Page) Unknown() error {
	return Inputf("after", p.After, "give what next of the page before was, or leave it out to start at the beginning")
}

// CutPage returns the items of a page and its Next. The caller has read one item more
// than limit, if there was one; after names an item for the next page.
func CutPage[T any](items []T, limit int, after func(T) string) (page []T, next string) {
	if len(items) <= limit {
		return items, ""
	}
	return items[:limit], after(items[limit-1])
}
