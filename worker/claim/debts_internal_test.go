package claim

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A claim writes the debts of whom it bills and those that are due, and leaves the
// others for later; nothing is lost on the way, whether claims fail or not.
func TestDebts(t *testing.T) {
	t.Parallel()
	h, now := newHand(), time.Now()
	end := func(owner string, bill, took float64) {
		g := &grip{lane: lane{queue: "q", owner: owner, kind: "a"}, bill: bill, weight: 2, began: now.Add(-time.Duration(took * float64(time.Second))), more: owner == "ahead" || owner == "empty"}
		h.mu.Lock()
		h.ends(g, now)
		h.mu.Unlock()
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

	candidates := []candidate{{lane: "long", vtime: 10}, {lane: "short", vtime: 10}, {lane: "other", vtime: 1}}
	h.charge("q", candidates, 5)
	require.InDeltaSlice(t, []float64{10.4, 9.8, 5}, []float64{candidates[0].vtime, candidates[1].vtime, candidates[2].vtime}, 1e-9)

	paid := map[string]owing{}
	taken := h.pay("q", map[string]float64{"billed": 1}, []lane{{owner: "empty"}}, nil, paid)
	require.Len(t, taken, 5)
	require.InDelta(t, -0.005, taken["rests"].vtime, 1e-9)
	require.InDelta(t, -0.005, taken["empty"].vtime, 1e-9)
	require.InDelta(t, -0.2, taken["short"].vtime, 1e-9)
	require.InDelta(t, 0.4, taken["long"].vtime, 1e-9)
	require.Equal(t, 1, taken["billed"].lanes[0].attempts)
	end("long", 0, 0.2)
	require.InDelta(t, 0.1, h.pay("q", nil, nil, nil, paid)["long"].vtime, 1e-9, "what has come since, alone")
	require.InDelta(t, 0.5, paid["long"].vtime, 1e-9)
	require.Equal(t, 2, paid["long"].lanes[0].attempts)

	h.restore("q", paid) // the claim has failed
	again := h.pay("q", nil, nil, nil, map[string]owing{})
	require.InDelta(t, 0.5, again["long"].vtime, 1e-9)
	require.NotContains(t, again, "small")
	require.NotContains(t, again, "ahead")
	require.InDelta(t, -0.005, h.pay("q", map[string]float64{"ahead": 1}, nil, nil, map[string]owing{})["ahead"].vtime, 1e-9)
	require.InDelta(t, 0.01, h.pay("q", map[string]float64{"small": 1}, nil, nil, map[string]owing{})["small"].vtime, 1e-9)

	h.pay("q", map[string]float64{"billed": 1}, nil, nil, map[string]owing{})
	for i := range maxOwing + 1 {
		end(fmt.Sprint("crowd", i), 0.01, 0.02)
	}
	require.Len(t, h.pay("q", nil, nil, nil, map[string]owing{}), maxOwing/10, "more is never kept")

	// A job that takes long is charged for while it runs, on its lane, which may rest.
	h = newHand()
	h.held[claimed{id: 1}] = &grip{lane: lane{queue: "q", owner: "rests", kind: "a"}, weight: 1, began: now.Add(-time.Second)}
	h.accrue("q", now)
	charged := h.pay("q", nil, nil, nil, map[string]owing{})["rests"]
	require.InDelta(t, 1, charged.vtime, 1e-9)
	require.Equal(t, []ended{{kind: "a"}}, charged.lanes)
}
