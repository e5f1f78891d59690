package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/worker/claim"
)

// addOne inserts a job of tenant $1, kind $2 and priority $3, due in $4 seconds.
const addOne = `
INSERT INTO river_job (kind, args, max_attempts, queue, metadata, priority, scheduled_at)
SELECT $2, '{}', 25, 'default', jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', t.id), $3, date_trunc('milliseconds', clock_timestamp()) + $4::float8 * interval '1 second'
FROM headgate.tenants t WHERE t.org_id = $1`

// anOlderWake consumes the wake-ups of lanes that are there as a program did that
// knew no cursors.
const anOlderWake = `
WITH consumed AS (
    DELETE FROM headgate.wakeups w USING headgate.lanes l WHERE l.queue = w.queue AND l.lane = w.lane AND l.kind = w.kind RETURNING w.queue, w.lane, w.kind
)
UPDATE headgate.lanes l SET active = true, wake_at = NULL, vtime = 0 FROM consumed c WHERE l.queue = c.queue AND l.lane = c.lane AND l.kind = c.kind`

// cursorModel is a queue of two tenants, two kinds and four priorities, in which
// rows become available in every order that there is.
type cursorModel struct {
	f       *fleet
	p       *process
	running []*rivertype.JobRow
	open    []pgx.Tx // transactions that have inserted, or locked, rows
}

// Whatever becomes available, wherever in a lane's order and however late its
// transaction commits, the next claims find it, in order, and no sweep is needed.
func TestCursorsHideNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	p := f.process(1000, "a", "b")
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		m := &cursorModel{f: f, p: p}
		f.exec(`TRUNCATE river_job, headgate.lanes, headgate.wakeups, headgate.kind_limits`)
		defer m.drain(t, true)
		t.Repeat(map[string]func(*rapid.T){
			"add":   func(t *rapid.T) { m.add(t, f.pool) },
			"added": func(t *rapid.T) { m.begin(t, func(tx pgx.Tx) { m.add(t, tx) }) },
			"lock": func(t *rapid.T) {
				m.begin(t, func(tx pgx.Tx) {
					_, err := tx.Exec(ctx, `SELECT FROM river_job WHERE state = 'available' ORDER BY scheduled_at LIMIT 2 FOR UPDATE SKIP LOCKED`)
					require.NoError(t, err)
				})
			},
			"commit": func(t *rapid.T) {
				if len(m.open) > 0 {
					require.NoError(t, m.open[0].Commit(ctx))
					m.open = m.open[1:]
				}
			},
			"claim": func(t *rapid.T) {
				m.claim(t, rapid.IntRange(1, 6).Draw(t, "n"))
				if rapid.Bool().Draw(t, "raise low watermarks") { // as a claim does that has written many lanes
					f.exec(claim.RaiseSQL, "default", claim.WatermarkSlack)
				}
			},
			"finish": func(t *rapid.T) { m.finish(rapid.IntRange(0, len(m.running)).Draw(t, "n")) },
			"give back": func(t *rapid.T) {
				m.endOtherwise(t, `UPDATE river_job SET state = 'available' WHERE id = $1`)
			},
			"snooze": func(t *rapid.T) {
				m.endOtherwise(t, `UPDATE river_job SET state = 'available', scheduled_at = clock_timestamp() + interval '20 ms' WHERE id = $1`)
			},
			"make urgent": func(*rapid.T) {
				f.exec(`UPDATE river_job SET priority = 1 WHERE id IN (SELECT id FROM river_job WHERE state = 'available' AND priority > 1 ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED)`)
			},
			"make earlier": func(*rapid.T) {
				f.exec(`UPDATE river_job SET scheduled_at = scheduled_at - interval '3 s' WHERE id IN (SELECT id FROM river_job WHERE state = 'available' ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED)`)
			},
			"limit": func(*rapid.T) {
				f.exec(`INSERT INTO headgate.kind_limits (kind, max_running) VALUES ('a', 1) ON CONFLICT DO NOTHING`)
			},
			"no limit":            func(*rapid.T) { f.exec(`TRUNCATE headgate.kind_limits`) },
			"an older one wakes":  func(*rapid.T) { f.exec(anOlderWake) },
			"the owner's changed": func(*rapid.T) { f.exec(`UPDATE headgate.tenants SET plan = CASE plan WHEN 'x' THEN 'y' ELSE 'x' END`) },
		})
		m.drain(t, false)
	})
}

