package claim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/claim"
)

// group is a group of attempts whose ends are handed to the pilot.
type group struct {
	env    *jobstest.Env
	lease  *claim.Lease
	driver *claim.Driver
	params riverdriver.JobSetStateIfRunningManyParams
	left   []func() // leaves what attempts left, once more: it is still there when the reply to a commit was lost
}

func newGroup(t *testing.T) *group {
	g := &group{env: jobstest.New(t), lease: claim.NewLease()}
	g.driver = claim.NewDriver(g.env.Pool, nil, g.lease)
	_, err := river.NewClient(g.driver, &river.Config{Logger: slog.New(slog.DiscardHandler)}) // makes the pilot ready
	require.NoError(t, err)
	return g
}

// add makes a row that runs under token, and its end, which leaves the outcome.
func (g *group) add(t require.TestingT, token string, state rivertype.JobState, outcome *jobs.Outcome) {
	var id int64
	require.NoError(t, g.env.Pool.QueryRow(context.Background(), `
INSERT INTO river_job (kind, args, max_attempts, attempt, state, attempted_by) VALUES ('x', '{}', 9, 1, 'running', ARRAY[$1]) RETURNING id`, token).Scan(&id))
	if outcome != nil {
		g.left = append(g.left, func() {
			g.lease.SetCompletion(&rivertype.JobRow{ID: id, AttemptedBy: []string{token}}, claim.Completion{Outcome: outcome})
		})
	}
	update, err := json.Marshal(map[string]any{claim.LeaseKey: token})
	require.NoError(t, err)
	now := time.Now()
	finalized, attempt := &now, (*int)(nil)
	if state == rivertype.JobStateAvailable {
		zero := 0
		finalized, attempt = nil, &zero
	}
	p := &g.params
	p.ID, p.State, p.MetadataUpdates = append(p.ID, id), append(p.State, state), append(p.MetadataUpdates, update)
	p.Attempt, p.ErrData, p.MetadataDoMerge = append(p.Attempt, attempt), append(p.ErrData, nil), append(p.MetadataDoMerge, true)
	p.FinalizedAt, p.ScheduledAt = append(p.FinalizedAt, finalized), append(p.ScheduledAt, nil)
}

func (g *group) end(t require.TestingT) (ended int) {
	for _, leave := range g.left {
		leave()
	}
	rows, err := g.driver.PluginPilot().JobSetStateIfRunningMany(context.Background(), g.driver.GetExecutor(), &g.params)
	require.NoError(t, err)
	return len(rows)
}

// outcomes are the history's of this group's jobs.
func (g *group) outcomes(t require.TestingT) map[int64]jobs.Outcome {
	rows, err := g.env.Pool.Query(context.Background(), `
SELECT id::text, job_uid::text, job_id, coalesce(tenant_id::text, ''), coalesce(database_id::text, ''), kind, attempt, state, class, sqlstate, message,
       trace, recovered, started_at, ended_at, rows, output, schedule, worker FROM headgate.outcomes WHERE job_id = ANY ($1)`, g.params.ID)
	require.NoError(t, err)
	found := map[int64]jobs.Outcome{}
	var o jobs.Outcome
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&o.ID, &o.JobUID, &id, &o.TenantID, &o.DatabaseID, &o.Kind, &o.Attempt, &o.State, &o.Class, &o.SQLState,
		&o.Message, &o.Trace, &o.Recovered, &o.StartedAt, &o.EndedAt, &o.Result.Rows, &o.Result.Output, &o.Schedule, &o.Worker}, func() error {
		if _, twice := found[id]; twice {
			return fmt.Errorf("two outcomes of job %d", id)
		}
		o.StartedAt, o.EndedAt = o.StartedAt.UTC(), o.EndedAt.UTC()
		found[id] = o
		return nil
	})
	require.NoError(t, err)
	return found
}

