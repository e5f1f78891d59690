package jobs_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

func TestCountHasTheNounOfItsNumber(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"0 rows":                      jobs.Count(0, "row"),
		"1 row":                       jobs.Count(int64(1), "row"),
		"2 rows":                      jobs.Count(2, "row"),
		"1 address":                   jobs.Count(1, "address"),
		"2 addresses":                 jobs.Count(2, "address"),
		"1 entry":                     jobs.Count(1, "entry"),
		"3 entries":                   jobs.Count(3, "entry"),
		"2 keys":                      jobs.Count(2, "key"),
		"2 searches":                  jobs.Count(2, "search"),
		"2 removed tenants":           jobs.Count(2, "removed tenant"),
		"999 jobs":                    jobs.Count(999, "job"),
		"1,000 jobs":                  jobs.Count(1000, "job"),
		"1,234,567 jobs":              jobs.Count(1_234_567, "job"),
		"-1 jobs":                     jobs.Count(-1, "job"),
		"-100 jobs":                   jobs.Count(-100, "job"),
		"9,223,372,036,854,775,807 a": jobs.Thousands(int64(math.MaxInt64)) + " a",
		"1 tenant lives":              jobs.CountVerb(1, "tenant", "lives", "live"),
		"0 tenants live":              jobs.CountVerb(0, "tenant", "lives", "live"),
	} {
		require.Equal(t, want, got)
	}
}
