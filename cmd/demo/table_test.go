package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// failing is a result with one job of each fate.
func failing() *result {
	acorn := tenants()[0]
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	job := func(kind string, state jobs.State, last jobs.Outcome) endedJob {
		last.StartedAt, last.EndedAt = start, start.Add(1234*time.Millisecond)
		return endedJob{Record: jobs.Record{Kind: kind, State: state, Tenant: acorn.slug, Database: acorn.database}, tenant: acorn, last: last}
	}
	untried := endedJob{Record: jobs.Record{Kind: "headgate.analyze", State: jobs.Waiting, Database: "freemium-1"}}
	shared := &database{name: "freemium-1", tenants: []*tenant{acorn}}
	return &result{
		tenants: []*tenant{acorn}, databases: []*database{shared}, visits: map[*database]visits{shared: {counted: setUpSessions + 1}}, folder: "/tmp/x",
		jobs: []endedJob{
			job("headgate.report", jobs.Succeeded, jobs.Outcome{State: jobs.Succeeded, Result: jobs.Result{Rows: 2, Output: "acorn/brands-01a201ed-563e-7164-be71-9f22e7564ead.csv"}}),
			job("transfer", jobs.Cancelled, jobs.Outcome{State: jobs.Cancelled, Message: "cancelled by its handler: brand 1 has no 71 points to give to brand 2"}),
			job("headgate.purge", jobs.Failed, jobs.Outcome{State: jobs.Failed, Class: jobs.ClassJobError, Message: `relation "tasks" does not exist`}),
			untried,
		},
	}
}

func TestFailuresAreShown(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, width := range []int{0, 120, 80} {
		require.NoError(t, failing().print(screen{out: &out, width: width}, "table"))
	}
	golden(t, "failures.golden", out.String())
	require.False(t, failing().ok())
	require.Equal(t, 3, failing().summary().Failed)
}

func TestFailuresAreRed(t *testing.T) {
	t.Parallel()
	lines := strings.Split(failing().table(screen{colour: true}), "\n")
	require.NotContains(t, lines[0]+lines[1], "\x1b[31m")
	require.Contains(t, lines[2], "\x1b[31mcancelled\x1b[0m")
}
