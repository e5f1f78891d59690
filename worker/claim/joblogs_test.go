package claim_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/claim"
)

// statements notes what a pool sends.
type statements struct {
	mu  sync.Mutex
	all []string
}

func (s *statements) note(sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, strings.TrimSpace(sql))
}

func (s *statements) take() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, s.all = s.all, nil
	return all
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.note(q.SQL)
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, b pgx.TraceBatchStartData) context.Context {
	for _, q := range b.Batch.QueuedQueries {
		s.note(strings.TrimSpace(q.SQL + " " + fmt.Sprint(q.Arguments...)))
	}
	return ctx
}

func (s *statements) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// tracedGroup is a group whose statements are noted.
func tracedGroup(t *testing.T) (*group, *statements) {
	t.Helper()
	g, sent := newGroup(t), &statements{}
	cfg := g.env.Pool.Config()
	cfg.ConnConfig.Tracer = sent
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	g.driver = claim.NewDriver(pool, nil, g.lease)
	_, err = river.NewClient(g.driver, &river.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return g, sent
}

// addLogged adds an end whose handler has logged.
func (g *group) addLogged(t *testing.T, token, log string) *jobs.Outcome {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	o := &jobs.Outcome{ID: uuid.NewString(), JobUID: uuid.NewString(), Kind: "x", Attempt: 1, State: jobs.Succeeded, StartedAt: now, EndedAt: now}
	g.add(t, token, rivertype.JobStateCompleted, o)
	id := g.params.ID[len(g.params.ID)-1]
	g.left[len(g.left)-1] = func() {
		g.lease.SetCompletion(&rivertype.JobRow{ID: id, AttemptedBy: []string{token}}, claim.Completion{Outcome: o, Log: log})
	}
	return o
}

func (g *group) reset() { g.params, g.left = riverdriver.JobSetStateIfRunningManyParams{}, nil }

func (g *group) lines(t *testing.T, o *jobs.Outcome) (lines []string) {
	t.Helper()
	rows, err := g.env.Pool.Query(t.Context(), `SELECT lines FROM headgate.job_logs WHERE job_uid = $1 AND id = $2 AND ended_at = $3`, o.JobUID, o.ID, o.EndedAt)
	require.NoError(t, err)
	lines, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return lines
}

// A group without lines is ended by the one statement as before. A group with lines is ended
// in a transaction that writes them, once however often the group is handed over, and only
// with ends that are recorded: an attempt that has lost its lease leaves none.
func TestLinesAreWrittenWithTheirEnds(t *testing.T) {
	t.Parallel()
	g, sent := tracedGroup(t)
	g.addLogged(t, "mine:1", "")
	g.addLogged(t, "mine:1", "")
	g.end(t) // whatever else a first group does
	g.reset()
	sent.take()
	g.addLogged(t, "mine:1", "")
	g.addLogged(t, "mine:1", "")
	require.Equal(t, 2, g.end(t))
	alone := sent.take()
	require.Len(t, alone, 1, "a group without lines")
	require.NotContains(t, alone[0], "job_logs")

	g.reset()
	logged, silent, lost := g.addLogged(t, "mine:1", `{"msg":"one"}`), g.addLogged(t, "mine:1", ""), g.addLogged(t, "mine:1", `{"msg":"lost"}`)
	_, err := g.env.Pool.Exec(t.Context(), `UPDATE river_job SET attempted_by = '{another:1}' WHERE id = $1`, g.params.ID[2])
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, 2, g.end(t))
		require.Equal(t, []string{`{"msg":"one"}`}, g.lines(t, logged))
		require.Empty(t, g.lines(t, silent))
		require.Empty(t, g.lines(t, lost))
	}
	require.Contains(t, strings.Join(sent.take(), "\n"), "INSERT INTO headgate.job_logs")
}

// Lines that cannot be written, whatever the reason, hold up no end.
func TestLinesThatCannotBeWrittenAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"none":            `SELECT 1`,
		"a constraint":    `ALTER TABLE headgate.job_logs ADD CHECK (lines NOT LIKE '%bad%')`,
		"a trigger":       `CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$; CREATE TRIGGER refuses BEFORE INSERT ON headgate.job_logs FOR EACH ROW EXECUTE FUNCTION refuses()`,
		"no partition":    `DROP TABLE headgate.job_logs; CREATE TABLE headgate.job_logs (id uuid, job_uid uuid, attempt int, ended_at timestamptz, lines text) PARTITION BY RANGE (ended_at)`,
		"no table at all": `ALTER TABLE headgate.job_logs RENAME TO job_logs_of_yesterday`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t)
			_, err := g.env.Pool.Exec(t.Context(), harm)
			require.NoError(t, err)
			bad, good := g.addLogged(t, "mine:1", `{"msg":"bad"}`), g.addLogged(t, "mine:1", "")
			require.Equal(t, 2, g.end(t))
			outcomes := g.outcomes(t)
			require.Len(t, outcomes, 2)
			require.Empty(t, outcomes[g.params.ID[0]].Message, "its end is written as it is")
			require.Equal(t, good.ID, outcomes[g.params.ID[1]].ID)
			if name == "none" {
				require.Len(t, g.lines(t, bad), 1, "the control")
			}
		})
	}
}

