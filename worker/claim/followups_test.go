package claim_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// A group whose reply was lost is handed over again: its follow-ups are inserted
// once. A job that is not ours any more brings none.
func TestFollowUpsOfARepeatedGroup(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := context.Background()
	lease := claim.NewLease()
	driver := claim.NewDriver(env.Pool, nil, lease)
	_, err := river.NewClient(driver, &river.Config{Logger: slog.New(slog.DiscardHandler)}) // makes the pilot ready
	require.NoError(t, err)
	params := &riverdriver.JobSetStateIfRunningManyParams{}
	var again []func() // what was left is still there when the reply to a commit was lost
	add := func(runningUnder, endsUnder string) {
		var id int64
		require.NoError(t, env.Pool.QueryRow(ctx, `
INSERT INTO river_job (kind, args, max_attempts, state, attempted_by) VALUES ('x', '{}', 1, 'running', ARRAY[$1]) RETURNING id`, runningUnder).Scan(&id))
		row := claim.FollowUp{Kind: "mail", Args: json.RawMessage(`{}`), Metadata: json.RawMessage(`{}`), Queue: "q", Priority: 1, MaxAttempts: 1}
		update, err := json.Marshal(map[string]any{claim.LeaseKey: endsUnder})
		require.NoError(t, err)
		again = append(again, func() {
			lease.SetCompletion(&rivertype.JobRow{ID: id, AttemptedBy: []string{endsUnder}}, claim.Completion{FollowUps: []claim.FollowUp{row, row}})
		})
		now := time.Now()
		params.ID, params.State = append(params.ID, id), append(params.State, rivertype.JobStateCompleted)
		params.Attempt, params.ErrData = append(params.Attempt, nil), append(params.ErrData, nil)
		params.FinalizedAt, params.ScheduledAt = append(params.FinalizedAt, &now), append(params.ScheduledAt, nil)
		params.MetadataDoMerge, params.MetadataUpdates = append(params.MetadataDoMerge, true), append(params.MetadataUpdates, update)
	}
	add("mine:1", "mine:1")
	add("another:9", "mine:1")
	for range 2 {
		for _, leave := range again {
			leave()
		}
		rows, err := driver.PluginPilot().JobSetStateIfRunningMany(ctx, driver.GetExecutor(), params)
		require.NoError(t, err)
		require.Len(t, rows, 1)
	}
	var mails int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE kind = 'mail' AND state = 'available'`).Scan(&mails))
	require.Equal(t, 2, mails)
}
