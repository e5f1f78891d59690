package explain_test

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// explained is the plan of a statement as it was executed.
func explained(t *testing.T, env *jobstest.Env, sql string, args ...any) (plan roomtest.Node, text string) {
	t.Helper()
	require.NoError(t, env.Pool.QueryRow(context.Background(), `EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) `+sql, append([]any{pgx.QueryExecModeExec}, args...)...).Scan(&text))
	var whole []struct{ Plan roomtest.Node }
	require.NoError(t, json.Unmarshal([]byte(text), &whole))
	return whole[0].Plan, text
}

// readOf is how many rows of the relations whose names begin so a plan has read, and whether
// it read a whole one that is not empty.
func readOf(plan roomtest.Node, relation string) (rows float64, whole bool) {
	plan.Walk(func(n roomtest.Node) {
		if strings.HasPrefix(n.Relation, relation) && n.Loops > 0 {
			n.Rows = (n.Rows + n.Removed) * n.Loops
			rows, whole = rows+n.Rows, whole || n.Type == "Seq Scan" && n.Rows > 0
		}
	})
	return rows, whole
}

// fillWatched gives each of many tenants a schedule that has fired every night for 12
// nights, and other schedules besides.
func fillWatched(t *testing.T, env *jobstest.Env, watched int) {
	t.Helper()
	for m := range 3 {
		roomtest.Do(t, env, `SELECT headgate.add_part('outcomes', 'month', $1)`, roomtest.InMonth(-m))
	}
	conn, err := env.Pool.Acquire(context.Background())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Hijack().Close(context.Background())) }()
	for _, sql := range []string{
		`SET session_replication_role = replica`, // tenants that are not there
		`INSERT INTO headgate.schedules (id, tenant_id, name, kind, cron, zone, next_run_at, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), CASE WHEN n <= WATCHED THEN 'nightly' ELSE 's' || n % 10 END, 'note', '0 3 * * *', 'UTC', now() + interval '1 day', now() - interval '1 year'
FROM generate_series(1, WATCHED * 10) n`,
		`INSERT INTO headgate.occurrences (schedule_id, nominal_at, last_at, outcome, decided_at, job_uid)
SELECT s.id, at, at, 'fired', at, gen_random_uuid() FROM headgate.schedules s, generate_series(1, 12) n, LATERAL (SELECT now() - n * interval '1 day' AS at) a WHERE s.name = 'nightly'`,
		`INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, started_at, ended_at)
SELECT gen_random_uuid(), job_uid, 1, 'note', 1, 'succeeded', decided_at, decided_at FROM headgate.occurrences`,
		`VACUUM ANALYZE headgate.schedules, headgate.occurrences, headgate.outcomes`,
	} {
		_, err := conn.Exec(context.Background(), strings.ReplaceAll(sql, "WATCHED", strconv.Itoa(watched)))
		require.NoError(t, err, sql)
	}
}

// A look at watched schedules reads one answer of each that succeeds, and no more than its
// bound if none does, however many answers and ends are kept.
func TestSuccessesPlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	const watched = 2000
	fillWatched(t, env, watched)
	for _, c := range []struct {
		when          string
		most, answers int
	}{
		{"all succeed", 60_000, watched},
		{"none has succeeded", watched * 3, 2 * watched * 3}, // read a second time for the oldest
	} {
		plan, text := explained(t, env, explain.SuccessesSQL, []string{"nightly"}, c.most)
		rows, whole := readOf(plan, "occurrences")
		require.False(t, whole, text)
		require.LessOrEqual(t, rows, float64(c.answers), "%s: %s", c.when, text)
		rows, whole = readOf(plan, "outcomes_")
		require.False(t, whole, text)
		require.LessOrEqual(t, rows, float64(c.answers), "%s: %s", c.when, text)
		roomtest.Do(t, env, `UPDATE headgate.outcomes SET state = 'discarded'`)
	}
	all, text := explained(t, env, `SELECT * FROM headgate.occurrences`)
	_, whole := readOf(all, "occurrences")
	require.True(t, whole, "the control: %s", text)
}