// Whatever a group is made of, each row has its own end and each job that is
// ours its own outcome, word by word and once, however often the group is handed
// over; a column that is the same in all is sent once.
func TestEndsOfAGroup(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	rapid.Check(t, func(t *rapid.T) {
		g.params, g.left = riverdriver.JobSetStateIfRunningManyParams{}, nil
		text := rapid.SampledFrom([]string{"", "a", "b"})
		want, states, ours := map[int64]jobs.Outcome{}, map[int64]string{}, 0
		for range rapid.IntRange(1, 6).Draw(t, "ends") {
			began := time.Date(2026, 1, 2, 3, 4, rapid.IntRange(0, 59).Draw(t, "second"), 0, time.UTC)
			o := &jobs.Outcome{
				ID: uuid.NewString(), JobUID: uuid.NewString(), Kind: "x", Attempt: rapid.IntRange(1, 2).Draw(t, "attempt"),
				State: jobs.Succeeded, Class: jobs.Class(text.Draw(t, "class")), SQLState: text.Draw(t, "sqlstate"), Message: text.Draw(t, "message"),
				Trace: text.Draw(t, "trace"), Recovered: rapid.Bool().Draw(t, "recovered"), StartedAt: began, EndedAt: began.Add(time.Second),
				Schedule: text.Draw(t, "schedule"), Worker: text.Draw(t, "worker"),
			}
			o.Result.Rows, o.Result.Output = rapid.Int64Range(0, 1).Draw(t, "rows"), text.Draw(t, "output")
			if rapid.Bool().Draw(t, "tenant") {
				o.TenantID, o.DatabaseID = uuid.NewString(), uuid.NewString()
			}
			state := rapid.SampledFrom([]rivertype.JobState{rivertype.JobStateCompleted, rivertype.JobStateAvailable}).Draw(t, "state")
			if state == rivertype.JobStateAvailable {
				o.State = jobs.Snoozed
			}
			if rapid.IntRange(0, 3).Draw(t, "none") == 0 {
				o = nil
			}
			g.add(t, "mine:1", state, o)
			id := g.params.ID[len(g.params.ID)-1]
			if states[id] = string(state); rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				_, err := g.env.Pool.Exec(context.Background(), `UPDATE river_job SET attempted_by = '{another:1}' WHERE id = $1`, id)
				require.NoError(t, err)
				states[id] = "running"
				continue
			}
			if ours++; o != nil {
				want[id] = *o
			}
		}
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			require.Equal(t, ours, g.end(t))
			require.Equal(t, want, g.outcomes(t))
		}
		for id, state := range states {
			var now string
			require.NoError(t, g.env.Pool.QueryRow(context.Background(), `SELECT state FROM river_job WHERE id = $1`, id).Scan(&now))
			require.Equal(t, state, now)
		}
	})
}

// An outcome that the history cannot hold keeps no other from being written: it goes
// there without its texts, and its job ends without it if that does not help.
func TestAnOutcomeThatDoesNotFit(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	fit := func(uid string) *jobs.Outcome {
		return &jobs.Outcome{ID: uuid.NewString(), JobUID: uid, Kind: "x", Attempt: 1, State: jobs.Succeeded, StartedAt: time.Now(), EndedAt: time.Now()}
	}
	g.add(t, "mine:1", rivertype.JobStateCompleted, fit(uuid.NewString()))
	g.add(t, "mine:1", rivertype.JobStateCompleted, fit("not a UUID"))
	nul := fit(uuid.NewString())
	nul.Message = "a\x00b"
	g.add(t, "mine:1", rivertype.JobStateCompleted, nul)
	require.Equal(t, 3, g.end(t))
	all := g.outcomes(t)
	require.Len(t, all, 2)
	require.Empty(t, all[g.params.ID[0]].Message)
	told := all[g.params.ID[2]]
	require.Equal(t, nul.JobUID, told.JobUID)
	require.Regexp(t, `\Aits details could not be stored: .* invalid byte sequence`, told.Message)
}

// A job whose last attempt had failed before somebody cancelled it is discarded in the
// queue as it is in the history, though River ends it as cancelled.
func TestACancelBehindTheLastFailureIsNoCancel(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	o := &jobs.Outcome{ID: uuid.NewString(), JobUID: uuid.NewString(), Kind: "x", Attempt: 9, State: jobs.Discarded, StartedAt: time.Now(), EndedAt: time.Now()}
	g.add(t, "mine:1", rivertype.JobStateCancelled, o)
	require.Equal(t, 1, g.end(t))
	var state string
	var told bool
	require.NoError(t, g.env.Pool.QueryRow(t.Context(), `SELECT state, finalized_at IS NOT NULL FROM river_job WHERE id = $1`, g.params.ID[0]).Scan(&state, &told))
	require.Equal(t, "discarded", state)
	require.True(t, told)
	require.Equal(t, jobs.Discarded, g.outcomes(t)[g.params.ID[0]].State)
}