// A text that no column takes is an error of the statement, which the ends survive too. The
// worker makes no such text.
func TestATextThatDoesNotFitHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.addLogged(t, "mine:1", "a byte \x00 and \xff")
	other := g.addLogged(t, "mine:1", `{"msg":"fits"}`)
	require.Equal(t, 2, g.end(t))
	require.Len(t, g.outcomes(t), 2)
	require.Len(t, g.lines(t, other), 1, "its neighbour's lines are written")
}

// One line that the table refuses takes no other attempt's lines with it. The log says how
// many attempts have lost theirs.
func TestALineTakesNoneOfTheOthers(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"none":         `SELECT 1`,
		"a constraint": `ALTER TABLE headgate.job_logs ADD CHECK (lines NOT LIKE '%bad%')`,
		"a trigger":    `CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'U0815'; END $$; CREATE TRIGGER refuses BEFORE INSERT ON headgate.job_logs FOR EACH ROW WHEN (NEW.lines LIKE '%bad%') EXECUTE FUNCTION refuses()`,
		"no partition": `DROP TABLE headgate.job_logs; CREATE TABLE headgate.job_logs (id uuid, job_uid uuid, attempt int, ended_at timestamptz, lines text) PARTITION BY LIST (lines);
			CREATE TABLE headgate.job_logs_good PARTITION OF headgate.job_logs FOR VALUES IN ('{"msg":"good"}')`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, log := newGroup(t), &strings.Builder{}
			_, err := river.NewClient(g.driver, &river.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
			require.NoError(t, err)
			_, err = g.env.Pool.Exec(t.Context(), harm)
			require.NoError(t, err)
			var good, bad []*jobs.Outcome
			for i := range 20 {
				if i == 3 || i == 11 {
					bad = append(bad, g.addLogged(t, "mine:1", `{"msg":"bad"}`))
					continue
				}
				good = append(good, g.addLogged(t, "mine:1", `{"msg":"good"}`))
			}
			require.Equal(t, 20, g.end(t))
			require.Len(t, g.outcomes(t), 20)
			for _, o := range good {
				require.Equal(t, []string{`{"msg":"good"}`}, g.lines(t, o))
			}
			if name == "none" {
				require.Len(t, g.lines(t, bad[0]), 1, "the control")
				require.NotContains(t, log.String(), "could not be written")
				return
			}
			for _, o := range bad {
				require.Empty(t, g.lines(t, o))
			}
			require.Contains(t, log.String(), "could not be written; their ends are, without the lines\" attempts=2 of=20")
			require.Equal(t, 1, strings.Count(log.String(), "could not be written"))
		})
	}
}

// A table that somebody has locked holds up ends for a bounded time, and later ends hardly.
func TestALockedTableOfLinesHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	g, sent := tracedGroup(t)
	locker, err := g.env.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = locker.Rollback(context.Background()) }()
	_, err = locker.Exec(t.Context(), `LOCK TABLE headgate.job_logs IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	for _, wait := range []string{"2s", "20ms", "20ms"} {
		g.reset()
		sent.take()
		g.addLogged(t, "mine:1", `{"msg":"one"}`)
		require.Equal(t, 1, g.end(t))
		require.Len(t, g.outcomes(t), 1)
		require.Contains(t, sent.take(), `SELECT set_config('lock_timeout', $1, true) `+wait)
	}
	require.NoError(t, locker.Rollback(t.Context()))
	rows := 0
	require.NoError(t, g.env.Pool.QueryRow(t.Context(), `SELECT count(*) FROM headgate.job_logs`).Scan(&rows))
	require.Zero(t, rows)
	g.reset()
	o := g.addLogged(t, "mine:1", `{"msg":"one"}`)
	require.Equal(t, 1, g.end(t))
	require.Len(t, g.lines(t, o), 1, "what is free is written without a wait")
}
