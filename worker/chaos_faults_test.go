//go:build faults

package worker_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An open loop of 40 jobs a second, and 300 processes killed or stopped beside
// it: the effect of each of 5,000 jobs happens once, and none uses an attempt.
func TestFaultsChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke of it is TestKilledWorkersDoubleNothing, in make test")
	}
	chaos{
		beat: quickBeat, workers: 4, survivor: true,
		jobs: 5000, pace: 25 * time.Millisecond, barePer: 1,
		faults: 300, every: 400 * time.Millisecond, stopShare: 0.25, stopFor: 4 * time.Second,
		inWindow: 60, settle: 2 * time.Minute, // again: no promise holds for a fault every 0.4 s
	}.run(t)
}

// For six minutes workers are killed and stopped while people cancel, tenants rest,
// months pass and sessions end, in databases whose defaults chance has set: what is
// said of each job is true by its ledger, with no effect doubled and none missing.
func TestFaultsChaosFromOutside(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke of it is TestWhatIsSaidOfEachJobIsTrue, in make test")
	}
	const long, every = 6 * time.Minute, 400 * time.Millisecond
	chaos{
		beat: quickBeat, workers: 4, survivor: true,
		jobs: int(long / (30 * time.Millisecond)), pace: 30 * time.Millisecond,
		faults: int(long / every), every: every, stopShare: 0.4, stopFor: 4 * time.Second,
		inWindow: 100, settle: 3 * time.Minute,
	}.runFromOutside(t, 60*time.Millisecond)
}

// The same at the product's own times, for HEADGATE_SOAK (2 h): what a worker
// had in hand runs again within a minute of its death. Nobody survives here:
// the queue's leader dies with the others.
func TestFaultsSoak(t *testing.T) {
	if testing.Short() || os.Getenv("HEADGATE_SOAK") == "" {
		t.Skip("hours long: make soak")
	}
	long, err := time.ParseDuration(os.Getenv("HEADGATE_SOAK"))
	require.NoError(t, err, "HEADGATE_SOAK")
	const every = 30 * time.Second // a death is seen by one who has watched for 30 s: some must live that long
	faults := int(long / every)
	chaos{
		workers: 4,
		jobs:    int(long / (25 * time.Millisecond)), pace: 25 * time.Millisecond, barePer: 1,
		faults: faults, every: every, stopShare: 0.25, stopFor: time.Minute,
		inWindow: faults / 2, settle: 10 * time.Minute, again: time.Minute,
	}.run(t)
}
