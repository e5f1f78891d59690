package schedule_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// hands is a database whose clock a test sets, and a scheduler that goes by it.
type hands struct {
	*jobstest.Env
	asks *schedule.Scheduler
}

func withHands(t *testing.T, at string) *hands {
	t.Helper()
	env := roomtest.SetupDirect(t)
	roomtest.ShadowClock(t, env)
	roomtest.Do(t, env, `CREATE OR REPLACE FUNCTION skew.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.clock_timestamp() + by FROM skew.clock'`)
	h := &hands{env, schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{MaxSkew: 1 << 62})}
	h.set(t, at)
	return h
}

// set sets the clock.
func (h *hands) set(t *testing.T, at string) {
	t.Helper()
	_, err := h.Pool.Exec(context.Background(), `UPDATE skew.clock SET by = $1::text::timestamptz - pg_catalog.clock_timestamp()`, at)
	require.NoError(t, err)
}

// pass sets the clock and runs the scheduler until nothing is due.
func (h *hands) pass(t *testing.T, at string) {
	t.Helper()
	h.set(t, at)
	for range 20 {
		n, _, err := h.asks.RunOnce(context.Background())
		require.NoError(t, err)
		if n == 0 {
			return
		}
	}
	t.Fatal("it is always due")
}

func (h *hands) create(t *testing.T, name, cron, zone string, policy schedule.Policy) schedule.Schedule {
	t.Helper()
	s, err := h.Schedules.Create(context.Background(), schedule.Params{Tenant: "acme", Name: name, Args: roomtest.Note{Text: name}, Spec: schedule.Spec{Cron: cron, Zone: zone, Policy: policy}})
	require.NoError(t, err)
	return s
}

func (h *hands) close(t *testing.T, kind, span, zone string) {
	t.Helper()
	b := schedule.Blackout{Name: "c-" + kind, Tenant: "acme", Spans: []string{span}, Zone: zone}
	if kind == "maintenance" {
		require.NoError(t, h.Schedules.Calendars.SetMaintenanceWindow(context.Background(), schedule.MaintenanceWindow(b)))
		return
	}
	require.NoError(t, h.Schedules.Calendars.SetBlackout(context.Background(), b))
}

// why is the answer for what a clock showed.
func (h *hands) why(t *testing.T, name, wall string) string {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04", wall)
	require.NoError(t, err)
	answers, err := h.Schedules.Why(context.Background(), of("acme", name), at)
	require.NoError(t, err)
	require.Len(t, answers, 1)
	return answers[0].Answer
}

// 02:30 does not exist in New York on 14 March 2027 and fires at 03:00. Blackouts and
// maintenance windows judge 02:30 all the same.
func TestBlackoutsJudgeTheNamedTime(t *testing.T) {
	t.Parallel()
	const zone = "America/New_York"
	for _, c := range []struct {
		kind, span, want string
		maintenance      bool
	}{
		{"blackout", "02:00-03:00", "skipped_excluded 1", false},
		{"blackout", "03:00-04:00", "fired 1", false},
		{"maintenance", "02:00-03:00", "fired 1", true},
		{"maintenance", "03:00-04:00", "skipped_excluded 1", true},
	} {
		t.Run(c.kind+" "+c.span, func(t *testing.T) {
			t.Parallel()
			h := withHands(t, "2027-03-14 06:50Z")
			h.close(t, c.kind, c.span, zone)
			s := h.create(t, "nightly", "30 2 * * *", zone, schedule.Policy{Maintenance: c.maintenance})
			h.pass(t, "2027-03-14 06:59:58Z")
			require.Empty(t, outcomes(t, h.Env, s))
			h.pass(t, "2027-03-14 07:00:01Z")
			require.Equal(t, c.want, outcomes(t, h.Env, s))
		})
	}
}

// What a blackout will keep from starting is said ahead of it.
func TestWhyKnowsTheBlackoutAhead(t *testing.T) {
	t.Parallel()
	h := withHands(t, "2027-06-01 12:00Z")
	h.close(t, "blackout", "02:00-03:00", "UTC")
	h.create(t, "nightly", "30 * * * *", "UTC", schedule.Policy{})
	for clock, want := range map[int]string{1: "it starts at ", 2: "it will not start: blackout c-blackout", 3: "it starts at "} {
		answers, err := h.Schedules.Why(context.Background(), of("acme", "nightly"), time.Date(2027, 6, 2, clock, 30, 0, 0, time.UTC))
		require.NoError(t, err)
		require.Equal(t, "ahead", answers[0].Answer)
		require.Contains(t, answers[0].Because, want)
	}
}