func (m *cursorModel) add(t *rapid.T, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}) {
	for range rapid.IntRange(1, 4).Draw(t, "jobs") {
		due := float64(rapid.SampledFrom([]int{-5000, -1000, 0, 0, 0, 3, 15}).Draw(t, "due, ms")) / 1000
		_, err := db.Exec(context.Background(), addOne, rapid.IntRange(1, 2).Draw(t, "tenant"), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "kind"),
			rapid.SampledFrom([]int{1, 1, 1, 2, 3, 4}).Draw(t, "priority"), due)
		require.NoError(t, err)
	}
}

// begin leaves a transaction open, of three at most.
func (m *cursorModel) begin(t *rapid.T, within func(pgx.Tx)) {
	if len(m.open) == 3 {
		return
	}
	tx, err := m.f.pool.Begin(context.Background())
	require.NoError(t, err)
	m.open = append(m.open, tx)
	within(tx)
}

// claim claims, and looks whether what was left of a lane comes after what was
// taken of it.
func (m *cursorModel) claim(t *rapid.T, n int) int {
	ctx, now := context.Background(), time.Time{}
	require.NoError(t, m.f.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now))
	jobs := m.p.claim(ctx, n)
	m.running = append(m.running, jobs...)
	ids := make([]int64, len(jobs))
	for i, job := range jobs {
		ids[i] = job.ID
	}
	var passed string
	require.NoError(t, m.f.pool.QueryRow(ctx, `
SELECT coalesce(string_agg(format('%s before %s', l.id, j.id), ', '), '')
FROM river_job j JOIN (SELECT * FROM river_job WHERE state = 'available' AND scheduled_at <= $2 FOR UPDATE SKIP LOCKED) l
  ON headgate.lane(l.metadata) = headgate.lane(j.metadata) AND l.kind = j.kind AND (l.priority, l.scheduled_at, l.id) < (j.priority, j.scheduled_at, j.id)
WHERE j.id = ANY ($1)`, ids, now).Scan(&passed))
	require.Empty(t, passed, "claimed %v", ids)
	var hidden int
	require.NoError(t, m.f.pool.QueryRow(ctx, `
SELECT count(*) FROM headgate.lanes l JOIN headgate.lane_groups g USING (queue, server_id, kind) WHERE l.active AND l.vtime < g.floor`).Scan(&hidden))
	require.Zero(t, hidden, "lanes below the low watermark of their group")
	return len(jobs)
}

func (m *cursorModel) finish(n int) {
	m.p.finish(m.running[:n]...)
	m.running = m.running[n:]
}

// endOtherwise makes an attempt's end of another kind.
func (m *cursorModel) endOtherwise(t *rapid.T, sql string) {
	if len(m.running) == 0 {
		return
	}
	job := m.running[0]
	m.running = m.running[1:]
	m.f.count(job, -1)
	m.p.state.JobFinish(job)
	m.f.exec(sql, job.ID)
}

// drain ends everything that is open; then claims must bring all that is there.
func (m *cursorModel) drain(t *rapid.T, failed bool) {
	ctx := context.Background()
	for _, tx := range m.open {
		if err := tx.Commit(ctx); !failed {
			require.NoError(t, err)
		}
	}
	m.open = nil
	m.finish(len(m.running))
	if failed {
		return
	}
	m.f.exec(`TRUNCATE headgate.kind_limits`)
	m.f.exec(`UPDATE river_job SET scheduled_at = now() WHERE state = 'available' AND scheduled_at > now()`)
	for m.claim(t, 100) > 0 {
		m.finish(len(m.running))
	}
	var left string
	require.NoError(t, m.f.pool.QueryRow(ctx, `
SELECT coalesce(string_agg(format('%s %s %s %s, floors %s', j.id, j.kind, j.priority, j.scheduled_at, l.floors), '; '), '')
FROM river_job j LEFT JOIN headgate.lanes l ON l.lane = headgate.lane(j.metadata) AND l.kind = j.kind WHERE state = 'available'`).Scan(&left))
	require.Empty(t, left)
}

// A lane at rest is charged for a job that takes long, and rests on.
func TestALaneAtRestIsCharged(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 1)
	p := f.process(5, "a")
	f.exec(addJobs, 1, "a", 1, 1)
	require.Len(t, p.claim(context.Background(), 5), 1)
	const rest = `SELECT vtime FROM headgate.lanes WHERE NOT active AND wake_at IS NULL AND floors = '{}'`
	var before, after float64
	require.NoError(t, f.pool.QueryRow(context.Background(), rest).Scan(&before))
	f.exec(claim.ChargeSQL, "default", []byte(`[{"lane": "`+f.tenant(1)+`", "debt": 0.5, "bill": 0, "dry": 0, "kinds": {"a": {"s": 0, "n": 0}}}]`), 0.0, claim.Anywhere, 0)
	require.NoError(t, f.pool.QueryRow(context.Background(), rest).Scan(&after))
	require.InDelta(t, before+0.5, after, 1e-9)
}
