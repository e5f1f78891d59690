package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/doctor"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
)

// becomes looks until doctor's finding on the job login is in a state.
func (a *adviser) becomes(state string) (found doctor.Finding) {
	a.t.Helper()
	code := map[string]int{doctor.StateOK: cli.ExitOK, doctor.StateFail: cli.ExitFailed}[state]
	require.Eventually(a.t, func() bool {
		r := a.run("doctor", "-o", "json")
		if r.code != code {
			return false
		}
		found = finds(a.t, examined(a.t, a.commandLine, code), "database busy", "job login", state)
		return true
	}, 2*time.Minute, 50*time.Millisecond)
	return found
}

// occupies is a job that keeps its connection until the test lets go.
type occupies struct{}

func (occupies) Kind() string { return "occupies" }

// Of a server that Headgate's own workers have filled, doctor says to give Headgate fewer
// connections. With the smaller budget workers give back what they do not use.
func TestWhatDoctorAdvisesOfAFullServerHelps(t *testing.T) {
	t.Parallel()
	a := newAdviser(t)
	server, err := localpg.Start(t.Context(), localpg.Config{MaxConnections: 14})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	a.env.Database("busy", jobstest.DatabaseOpts{On: &jobstest.Postgres{Name: "own", URL: server.URL}})
	a.ok("tenant", "add", "bolt", "--database", "busy")
	let := make(chan struct{})
	cfg := a.env.Config()
	cfg.Queues = map[string]int{"default": 20}
	a.env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(ctx context.Context, _ pgx.Tx, _ *jobs.Job[occupies]) error {
			select {
			case <-let:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range 20 {
		_, err := a.env.Client.Enqueue(t.Context(), "bolt", occupies{}, nil)
		require.NoError(t, err)
	}
	told := a.becomes(doctor.StateFail)
	require.Contains(t, told.Says, "SQLSTATE 53300")
	advised := command(t, told.Next)
	require.Equal(t, []string{"server", "set", "own", "--budget", "100"}, advised)
	a.ok("server", "set", "own", "--budget", "4")
	close(let)
	a.becomes(doctor.StateOK)
}
