package worker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker"
)

// A handler of any form, and the code around it, asks for features. What it was answered is
// kept with the attempt, and stays the same during the attempt.
func TestFeaturesOfAnAttempt(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	ctx := t.Context()
	env.Database("acme", jobstest.DatabaseOpts{Schema: schema})
	acme := env.Tenant("acme", "acme")
	change := func(sql string) {
		_, err := env.Pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	change(`INSERT INTO headgate.features (name, type, default_value) VALUES ('beta', 'boolean', NULL), ('seats', 'number', '5'), ('skin', 'string', '"plain"')`)
	change(`UPDATE headgate.tenants SET features = '{"beta": true}'`)
	cfg := env.Config()
	cfg.Middleware = []worker.Middleware{func(ctx context.Context, job jobs.Info, next func(context.Context) error) error {
		job.Tenant.Feature("skin")
		return next(ctx)
	}}
	handled := func(job jobs.Info) error {
		before := job.Tenant.Feature("beta").Bool()
		change(`UPDATE headgate.tenants SET features = '{}'`)
		job.Result.Output = fmt.Sprint(before, job.Tenant.Feature("beta").Bool(), job.Tenant.Feature("seats").Number(0), job.Tenant.Feature("unknown").Exists())
		job.Tenant.Feature("No Name\x00")
		change(`UPDATE headgate.tenants SET features = '{"beta": true}'`)
		return nil
	}
	env.Work(&cfg, func(w *worker.Worker) {
		worker.InTx(w, func(_ context.Context, _ pgx.Tx, job *jobs.Job[Transfer]) error { return handled(job.Info) })
		worker.ReadOnly(w, func(_ context.Context, _ pgx.Tx, job *jobs.Job[Reads]) error { return handled(job.Info) })
		worker.OnConn(w, func(_ context.Context, _ *pgx.Conn, job *jobs.Job[again]) error { return handled(job.Info) })
		worker.NoConn(w, func(_ context.Context, job *jobs.Job[Sums]) error { return handled(job.Info) })
		worker.NoConn(w, func(context.Context, *jobs.Job[Silent]) error { return nil })
	})
	for _, args := range []jobs.Args{Transfer{}, Reads{}, again{}, Sums{}} {
		last := env.Run(acme.ID, args)
		require.Equal(t, jobs.Succeeded, last.State, args.Kind())
		if args.Kind() != (Reads{}).Kind() {
			require.Equal(t, "true true 5 false", last.Result.Output, args.Kind())
		}
		require.JSONEq(t, `{"beta": true, "seats": 5, "skin": "plain", "unknown": null}`, string(last.Features), args.Kind())
	}
	silent := env.Run(acme.ID, Silent{})
	require.JSONEq(t, `{"skin": "plain"}`, string(silent.Features), "the middleware has asked")
}

// Silent is a kind whose handler asks for nothing.
type Silent struct{}

func (Silent) Kind() string { return "silent" }
