package jobs_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/headgate/headgate/jobs"
)

func TestPageSizeRefusesInsteadOfCutting(t *testing.T) {
	for limit, want := range map[int]int{0: 50, 1: 1, 1000: 1000, 1001: 0, -1: 0} {
		got, err := jobs.Page{Limit: limit}.Size(50, 1000)
		var input *jobs.InputError
		if got != want || (want == 0) != errors.As(err, &input) {
			t.Errorf("limit %d: %d, %v", limit, got, err)
		}
	}
	_, err := jobs.Page{Limit: 1001}.Size(50, 1000)
	if want := `limit "1001": give 1 to 1000, or 0 for 50`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestPagesHaveEachItemOnce goes through lists of each length by pages of each size.
func TestPagesHaveEachItemOnce(t *testing.T) {
	for length := range 8 {
		list := make([]int, length)
		for i := range list {
			list[i] = i
		}
		for limit := 1; limit < 9; limit++ {
			var all []int
			for after, pages := "", 0; ; pages++ {
				from, _ := strconv.Atoi(after)
				page, next := jobs.CutPage(list[from:min(length, from+limit+1)], limit, func(i int) string { return strconv.Itoa(i + 1) })
				all = append(all, page...)
				if next == "" {
					break
				}
				if after = next; len(page) != limit || pages > length {
					t.Fatalf("%d of %d: page %d has %d items", limit, length, pages, len(page))
				}
			}
			if !slices.Equal(all, list) {
				t.Errorf("by %d: %v, want %v", limit, all, list)
			}
		}
	}
}
