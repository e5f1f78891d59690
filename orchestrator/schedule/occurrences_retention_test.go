package schedule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// Old answers go in batches with the janitor; the scheduler deletes nothing.
func TestOldAnswersGoWithTheJanitor(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	roomtest.Do(t, env, `
INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at)
SELECT gen_random_uuid(), now(), now(), 'fired', now() - interval '89 days' - make_interval(days => i) FROM generate_series(-50, 100) i`)
	_ = pass(t, env)
	require.Equal(t, 151, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences`))
	require.Equal(t, 100, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{Batch: 30})).Occurrences)
	require.Equal(t, 51, roomtest.Count(t, env, `SELECT count(*) FROM headgate.occurrences`))
	require.Equal(t, 51, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{KeepOccurrences: 24 * time.Hour})).Occurrences)
}