// The last success is found behind many failures. Where the look ends before, the oldest
// answer that it has read is a lower bound, and not the schedule's creation.
func TestSuccessBehindManyFailures(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	fillWatched(t, env, 1)
	nights := func(age time.Duration) int { return int(age / (24 * time.Hour)) }
	look := func() explain.Figures {
		t.Helper()
		f, ok, err := env.Explain.Figures(context.Background(), explain.FiguresParams{Schedules: []string{"nightly", "nihgtly", "nightly"}})
		require.NoError(t, err)
		require.True(t, ok)
		require.Empty(t, f.Missing)
		return f
	}
	roomtest.Do(t, env, `UPDATE headgate.outcomes SET state = 'discarded' WHERE ended_at > now() - interval '11 days 12 hours'`)
	f := look()
	require.Equal(t, 12, nights(f.Successes["nightly"]))
	require.Equal(t, map[string]int{"nightly": 1, "nihgtly": 0}, f.Watched)
	require.NotContains(t, f.Successes, "nihgtly")

	var name string
	var count int
	var age float64
	bounded := func() int {
		t.Helper()
		require.NoError(t, env.Pool.QueryRow(context.Background(), explain.SuccessesSQL, []string{"nightly"}, 0).Scan(&name, &count, &age))
		return nights(time.Duration(age) * time.Second)
	}
	require.Equal(t, 3, bounded(), "of three answers that were looked at, the oldest")
	roomtest.Do(t, env, `UPDATE headgate.outcomes SET state = 'discarded'`)
	require.Equal(t, 12, nights(look().Successes["nightly"]), "the oldest that is kept")
	roomtest.Do(t, env, `UPDATE headgate.schedules SET paused = true WHERE name = 'nightly'`)
	f = look()
	require.Equal(t, 1, f.Watched["nightly"])
	require.Empty(t, f.Successes)
}

// The look at queues walks the index on available rows, whatever priority they have.
func TestQueueFiguresPlan(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	roomtest.Do(t, env, `
INSERT INTO river_job (kind, queue, args, max_attempts, attempt, metadata, state, priority, scheduled_at, finalized_at)
SELECT 'note', 'q' || n % 4, '{}', 25, 1, '{}', state::river_job_state, n % 4 + 1, now() - n * interval '1 second', CASE WHEN state = 'completed' THEN now() END
FROM generate_series(1, 100000) n, LATERAL (SELECT CASE WHEN n % 100 < 10 THEN 'available' ELSE 'completed' END AS state) s`)
	roomtest.Do(t, env, `VACUUM ANALYZE river_job`)
	const counted = 100
	plan, text := explained(t, env, explain.QueueFiguresSQL, counted)
	rows, whole := readOf(plan, "river_job")
	require.False(t, whole, text)
	require.LessOrEqual(t, rows, float64(4*(counted+4)), "%s", text)

	// The control is what the query was: a name that means the row's own column.
	own := strings.NewReplacer("generate_series(1, 4) p (n)", "generate_series(1, 4) priority", "j.priority = p.n", "j.priority = priority").Replace(explain.QueueFiguresSQL)
	require.NotEqual(t, explain.QueueFiguresSQL, own)
	plan, text = explained(t, env, own, counted)
	rows, _ = readOf(plan, "river_job")
	require.Greater(t, rows, float64(10*4*(counted+4)), text)

	// The planner's choice is the same where it takes the table to have a million rows, and
	// ten million: its guess is the pages that are there times the rows of a page.
	for _, million := range []float64{1, 10} {
		roomtest.Do(t, env, `
UPDATE pg_class SET reltuples = reltuples * $1 / (SELECT reltuples FROM pg_class WHERE oid = 'river_job'::regclass)
WHERE oid = 'river_job'::regclass OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'river_job'::regclass)`, million*1_000_000)
		var guess string
		require.NoError(t, env.Pool.QueryRow(ctx, `EXPLAIN (FORMAT JSON) SELECT FROM river_job`, pgx.QueryExecModeExec).Scan(&guess))
		var whole []struct {
			Plan struct {
				Rows float64 `json:"Plan Rows"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(guess), &whole))
		require.InEpsilon(t, million*1_000_000, whole[0].Plan.Rows, 0.1)
		plan, text = explained(t, env, explain.QueueFiguresSQL, counted)
		_, read := readOf(plan, "river_job")
		require.False(t, read, text)
	}
}
