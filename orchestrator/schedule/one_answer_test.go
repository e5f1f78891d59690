package schedule_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/calendar"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// aLife is a schedule whose clock a test sets, with the times that it should have had.
type aLife struct {
	env  *jobstest.Env
	name string
	id   string
	now  time.Time
	asks *schedule.Scheduler

	cron, zone string
	paused     bool
	since      time.Time   // from when the present times count
	named      []time.Time // of those before
}

func (l *aLife) table(t *rapid.T) *calendar.Schedule {
	table, err := calendar.Parse(l.cron, l.zone)
	require.NoError(t, err)
	return table
}

// turn ends the present times: what they have named since they began is to be answered.
func (l *aLife) turn(t *rapid.T) {
	table := l.table(t)
	for at := table.Next(l.since); !at.After(l.now); at = table.Next(at) {
		l.named = append(l.named, at.UTC())
	}
	l.since = l.now
}

func (l *aLife) set(ctx context.Context, t *rapid.T, now time.Time) {
	l.now = now
	_, err := l.env.Pool.Exec(ctx, `UPDATE skew.clock SET by = $1::timestamptz - pg_catalog.clock_timestamp()`, now)
	require.NoError(t, err)
}

// Every time that a schedule named has exactly one answer, whatever it was when: edited,
// moved to another zone, paused, resumed and deleted, with a scheduler that comes by now
// and then.
func TestEveryOccurrenceHasOneAnswer(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	roomtest.ShadowClock(t, env)
	roomtest.Do(t, env, `CREATE OR REPLACE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + by FROM skew.clock'`)
	ctx := context.Background()
	asks := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{MaxSkew: 1 << 62})
	lives := 0
	rapid.Check(t, func(t *rapid.T) {
		lives++
		crons := rapid.SampledFrom([]string{"0 3 * * *", "30 2 * * *", "*/20 * * * *", "15 */2 * * *", "0 0 * * MON", "45 1,2 * * *", "@every 50m"})
		zones := rapid.SampledFrom([]string{"UTC", "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Africa/Cairo"})
		starts := rapid.SampledFrom([]time.Time{ // near changes of clocks, and not
			time.Date(2027, 3, 13, 11, 7, 30, 0, time.UTC), time.Date(2027, 10, 30, 20, 1, 1, 0, time.UTC), time.Date(2027, 6, 1, 1, 59, 59, 0, time.UTC),
		})
		l := &aLife{env: env, name: fmt.Sprintf("s%d", lives), asks: asks, cron: crons.Draw(t, "cron"), zone: zones.Draw(t, "zone")}
		l.set(ctx, t, starts.Draw(t, "start"))
		s, err := env.Schedules.Create(ctx, schedule.Params{Tenant: "acme", Name: l.name, Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: l.cron, Zone: l.zone, Policy: schedule.Policy{Overlap: schedule.OverlapAllow, CatchUp: rapid.SampledFrom([]schedule.CatchUp{schedule.CatchUpLatest, schedule.CatchUpAll, schedule.CatchUpNone}).Draw(t, "catch up")}}})
		require.NoError(t, err)
		l.id, l.since = s.ID, l.now
		deleted := false
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			l.set(ctx, t, l.now.Add(time.Duration(rapid.IntRange(61, 50*3600).Draw(t, "seconds"))*time.Second))
			switch what := rapid.SampledFrom([]string{"pass", "pass", "edit", "zone", "pause", "resume", "delete"}).Draw(t, "what"); what {
			case "pass":
				l.pass(ctx, t)
			case "edit", "zone":
				l.turn(t)
				edit := schedule.Edit{}
				if what == "edit" {
					l.cron = crons.Draw(t, "cron")
					edit.Fields, edit.Spec.Cron = []string{"cron"}, l.cron
				} else {
					l.zone = zones.Draw(t, "zone")
					edit.Fields, edit.Spec.Zone = []string{"zone"}, l.zone
				}
				_, err := env.Schedules.Edit(ctx, of("acme", l.name), edit)
				require.NoError(t, err)
			case "pause":
				l.turn(t)
				l.paused = true
				require.NoError(t, env.Schedules.Pause(ctx, of("acme", l.name), nil))
			case "resume":
				if l.paused {
					l.turn(t)
				}
				l.paused = false
				require.NoError(t, env.Schedules.Resume(ctx, of("acme", l.name), ""))
			case "delete":
				deleted = rapid.IntRange(0, 3).Draw(t, "really") == 0
			}
			if deleted {
				break
			}
		}
		if l.paused {
			l.turn(t)
			require.NoError(t, env.Schedules.Resume(ctx, of("acme", l.name), ""))
		}
		if !deleted {
			l.pass(ctx, t)
		}
		l.turn(t)
		require.NoError(t, env.Schedules.Delete(ctx, of("acme", l.name), ""))
		l.judge(ctx, t)
	})
}

