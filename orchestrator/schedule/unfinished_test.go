package schedule_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// The jobs of UIDs that have not ended are found by indexes, however many have ended.
func TestTheUnfinishedAreFoundByIndexes(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	uids := roomtest.JobsAmongMany(t, env)
	roomtest.FoundByUIDs(t, env, schedule.SelectUnfinishedSQL, uids)
	rows, err := env.Pool.Query(context.Background(), schedule.SelectUnfinishedSQL, uids)
	require.NoError(t, err)
	unfinished, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (uid string, err error) {
		err = row.Scan(&uid, nil, nil, nil, nil)
		return uid, err
	})
	require.NoError(t, err)
	require.ElementsMatch(t, uids[:3], unfinished)
}
