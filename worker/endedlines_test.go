package worker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// Each ended attempt has one line, with its tenant, kind and job. Beyond a number a second
// the lines are at level debug, and a line says how many.
func TestOneLineForEachEndedAttempt(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, text := env.Config(), &logged{}
	cfg.Logger, cfg.EndedLines = lockedLogger(text), 1
	w := env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, end) })
	const each = 30
	many := make([]jobs.EnqueueParams, 0, 2*each)
	for range each {
		many = append(many, jobs.EnqueueParams{Tenant: "acme", Args: Ending{}}, jobs.EnqueueParams{Tenant: "acme", Args: Ending{How: "cancel"}})
	}
	accepted, err := env.Client.EnqueueMany(t.Context(), many)
	require.NoError(t, err)
	for _, job := range accepted {
		env.Wait(job.UID)
	}
	require.NoError(t, w.Stop(t.Context()))
	for msg, c := range map[string]struct{ level, leftOut string }{
		"job succeeded": {"INFO", "lines of ended attempts were left out"},
		"job cancelled": {"WARN", "lines of failed attempts were left out"},
	} {
		lines := linesOf(t, text.String(), msg)
		require.Len(t, lines, each, msg)
		loud, debug, told, seen := 0, 0, 0, map[any]bool{}
		for _, l := range lines {
			seen[l["job_uid"]] = true
			require.Equal(t, "acme", l["tenant"])
			require.Equal(t, "ending", l["kind"])
			switch l["level"] {
			case c.level:
				loud++
			case "DEBUG":
				debug++
			}
		}
		for _, l := range linesOf(t, text.String(), c.leftOut) {
			require.Equal(t, c.level, l["level"])
			told += int(l["left_out"].(float64)) //nolint:forcetypeassert // it is a number
		}
		require.Len(t, seen, each)
		require.Positive(t, loud)
		require.Positive(t, debug)
		require.Equal(t, each, loud+debug)
		require.Equal(t, debug, told)
	}
}
