package jobs_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

type note struct {
	Text string `json:"text"`
}

func (note) Kind() string { return "note" }

type sweep struct{}

func (sweep) Kind() string { return "sweep" }

func (sweep) KindOpts() jobs.KindOpts { return jobs.KindOpts{Scope: jobs.ScopeDatabase} }

func TestFollow(t *testing.T) {
	t.Parallel()
	info := jobs.Info{Tenant: jobs.Tenant{ID: "x"}, Result: &jobs.Result{Rows: 7, Output: "done"}}
	for want, err := range map[string]error{
		"queue":                info.Follow(note{}, &jobs.FollowUpOpts{Queue: "No Such"}),
		"priority is 9":        info.Follow(note{}, &jobs.FollowUpOpts{Priority: 9}),
		"max attempts is 2000": info.Follow(note{}, &jobs.FollowUpOpts{MaxAttempts: 2000}),
		"at most 262144":       info.Follow(note{Text: strings.Repeat("x", 256<<10)}, nil),
		"U+0000":               info.Follow(note{Text: "\x00"}, nil),
		"about a whole database": (&jobs.Info{Result: &jobs.Result{}}).
			Follow(note{}, nil),
	} {
		require.ErrorContains(t, err, want)
	}
	require.Empty(t, info.Result.FollowUps())
	require.NoError(t, info.Follow(sweep{}, nil))
	for range jobs.MaxFollowUps - 1 {
		require.NoError(t, info.Follow(note{Text: "a"}, nil))
	}
	require.ErrorContains(t, info.Follow(note{}, nil), "1000 at most")
	stored, err := info.Result.Store()
	require.NoError(t, err)
	var back jobs.Result
	require.NoError(t, back.Restore(stored))
	require.Equal(t, *info.Result, back)
	require.Error(t, back.Restore([]byte("[")))
}
