//go:build faults

package worker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// A job that says that it has begun, and goes on when it is told to: in a transaction,
// reading, outside of one, and in steps. By its server's clock it lasts for hours.
type (
	Lasting        struct{ Transfer }
	LastingReading struct{}
	LastingOutside struct{}
	LastingSteps   struct{}
)

func (Lasting) Kind() string        { return "lasting" }
func (LastingReading) Kind() string { return "lasting-reading" }
func (LastingOutside) Kind() string { return "lasting-outside" }
func (LastingSteps) Kind() string   { return "lasting-steps" }

var lastsFor = jobs.KindOpts{MaxAttempts: 1, Timeout: 6 * time.Hour, IdleTimeout: 6 * time.Hour}

func lasts(as jobs.Idempotence) jobs.KindOpts {
	o := lastsFor
	o.Idempotence = as
	return o
}

func (Lasting) KindOpts() jobs.KindOpts        { return lastsFor }
func (LastingReading) KindOpts() jobs.KindOpts { return lastsFor }
func (LastingOutside) KindOpts() jobs.KindOpts { return lasts(jobs.Unsafe) }
func (LastingSteps) KindOpts() jobs.KindOpts   { return lasts(jobs.Chunked) }

// setClock is a clock of a server that can be set while the server runs.
type setClock struct {
	t    *testing.T
	file string
}

func (c setClock) set(ahead time.Duration) {
	c.t.Helper()
	next := c.file + ".next"
	require.NoError(c.t, os.WriteFile(next, fmt.Appendf(nil, "%+d\n", int(ahead.Seconds())), 0o644)) // Postgres's account reads it
	require.NoError(c.t, os.Rename(next, c.file))
}

const preloaded = `#!/bin/sh
exec env LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 %s/postgres "$@"
`

// startWithClock starts a Postgres whose every look at the time goes through libfaketime.
func startWithClock(t *testing.T, ahead time.Duration) (*localpg.Server, setClock) {
	t.Helper()
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	require.NoError(t, err)
	require.NotEmpty(t, libraries, "missing: libfaketime (Debian: apt-get install libfaketime)")
	real, err := localpg.FindBinaries(context.Background(), localpg.Config{})
	require.NoError(t, err)
	dir := openTempDir(t)
	c := setClock{t, filepath.Join(dir, "clock")}
	c.set(ahead)
	script := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)) // Postgres's account runs it
	}
	script("initdb", fmt.Sprintf("#!/bin/sh\nexec %s/initdb \"$@\"\n", real))
	script("postgres", fmt.Sprintf(preloaded, libraries[0], c.file, real))
	t.Setenv("PG_BINDIR", dir)
	return startPostgres(t, localpg.Config{Memory: true}), c
}

// A worker and a tenant's server whose clocks are two hours apart work together, whichever
// is ahead. A clock that is set while a job runs makes the job last for hours, or end before
// it began: it succeeds, by its one attempt. So do the jobs on connections from before.
func TestFaultsClocksTwoHoursApart(t *testing.T) { //nolint:paralleltest // it sets an environment variable
	for _, ahead := range []time.Duration{2 * time.Hour, -2 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) { //nolint:paralleltest // it sets an environment variable
			server, clock := startWithClock(t, ahead)
			env := jobstest.New(t)
			db := env.Database("acme", jobstest.DatabaseOpts{Schema: schema, On: onServer("elsewhen", server)})
			acme := env.Tenant("acme", "acme")
			open(t, db, acme.OrgID, 10)
			apart := func() (d time.Duration) {
				var there time.Time
				require.NoError(t, db.Pool.QueryRow(context.Background(), `SELECT clock_timestamp()`).Scan(&there))
				return time.Until(there)
			}
			require.InDelta(t, ahead, apart(), float64(time.Minute), "the clock is not what it is meant to be")

			began, goOn := make(chan struct{}), make(chan struct{})
			last := func(ctx context.Context) error {
				began <- struct{}{}
				select {
				case <-goOn:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			cfg := env.Config()
			cfg.Tenants.IdleTimeout = 10 * time.Minute // connections stay, with the clock that they knew
			w := env.Work(&cfg, func(w *worker.Worker) {
				worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[Lasting]) error {
					if err := last(ctx); err != nil {
						return err
					}
					return transfer(ctx, tx, &jobs.Job[Transfer]{Info: job.Info, Args: job.Args.Transfer})
				})
				worker.ReadOnly(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[LastingReading]) error { return last(ctx) })
				worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, _ *jobs.Job[LastingOutside]) error { return last(ctx) })
				worker.OnConn(w, func(ctx context.Context, _ *pgx.Conn, job *jobs.Job[LastingSteps]) error {
					for i := range 2 {
						err := job.Step(ctx, fmt.Sprint(i), func(ctx context.Context, tx pgx.Tx) error { return last(ctx) })
						if err != nil {
							return err
						}
					}
					return nil
				})
			})
			now := ahead
			run := func(args jobs.Args, parts int, jump time.Duration) {
				t.Helper()
				result, err := env.Client.Enqueue(context.Background(), "acme", args, nil)
				require.NoError(t, err)
				for range parts {
					<-began
					now += jump
					clock.set(now)
					goOn <- struct{}{}
				}
				got := env.Wait(result.UID)
				require.Equal(t, jobs.Succeeded, got.State, "%s, %s: %s", args.Kind(), jump, got.Message)
				require.Equal(t, 1, got.Attempt)
				all, err := env.Attempts(context.Background(), result.UID)
				require.NoError(t, err)
				require.Len(t, all, 1, "%s, %s", args.Kind(), jump)
			}
			for _, jump := range []time.Duration{0, 2 * time.Hour, -2 * time.Hour, 0} {
				run(Lasting{Transfer{From: 1, To: 2, Amount: 1}}, 1, jump)
				run(LastingReading{}, 1, jump)
				run(LastingOutside{}, 1, jump)
				run(LastingSteps{}, 2, jump)
			}
			require.InDelta(t, ahead, apart(), float64(time.Minute))
			require.LessOrEqual(t, w.Connects("elsewhen"), int64(2), "each job had a connection that knew the right time")
		})
	}
}
