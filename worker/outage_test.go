package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A River that does not take our pilot must not work a single job: its own
// fetch and completion know no lease.
func TestStartRefusesARiverWithoutOurPilot(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	w, err := worker.New(env.Config())
	require.NoError(t, err)
	worker.InTx(w, end)
	w.HidePilot()
	require.ErrorContains(t, w.Start(context.Background()), "this version of River ignores Headgate's pilot")
	var workers int
	require.NoError(t, env.Pool.QueryRow(context.Background(), `SELECT count(*) FROM headgate.workers`).Scan(&workers))
	require.Zero(t, workers, "it was never a worker")
}

// logWatch waits for a word in a log.
type logWatch struct {
	mu   sync.Mutex
	word string
	seen chan struct{} // closed when it came
	done bool
}

func (l *logWatch) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done && bytes.Contains(line, []byte(l.word)) {
		l.done = true
		close(l.seen)
	}
	return len(line), nil
}

// The central database is away for longer than River's retries while attempts
// end, in every way. Their ends are written when it is back, once each.
func TestEndsOutliveTheCentralDatabase(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	env.Tenant("acme", "acme")
	ctx := context.Background()
	began, free := make(chan string, 8), make(chan struct{})
	watch := &logWatch{word: "the ends of attempts were given up", seen: make(chan struct{})}
	cfg := env.Config()
	cfg.Logger = lockedLogger(watch)
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Ending]) error {
			select {
			case <-free:
			default:
				began <- job.UID
				<-free
			}
			return end(ctx, tx, job)
		})
	})
	ends := map[string]string{"": "succeeded", "error": "failed failed discarded", "cancel": "cancelled", "snooze once": "", "panic": "failed failed discarded"}
	uids := map[string]string{}
	for how := range ends {
		result, err := env.Client.Enqueue(ctx, "acme", Ending{How: how}, nil)
		require.NoError(t, err)
		uids[how] = result.UID
	}
	for range uids {
		receive(t, began)
	}
	root, err := pgx.Connect(ctx, jobstest.ServerURL(t, "postgres"))
	require.NoError(t, err)
	defer func() { _ = root.Close(ctx) }()
	central := pgx.Identifier{env.Pool.Config().ConnConfig.Database}.Sanitize()
	_, err = root.Exec(ctx, `ALTER DATABASE `+central+` ALLOW_CONNECTIONS false`)
	require.NoError(t, err)
	_, err = root.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, strings.Trim(central, `"`))
	require.NoError(t, err)
	close(free)
	receive(t, watch.seen)
	_, err = root.Exec(ctx, `ALTER DATABASE `+central+` ALLOW_CONNECTIONS true`)
	require.NoError(t, err)
	for how, uid := range uids {
		env.Wait(uid)
		attempts, err := env.Attempts(ctx, uid)
		require.NoError(t, err)
		var states []string
		for _, a := range attempts {
			states = append(states, string(a.State))
		}
		if want := ends[how]; want != "" {
			require.Equal(t, want, strings.Join(states, " "), how)
		}
	}
	var rows int
	require.NoError(t, db.Pool.QueryRow(ctx, `SELECT count(*) FROM transfers`).Scan(&rows))
	require.Equal(t, 2, rows, "effects")
	var running int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT count(*) FROM river_job WHERE finalized_at IS NULL`).Scan(&running))
	require.Zero(t, running, fmt.Sprint("of ", len(uids)))
}
