package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// What a kind may declare about where it reads.
func TestReadFromIsDeclaredRight(t *testing.T) {
	t.Parallel()
	replica := jobs.KindOpts{ReadFrom: jobs.Replica}
	with := func(change func(*jobs.KindOpts)) jobs.KindOpts {
		opts := replica
		change(&opts)
		return opts
	}
	for name, c := range map[string]struct {
		form form
		opts jobs.KindOpts
		says string
	}{
		"from the replica":             {readOnly, replica, ""},
		"from the primary":             {readOnly, jobs.KindOpts{}, ""},
		"with a limit and a policy":    {readOnly, with(func(o *jobs.KindOpts) { o.MaxLag, o.OnLag = time.Minute, jobs.WaitForReplica }), ""},
		"in a transaction":             {inTx, replica, "only a kind registered with ReadOnly can read from a replica"},
		"without a connection":         {noConn, replica, "only a kind registered with ReadOnly"},
		"as the owner":                 {readOnly, with(func(o *jobs.KindOpts) { o.Scope, o.Login = jobs.ScopeDatabase, jobs.LoginOwner }), "the read address is the job login's"},
		"too short a limit":            {readOnly, with(func(o *jobs.KindOpts) { o.MaxLag = time.Second }), "its MaxLag is 1s: give 2s or more, or 0 for 10s"},
		"a negative limit":             {readOnly, with(func(o *jobs.KindOpts) { o.MaxLag = -time.Second }), "give 2s or more"},
		"a limit on the primary":       {readOnly, jobs.KindOpts{MaxLag: time.Minute}, "reads from the primary, which has no lag"},
		"a policy on the primary":      {readOnly, jobs.KindOpts{OnLag: jobs.WaitForReplica}, "reads from the primary, which has no lag"},
		"a policy that there is not":   {readOnly, with(func(o *jobs.KindOpts) { o.OnLag = 2 }), "its OnLag jobs.ReadPrimary or WaitForReplica"},
		"a server that there is not":   {readOnly, jobs.KindOpts{ReadFrom: -1}, "its ReadFrom is jobs.Primary or Replica"},
		"another that there is not":    {readOnly, jobs.KindOpts{ReadFrom: 2}, "its ReadFrom is jobs.Primary or Replica"},
		"a policy below what there is": {readOnly, with(func(o *jobs.KindOpts) { o.OnLag = -1 }), "its OnLag jobs.ReadPrimary"},
	} {
		err := (&kind{name: "counting", form: c.form, opts: c.opts}).check()
		if c.says == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, c.says, name)
	}
	require.Equal(t, 10*time.Second, (&kind{opts: replica}).maxLag())
}

// A replica that lags is asked again soon, and less often the longer that goes on.
func TestHowLongAJobWaitsForItsReplica(t *testing.T) {
	t.Parallel()
	w := &Worker{cfg: Config{HoldFor: 30 * time.Second, HoldMost: 5 * time.Minute}}
	now := time.Now()
	for times, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 20: 30 * time.Second} {
		wait := w.holdFor(&replicaError{}, &jobs.Held{Class: jobs.ClassReplica, Times: times, Since: now}, now)
		require.InDelta(t, want, wait, float64(want)/5+1, "%d", times)
	}
}
