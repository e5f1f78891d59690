package claim

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A claim writes the adjustments of whom it bills and those that are due, and leaves
// the others for later; nothing is lost on the way, whether claims fail or not.
func TestAdjustments(t *testing.T) {
	t.Parallel()
	f, now := newInflight(), time.Now()
	end := func(owner string, bill, took float64) {
		job := &inflightJob{lane: lane{queue: "q", owner: owner, kind: "a"}, bill: bill, weight: 2, began: now.Add(-time.Duration(took * float64(time.Second))), more: owner == "ahead" || owner == "empty"}
		f.mu.Lock()
		f.chargeEnded(job, now)
		f.mu.Unlock()
	}
	end("short", 0.5, 0.1) // charged too much
	end("long", 0.1, 0.9)
	end("small", 0.01, 0.02)
	end("small", 0.01, 0.02)
	end("billed", 0.01, 0.02)
	end("ahead", 0.02, 0.01) // a little too much, and it has more rows
	end("rests", 0.02, 0.01)
	end("rests", 0.01, 0.01)
	end("empty", 0.02, 0.01)

	candidates := []candidate{{owner: "long", vtime: 10}, {owner: "short", vtime: 10}, {owner: "other", vtime: 1}}
	f.applyAdjustments("q", candidates, 5)
	require.InDeltaSlice(t, []float64{10.4, 9.8, 5}, []float64{candidates[0].vtime, candidates[1].vtime, candidates[2].vtime}, 1e-9)

	applied := map[string]adjustment{}
	taken := f.takeAdjustments("q", map[string]float64{"billed": 1}, []lane{{owner: "empty"}}, nil, applied)
	require.Len(t, taken, 5)
	require.InDelta(t, -0.005, taken["rests"].vtime, 1e-9)
	require.InDelta(t, -0.005, taken["empty"].vtime, 1e-9)
	require.InDelta(t, -0.2, taken["short"].vtime, 1e-9)
	require.InDelta(t, 0.4, taken["long"].vtime, 1e-9)
	require.Equal(t, 1, taken["billed"].lanes[0].attempts)
	end("long", 0, 0.2)
	require.InDelta(t, 0.1, f.takeAdjustments("q", nil, nil, nil, applied)["long"].vtime, 1e-9, "what has come since, alone")
	require.InDelta(t, 0.5, applied["long"].vtime, 1e-9)
	require.Equal(t, 2, applied["long"].lanes[0].attempts)

	f.restoreAdjustments("q", applied) // the claim has failed
	again := f.takeAdjustments("q", nil, nil, nil, map[string]adjustment{})
	require.InDelta(t, 0.5, again["long"].vtime, 1e-9)
	require.NotContains(t, again, "small")
	require.NotContains(t, again, "ahead")
	require.InDelta(t, -0.005, f.takeAdjustments("q", map[string]float64{"ahead": 1}, nil, nil, map[string]adjustment{})["ahead"].vtime, 1e-9)
	require.InDelta(t, 0.01, f.takeAdjustments("q", map[string]float64{"small": 1}, nil, nil, map[string]adjustment{})["small"].vtime, 1e-9)

	f.takeAdjustments("q", map[string]float64{"billed": 1}, nil, nil, map[string]adjustment{})
	for i := range maxAdjustments + 1 {
		end(fmt.Sprint("crowd", i), 0.01, 0.02)
	}
	require.Len(t, f.takeAdjustments("q", nil, nil, nil, map[string]adjustment{}), maxAdjustments/10, "more is never kept")

	// A job that takes long is charged for while it runs, on its lane, which may rest.
	f = newInflight()
	f.jobs[claimed{id: 1}] = &inflightJob{lane: lane{queue: "q", owner: "rests", kind: "a"}, weight: 1, began: now.Add(-time.Second)}
	f.chargeRunning("q", now)
	charged := f.takeAdjustments("q", nil, nil, nil, map[string]adjustment{})["rests"]
	require.InDelta(t, 1, charged.vtime, 1e-9)
	require.Equal(t, []ended{{kind: "a"}}, charged.lanes)
}
