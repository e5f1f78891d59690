package retention_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// A clock that is years ahead costs no history, whichever of the two it is and however
// much they may differ.
func TestAClockAheadCostsNoHistory(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, roomtest.InMonth(-2))
	roomtest.Outcome(t, env, roomtest.Enqueue(t, env), "succeeded", "", "", roomtest.InMonth(-6)) // in no month of its own
	roomtest.ShadowClock(t, env)
	j := roomtest.Janitor(t, env, retention.Config{MaxSkew: 9 * 366 * 24 * time.Hour})
	for _, by := range []string{"3 years", "-3 years"} {
		roomtest.Do(t, env, `UPDATE skew.clock SET by = $1::text::interval`, by)
		swept, err := j.RunOnce(context.Background())
		require.ErrorContains(t, err, "outside of the last 14 and the next 3 months", "the functions of the janitor go by the true clock here")
		require.Empty(t, swept.Dropped, by)
		require.Zero(t, swept.Strays, by)
	}
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.outcomes_default`))
}