// The starts of a spread come before the blackout that would meet the later ones, also
// the first start of a new schedule, and the first after an edit or a pause.
func TestASpreadEndsBeforeABlackout(t *testing.T) {
	t.Parallel()
	h := withHands(t, "2027-06-01 12:00Z")
	ctx := context.Background()
	h.close(t, "blackout", "23:00-01:30", "UTC")
	list := map[string]schedule.Schedule{}
	for i := range 12 {
		name := fmt.Sprintf("s%d", i)
		s := h.create(t, name, "0 22 * * *", "UTC", schedule.Policy{Spread: 3 * time.Hour, Overlap: "allow"})
		require.Less(t, s.NextRunAt.Format("15:04"), "23:00")
		list[name] = s
	}
	const begins = "22:59:59Z"
	h.pass(t, "2027-06-01 "+begins)
	for name, s := range list {
		require.Equal(t, "fired 1", outcomes(t, h.Env, s), name)
	}
	for name := range list {
		switch name {
		case "s0", "s1", "s2", "s3":
			_, err := h.Schedules.Edit(ctx, of("acme", name), schedule.Edit{Fields: []string{"cron"}, Spec: schedule.Spec{Cron: "1 22 * * *"}})
			require.NoError(t, err)
		case "s4", "s5", "s6", "s7":
			require.NoError(t, h.Schedules.Pause(ctx, of("acme", name), nil))
			require.NoError(t, h.Schedules.Resume(ctx, of("acme", name), ""))
		}
	}
	h.pass(t, "2027-06-02 "+begins)
	for name, s := range list {
		require.Equal(t, "fired 1, fired 1", outcomes(t, h.Env, s), name)
	}
	h.pass(t, "2027-06-03 21:00:00Z")
	h.close(t, "blackout", "22:30-01:30", "UTC") // the starts that it meets stand already
	h.pass(t, "2027-06-03 22:29:59Z")
	for name, s := range list {
		require.Equal(t, "fired 1, fired 1, fired 1", outcomes(t, h.Env, s), name)
	}
}