// pass runs the scheduler until nothing is due.
func (l *aLife) pass(ctx context.Context, t *rapid.T) {
	for range 20 {
		n, wait, err := l.asks.RunOnce(ctx)
		require.NoError(t, err)
		if n == 0 && wait > 0 { // and no batch that has failed
			return
		}
	}
	t.Fatal("it is always due")
}

// judge compares the answers with the times.
func (l *aLife) judge(ctx context.Context, t *rapid.T) {
	type span struct {
		from, to time.Time
		count    int
		outcome  string
	}
	rows, err := l.env.Pool.Query(ctx, `SELECT nominal_at, last_at, count, outcome FROM headgate.occurrences WHERE schedule_id = $1 AND origin = 'clock' ORDER BY nominal_at`, l.id)
	require.NoError(t, err)
	var spans []span
	for rows.Next() {
		var s span
		require.NoError(t, rows.Scan(&s.from, &s.to, &s.count, &s.outcome))
		spans = append(spans, s)
	}
	require.NoError(t, rows.Err())
	slices.SortFunc(l.named, func(a, b time.Time) int { return cmp.Compare(a.Unix(), b.Unix()) })
	for _, at := range l.named {
		var found []span
		for _, s := range spans {
			if !at.Before(s.from) && !at.After(s.to) {
				found = append(found, s)
			}
		}
		require.Len(t, found, 1, "%s has not one answer: %+v of %+v", at.Format(time.RFC3339), found, spans)
	}
	answered := 0
	for _, s := range spans {
		if s.outcome == "superseded" && s.count == 1 && s.to.After(s.from) {
			continue // deleted: the length is not known
		}
		n := 0
		for _, at := range l.named {
			if !at.Before(s.from) && !at.After(s.to) {
				n++
			}
		}
		require.Equal(t, s.count, n, "%+v of %v", s, l.named)
		answered += n
	}
}

// Who asks why a schedule is silent is told what holds it.
func TestASkippedTimeSaysHowTheRunBeforeStands(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	s := roomtest.CreateWith(t, env, "nightly", "0 3 * * *", schedule.Policy{})
	asks := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	for _, before := range []struct{ sql, says string }{
		{`SELECT 1`, ""},
		{`UPDATE river_job SET state = 'retryable', attempt = 3, scheduled_at = '2027-01-01 00:00:00Z'`, "has not ended: attempt 3 of 25 failed, the next is due 2027-01-01T00:00:00Z"},
		{`UPDATE river_job SET state = 'running', attempt = 4`, "has not ended: attempt 4 of 25 runs"},
	} {
		roomtest.Do(t, env, before.sql)
		makeDue(t, env)
		_, _, err := asks.RunOnce(ctx)
		require.NoError(t, err)
		last, _, err := env.Schedules.Occurrences(ctx, s.ID, jobs.Page{Limit: 1})
		require.NoError(t, err)
		require.Contains(t, last[0].Note, before.says)
	}
}
