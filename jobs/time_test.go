package jobs_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// Times that time.Time's own JSON refuses come through.
func TestTimeInJSON(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		at   time.Time
		want string
	}{
		{jobs.Infinity, `"infinity"`}, {jobs.NegativeInfinity, `"-infinity"`},
		{time.Date(2026, 11, 22, 7, 0, 0, 5000, time.UTC), `"2026-11-22T07:00:00.000005Z"`},
		{time.Date(294276, 12, 31, 0, 0, 0, 0, time.UTC), `"294276-12-31T00:00:00Z"`},
		{time.Date(-43, 3, 15, 0, 0, 0, 0, time.UTC), `"-0043-03-15T00:00:00Z"`},
	} {
		raw, err := json.Marshal(jobs.Time{Time: one.at})
		require.NoError(t, err)
		require.Equal(t, one.want, string(raw))
		require.Equal(t, one.at.Year() == 2026, (jobs.Time{Time: one.at}).Usual() != nil)
	}
	for _, word := range []string{`"infinity"`, `"-infinity"`, `"2026-11-22T07:00:00Z"`} {
		var at jobs.Time
		require.NoError(t, json.Unmarshal([]byte(word), &at))
		raw, err := json.Marshal(at)
		require.NoError(t, err)
		require.Equal(t, word, string(raw))
	}
	require.Equal(t, "infinity", jobs.Time{Time: jobs.Infinity}.In(time.FixedZone("x", 3600)).Format(time.DateOnly))
}
