package wire_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
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
	for want, refused := range map[string]struct {
		args      jobs.Args
		opts      jobs.FollowUpOpts
		databases bool
	}{
		"queue":                  {args: note{}, opts: jobs.FollowUpOpts{Queue: "No Such"}},
		`priority "9": give`:     {args: note{}, opts: jobs.FollowUpOpts{Priority: 9}},
		`max attempts "2000"`:    {args: note{}, opts: jobs.FollowUpOpts{MaxAttempts: 2000}},
		"at most 262144":         {args: note{Text: strings.Repeat("x", 256<<10)}},
		"U+0000":                 {args: note{Text: "\x00"}},
		"about a whole database": {args: note{}, databases: true},
	} {
		asked, err := wire.Follow(nil, !refused.databases, refused.args, &refused.opts)
		require.ErrorContains(t, err, want)
		require.Empty(t, asked)
	}
	asked, err := wire.Follow(nil, true, sweep{}, nil)
	require.NoError(t, err)
	for range jobs.MaxFollowUps - 1 {
		asked, err = wire.Follow(asked, true, note{Text: "a"}, nil)
		require.NoError(t, err)
	}
	all, err := wire.Follow(asked, true, note{}, nil)
	require.ErrorContains(t, err, "1000 at most")
	require.Equal(t, asked, all)
	result := jobs.Result{Rows: 7, Output: "done"}
	stored, err := wire.StoreResult(result, asked)
	require.NoError(t, err)
	back, followUps, err := wire.RestoreResult(stored)
	require.NoError(t, err)
	require.Equal(t, result, back)
	require.Equal(t, asked, followUps)
	_, _, err = wire.RestoreResult([]byte("["))
	require.Error(t, err)
}
