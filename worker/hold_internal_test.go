package worker

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb"
)

// A job stays away for as long as its connections know that they would be refused, but a
// minute at most; a moment after a conflict; and else a tenth of the time for which that
// has been so, between HoldFor and HoldMost.
func TestHowLongAJobStaysAway(t *testing.T) {
	t.Parallel()
	w, now := &Worker{cfg: Config{HoldFor: 10 * time.Second, HoldMost: 5 * time.Minute}}, time.Now()
	refused := func(again time.Duration) error {
		return fmt.Errorf("connecting: %w", &tenantdb.ConnectError{Class: jobs.ClassAuthFailed, Err: errors.New("no"), RetryAfter: again})
	}
	for _, c := range []struct {
		name  string
		err   error
		class jobs.Class
		times int
		since time.Duration // ago
		want  time.Duration
		exact bool
	}{
		{"refused for a moment", refused(5 * time.Second), jobs.ClassAuthFailed, 1, 0, 5 * time.Second, true},
		{"refused for long", refused(10 * time.Minute), jobs.ClassAuthFailed, 9, time.Hour, time.Minute, true},
		{"first conflict", errBusy, jobs.ClassConflict, 1, 0, 2 * firstConflict, false},
		{"third conflict", errBusy, jobs.ClassConflict, 3, 0, 8 * firstConflict, false},
		{"many conflicts", errBusy, jobs.ClassConflict, 1000, 0, 10 * time.Second, false},
		{"away since just now", errInterrupted, jobs.ClassInterrupted, 1, 0, 10 * time.Second, false},
		{"away for ten minutes", errInterrupted, jobs.ClassInterrupted, 5, 10 * time.Minute, time.Minute, false},
		{"away for a day", errInterrupted, jobs.ClassInterrupted, 50, 24 * time.Hour, 5 * time.Minute, false},
	} {
		shortest, longest := time.Duration(1<<62), time.Duration(0)
		for range 500 {
			wait := w.holdFor(c.err, &jobs.Held{Class: c.class, Times: c.times, Since: now.Add(-c.since)}, now)
			shortest, longest = min(shortest, wait), max(longest, wait)
		}
		if c.exact {
			require.Equal(t, []time.Duration{c.want, c.want}, []time.Duration{shortest, longest}, c.name)
			continue
		}
		require.GreaterOrEqual(t, shortest, c.want*4/5, c.name)
		require.LessOrEqual(t, longest, c.want*6/5, c.name)
		require.Less(t, shortest, longest, "%s: jobs that were held together do not come back together", c.name)
	}
}

// What an end counts: those of one class in a row, of these the ones whose handler had
// begun, and not those of a clock that went back.
func TestWhatIsCountedOfHeldAttempts(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := &attempt{w: &Worker{cfg: Config{UnblamedMost: 20, UnblamedFor: time.Hour}}}
	count := func(class jobs.Class, at time.Time) jobs.Held {
		a.meta.Held = a.held(class, at)
		return *a.meta.Held
	}
	require.Equal(t, 1, count(jobs.ClassReadOnly, now).Times)
	require.Equal(t, 2, count(jobs.ClassReadOnly, now.Add(time.Minute)).Times)
	require.Equal(t, now, a.meta.Held.Since)
	require.Zero(t, a.meta.Held.Begun)
	require.Equal(t, 1, count(jobs.ClassConflict, now).Times, "of another class")
	require.Equal(t, now.Add(-time.Hour), count(jobs.ClassConflict, now.Add(-time.Hour)).Since, "the clock went back")
	require.Equal(t, 1, a.meta.Held.Times)
	a.called = true
	require.Equal(t, 1, count(jobs.ClassConflict, now).Begun)
	require.Equal(t, 2, count(jobs.ClassReadOnly, now).Begun, "of any class")

	for _, c := range []struct {
		begun int
		since time.Duration
		used  bool
	}{
		{1, 0, false},
		{fewUnblamed, 100 * time.Hour, false}, // the tenant may have been paused
		{fewUnblamed + 1, time.Hour, false},
		{fewUnblamed + 1, time.Hour + time.Second, true},
		{20, 0, false},
		{21, 0, true},
	} {
		err := a.blamed(&jobs.Held{Begun: c.begun, BegunSince: now.Add(-c.since)}, now)
		require.Equal(t, c.used, err != nil, "%+v", c)
	}
	a.called = false
	require.NoError(t, a.blamed(&jobs.Held{Begun: 1000, BegunSince: now.Add(-1000 * time.Hour)}, now), "nothing has happened yet")
}

// Of the ends that wait for a server the history keeps the 1st, 2nd, 4th and so on; of
// what a handler has begun it keeps all.
func TestWhichEndsTheHistoryKeeps(t *testing.T) {
	t.Parallel()
	var kept []int
	for times := 1; times <= 40; times++ {
		d := disposition{state: jobs.Snoozed, held: &jobs.Held{Times: times}}
		if !d.repeats(false) {
			kept = append(kept, times)
		}
		require.False(t, d.repeats(true))
		d.state = jobs.Failed
		require.False(t, d.repeats(false))
	}
	require.Equal(t, []int{1, 2, 4, 8, 16, 32}, kept)
	require.False(t, disposition{state: jobs.Snoozed}.repeats(false), "a handler's own wish")
}

// The last attempt of a job of which an earlier one may have committed does not end it,
// unless the ledger has denied that.
func TestAnAttemptThatCannotAskDoesNotEndAJobThatMayBeDone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		open    int64 // since when an attempt may be open, in seconds
		asked   bool
		form    form
		attempt int
		want    jobs.State
	}{
		{"it may be done", 1, false, inTx, 3, jobs.Snoozed},
		{"it may be done in part", 1, false, onConn, 3, jobs.Snoozed},
		{"the ledger has denied it", 1, true, inTx, 3, jobs.Discarded},
		{"nothing may be open", 0, false, inTx, 3, jobs.Discarded},
		{"nothing of it is in the tenant's database", 1, false, noConn, 3, jobs.Discarded},
		{"it is not the last attempt", 1, false, inTx, 2, jobs.Failed},
	} {
		a := &attempt{
			w:     &Worker{cfg: Config{UnblamedMost: 20, UnblamedFor: time.Hour, HoldFor: time.Second, HoldMost: time.Minute}},
			kind:  &kind{form: c.form},
			row:   &rivertype.JobRow{Attempt: c.attempt, MaxAttempts: 3},
			asked: c.asked, called: true,
		}
		a.meta.OpenSince = c.open
		require.Equal(t, c.want, a.disposition(t.Context(), errors.New("no")).state, c.name)
	}
}
