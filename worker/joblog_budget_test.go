package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// counted is a value that counts how often it is asked for its text.
type counted struct {
	asked *atomic.Int64
	text  string
}

func (c counted) LogValue() slog.Value {
	c.asked.Add(1)
	return slog.StringValue(c.text)
}

// A line costs its handler no more than a bound, whatever is in it: what is beyond is not
// looked at, and the line says how much was left out.
func TestALineHasABudget(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	cfg, text := env.Config(), &logged{}
	cfg.Logger = lockedLogger(text)
	lines := map[string]int64{"values": 1000, "before": 1000, "members": 999, "texts": 64, "one text": 1}
	asked := map[string]*atomic.Int64{}
	for line := range lines {
		asked[line] = &atomic.Int64{}
	}
	many := func(line string, n, length int) (all []any) {
		for i := range n {
			all = append(all, slog.Any(fmt.Sprint("k", i), counted{asked[line], strings.Repeat("x", length)}))
		}
		return all
	}
	w := env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Says]) error {
			if _, err := failTimes(ctx, tx, 16, jobstest.PlantedEmail+strings.Repeat(" x", 4000)); err == nil { // it was to fail
				return errors.New("the server takes a text for a number")
			}
			job.Log().Info("values", many("values", 10_000, 5)...)
			job.Log().With(many("before", 10_000, 5)...).Info("before", "own", "kept")
			job.Log().Info("members", slog.Group("g", many("members", 10_000, 5)...), "last", 1)
			job.Log().Info("texts", many("texts", 64, 8<<10)...)
			job.Log().Info("one text", append(many("one text", 1, 1<<20), "small", "kept")...)
			return nil
		})
	})
	ended := env.Run("acme", Says{})
	require.Equal(t, jobs.Succeeded, ended.State, ended.Message)
	require.NoError(t, w.Stop(t.Context()))
	got := map[string]map[string]any{}
	for line, most := range lines {
		require.Equal(t, most, asked[line].Load(), line)
		all := linesOf(t, text.String(), line)
		require.Len(t, all, 1, line)
		got[line] = all[0]
	}
	require.Equal(t, "[left out: 9,000 further values, and a line has at most 1000]", got["values"]["left_out"])
	require.Equal(t, "[left out: 9,000 further values, and a line has at most 1000]", got["before"]["left_out"])
	require.Equal(t, "kept", got["before"]["own"])
	require.Equal(t, "[left out: 9,002 further values, and a line has at most 1000]", got["members"]["left_out"])
	require.Equal(t, "xxxxx", got["values"]["k999"])
	require.NotContains(t, got["values"], "k1000")
	require.Len(t, got["texts"]["k30"], 8<<10)
	require.Equal(t, "[left out: a text of 8192 bytes, and a line has at most 262144 in all]", got["texts"]["k31"])
	require.Equal(t, "[left out: a text of 1048576 bytes, and a line has at most 262144 in all]", got["one text"]["k0"])
	require.Equal(t, "kept", got["one text"]["small"])
}
