package retention_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// Rows that get no tombstone keep nobody from theirs, however many they are.
func TestThousandsOfOddRowsKeepNobodyFromATombstone(t *testing.T) {
	t.Parallel()
	for _, at := range []string{`never`, `2020-01-01T00:00:00Z`, `9999-01-01T00:00:00Z`} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			roomtest.Do(t, env, `INSERT INTO river_job (kind, args, max_attempts, queue, metadata)
SELECT 'theirs', '{}', 3, 'nobodys', jsonb_build_object('cancel_attempted_at', $1::text) FROM generate_series(1, 2500)`, at)
			job := roomtest.Enqueue(t, env)
			roomtest.RunUnder(t, env, env.RowOf(job.UID))
			roomtest.Do(t, env, `UPDATE river_job SET id = -7 WHERE id = $1`, env.RowOf(job.UID)) // which River does not give
			_, err := env.Client.Cancel(context.Background(), job.UID, nil)
			require.NoError(t, err)
			roomtest.Age(t, env, env.RowOf(job.UID))
			j, tombstones := roomtest.Janitor(t, env, retention.Config{}), 0
			for range 3 {
				tombstones += roomtest.Sweep(t, j).Tombstones
			}
			require.Equal(t, 1, tombstones)
		})
	}
}