// A change of a selector's schedule, or of the tenant's zone, moves nothing on before what
// was missed is answered, and why knows of it; a tenant that leaves is answered for too.
func TestWhatASelectorsChangeMissedIsAnswered(t *testing.T) {
	t.Parallel()
	h := withHands(t, "2027-06-01 12:10Z")
	ctx := context.Background()
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET plan = 'pro', timezone = 'UTC' WHERE slug = 'acme'`)
	params := schedule.TemplateParams{Name: "tick", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 * * * *", Policy: schedule.Policy{Overlap: "allow"}}}
	setTemplate(t, h.Env, params)
	h.pass(t, "2027-06-01 12:10Z")
	s, err := h.Schedules.Get(ctx, of("acme", "tick"))
	require.NoError(t, err)

	h.set(t, "2027-06-01 16:10Z")
	params.Cron = "30 * * * *"
	setTemplate(t, h.Env, params)
	h.pass(t, "2027-06-01 16:12Z")
	require.Equal(t, "coalesced 3, fired 1", outcomes(t, h.Env, s))
	require.Equal(t, "ahead", h.why(t, "tick", "2027-06-01 16:30"))

	h.pass(t, "2027-06-01 16:31Z")
	h.set(t, "2027-06-01 18:40Z")
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'Asia/Kathmandu' WHERE slug = 'acme'`) // UTC+5:45
	h.pass(t, "2027-06-01 18:41Z")
	require.Equal(t, "coalesced 3, fired 1, fired 1, coalesced 1, fired 1", outcomes(t, h.Env, s))
	require.Equal(t, "ahead", h.why(t, "tick", "2027-06-02 00:30")) // 18:45 UTC
	h.pass(t, "2027-06-01 18:46Z")

	h.set(t, "2027-06-01 21:00Z")
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET plan = 'free' WHERE slug = 'acme'`)
	h.pass(t, "2027-06-01 21:01Z")
	require.Equal(t, "coalesced 3, fired 1, fired 1, coalesced 1, fired 1, fired 1, superseded 1", outcomes(t, h.Env, s))
}

// What a pause kept from firing is answered by the times that the schedule had then, also
// when they change while it is paused; however the pause ends.
func TestAPauseAnswersForTheTimesBeforeAChange(t *testing.T) {
	t.Parallel()
	h := withHands(t, "2027-06-01 00:10Z")
	ctx := context.Background()
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'UTC' WHERE slug = 'acme'`)
	until, err := time.Parse(time.RFC3339, "2027-06-01T05:00:00Z")
	require.NoError(t, err)
	resumed := h.create(t, "resumed", "30 * * * *", "", schedule.Policy{Overlap: "allow"})
	ends := h.create(t, "ends", "30 * * * *", "", schedule.Policy{Overlap: "allow"})
	require.NoError(t, h.Schedules.Pause(ctx, of("acme", "resumed"), nil))
	require.NoError(t, h.Schedules.Pause(ctx, of("acme", "ends"), &schedule.PauseOpts{Until: until}))
	h.set(t, "2027-06-01 02:35Z")
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'Asia/Kathmandu' WHERE slug = 'acme'`) // UTC+5:45
	h.pass(t, "2027-06-01 02:36Z")
	h.set(t, "2027-06-01 05:00:01Z")
	require.NoError(t, h.Schedules.Resume(ctx, of("acme", "resumed"), ""))
	h.pass(t, "2027-06-01 05:00:02Z")
	for _, s := range []schedule.Schedule{resumed, ends} { // 00:30, 01:30, 02:30; then 02:45, 03:45, 04:45
		require.Equal(t, "skipped_paused 3, skipped_paused 3", outcomes(t, h.Env, s), s.Name)
	}
}

// A tenant's own schedule that was given no zone goes by the tenant's, also when that
// changes, and what it has missed is answered by the old one. One with a zone keeps it.
func TestOwnSchedulesFollowTheTenantsZone(t *testing.T) {
	t.Parallel()
	h := withHands(t, "2027-06-01 00:10Z")
	ctx := context.Background()
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'UTC' WHERE slug = 'acme'`)
	follows := h.create(t, "follows", "0 * * * *", "", schedule.Policy{Overlap: "allow"})
	h.create(t, "stays", "0 * * * *", "UTC", schedule.Policy{})
	h.create(t, "edited", "0 * * * *", "", schedule.Policy{})
	_, err := h.Schedules.Edit(ctx, of("acme", "edited"), schedule.Edit{Fields: []string{"zone"}, Spec: schedule.Spec{Zone: "Europe/Paris"}})
	require.NoError(t, err)
	paused := h.create(t, "paused", "0 * * * *", "", schedule.Policy{})
	require.NoError(t, h.Schedules.Pause(ctx, of("acme", "paused"), nil))

	h.set(t, "2027-06-01 03:05Z")
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'Asia/Kathmandu' WHERE slug = 'acme'`) // UTC+5:45
	h.pass(t, "2027-06-01 03:06Z")
	zones := map[string]string{}
	all, _, err := h.Schedules.List(ctx, schedule.Filter{Tenant: "acme"})
	require.NoError(t, err)
	for _, s := range all {
		zones[s.Name] = s.Zone
	}
	require.Equal(t, map[string]string{"follows": "Asia/Kathmandu", "stays": "UTC", "edited": "Europe/Paris", "paused": "Asia/Kathmandu"}, zones)
	require.Equal(t, "coalesced 2, fired 1", outcomes(t, h.Env, follows))
	h.pass(t, "2027-06-01 03:16Z") // 09:01 in Kathmandu
	require.Equal(t, "coalesced 2, fired 1, fired 1", outcomes(t, h.Env, follows))
	require.NoError(t, h.Schedules.Resume(ctx, of("acme", "paused"), ""))
	h.pass(t, "2027-06-01 04:16Z")
	require.Contains(t, outcomes(t, h.Env, paused), "fired 1")

	// What somebody else has locked follows a while later.
	tx, err := h.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `SELECT FROM headgate.schedules WHERE name = 'follows' FOR UPDATE`)
	require.NoError(t, err)
	roomtest.Do(t, h.Env, `UPDATE headgate.tenants SET timezone = 'UTC' WHERE slug = 'acme'`)
	h.pass(t, "2027-06-01 04:17Z")
	require.Equal(t, 1, roomtest.Count(t, h.Env, `SELECT count(*) FROM headgate.selector_changes WHERE error <> ''`))
	require.NoError(t, tx.Rollback(ctx))
	roomtest.Do(t, h.Env, `UPDATE headgate.selector_changes SET not_before = NULL`)
	h.pass(t, "2027-06-01 04:18Z")
	require.Equal(t, 1, roomtest.Count(t, h.Env, `SELECT count(*) FROM headgate.schedules WHERE name = 'follows' AND zone = 'UTC'`))
	require.Zero(t, roomtest.Count(t, h.Env, `SELECT count(*) FROM headgate.selector_changes`))
}
