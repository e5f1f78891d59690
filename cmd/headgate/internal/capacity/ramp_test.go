package capacity

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	p := Plan{P95: 500 * time.Millisecond}
	for _, c := range []struct {
		step Step
		says string
	}{
		{Step{Offered: 10, P95: 500, backlog: 6}, ""},
		{Step{Offered: 10, P95: 500.1}, "that is more than 500 ms"},
		{Step{Offered: 10, P95: 100, backlog: 7}, "throughput fell behind: 7 jobs waited or ran at the end of the step, more than the 6 that come in 500 ms"},
		{Step{Offered: 10, P95: 100, Left: 2}, "2 jobs had not ended 10.5s after the step"},
		{Step{Offered: 10, P95: 100, Failed: 3, failure: "headgate.sql: job_error: x"}, "3 jobs failed, the first with headgate.sql: job_error: x"},
	} {
		require.Equal(t, c.says, p.judge(c.step))
	}
}

// A job that has not ended counts with the time that it has taken so far, so that a step that
// stands still is not good because of the few jobs that got through.
func TestMeasureCountsWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	begun := time.Now().Add(-time.Hour)
	planned, ends := map[string]time.Time{}, []end{{uid: "a stranger's", state: "discarded"}}
	for i := range 100 {
		uid, at := fmt.Sprint(i), begun.Add(time.Duration(i)*time.Millisecond)
		planned[uid] = at
		if i < 90 {
			ends = append(ends, end{uid: uid, state: "succeeded", started: at.Add(20 * time.Millisecond), ended: at.Add(50 * time.Millisecond)})
		}
	}
	ends[1].state, ends[1].kind, ends[1].class, ends[1].message = "discarded", "k", "job_error", "m"
	s := measure(planned, ends, begun, begun.Add(100*time.Millisecond))
	require.Equal(t, 100, s.Jobs)
	require.Equal(t, 10, s.Left)
	require.Equal(t, 1, s.Failed)
	require.Equal(t, "k: job_error: m", s.failure)
	require.InDelta(t, 50, s.P50, 0.01)
	require.Greater(t, s.P95, 3_500_000.0)
	require.InDelta(t, 30, s.RunP95, 0.01)
	require.InDelta(t, 1000, s.Offered, 0.01)
	require.InDelta(t, 500, s.Done, 10.01, "those that had ended when the step did, without the one that failed")
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := 100; i > 0; i-- {
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	require.Equal(t, []float64{50, 95, 99, 100, 0}, []float64{percentile(all, 50), percentile(all, 95), percentile(all, 99), percentile(all, 100), percentile(nil, 50)})
}
