//go:build faults

package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Passwords and addresses change while jobs run, in two processes' worth of
// workers that know it from the catalog alone: no job fails and none uses an
// attempt, and nobody goes to an old address two seconds later.
func TestFaultsRotation(t *testing.T) {
	t.Parallel()
	rotations := 6
	if testing.Short() {
		rotations = 2
	}
	ctx := context.Background()
	env := jobstest.New(t)
	server := startPostgres(t, localpg.Config{})
	wires := map[int]*proxy{} // by the rotation that leads there
	for i := 1; i < rotations; i += 2 {
		wires[i] = newProxy(t, server.URL(""), nil)
	}
	at := newProxy(t, server.URL(""), nil)
	on := &jobstest.Postgres{Name: "rotating", URL: server.URL, Via: at.port}
	db := env.Database("rotating", jobstest.DatabaseOpts{Kind: "shared", Schema: touched, On: on})
	tenants := []string{env.Tenant("a", "rotating").Slug, env.Tenant("b", "rotating").Slug}
	for range 2 {
		ring, err := catalog.NewKeyRing(address.NewSecret(env.Key))
		require.NoError(t, err)
		own := catalog.New(env.Pool, ring)
		listener := catalog.NewListener(own, catalog.ListenerConfig{Logger: quietLogger()})
		require.NoError(t, listener.Start(context.Background()))
		t.Cleanup(func() { require.NoError(t, listener.Stop(context.Background())) })
		cfg := withQueue(env.Config(), "default")
		cfg.Queues["default"], cfg.Logger, cfg.Resolver = 8, quietLogger(), own
		env.Work(&cfg, func(w *worker.Worker) { worker.InTx(w, touch) })
	}
	login, late, ended, refused := db.Job, int64(0), 0, 0
	rotate := func(i int) error {
		old, former := at, login.Password
		login.Password = address.NewSecret(fmt.Sprintf("planted-rotated-%d", i))
		if i%2 == 1 {
			at = wires[i]
			login.Port = at.port
		}
		conn, err := pgx.Connect(ctx, server.URL(""))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, fmt.Sprintf(`ALTER ROLE %s PASSWORD '%s'`, login.User, login.Password.Reveal())); err != nil {
			return err
		}
		tag, err := conn.Exec(ctx, fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '%s'`, login.User))
		if err != nil {
			return err
		}
		ended += int(tag.RowsAffected())
		// The control: who still went by the former password would have failed.
		stale := conn.Config().Copy()
		stale.User, stale.Password = login.User, former.Reveal()
		if conn, err := pgx.ConnectConfig(ctx, stale); err == nil {
			_ = conn.Close(ctx)
		} else if pgErr := new(pgconn.PgError); errors.As(err, &pgErr) && pgErr.Code == "28P01" {
			refused++
		}
		if err := env.Catalog.Logins().Set(ctx, "rotating", jobs.LoginJob, login); err != nil {
			return err
		}
		<-time.After(2 * time.Second)
		if old != at {
			before := old.accepted.Load()
			<-time.After(time.Second)
			late += old.accepted.Load() - before
			old.cutAll()
		}
		return nil
	}
	rotated := make(chan error, 1)
	go func() {
		for i := range rotations {
			<-time.After(time.Second)
			if err := rotate(i); err != nil {
				rotated <- err
				return
			}
		}
		rotated <- nil
	}()
	flow := newFlow(env)
	flow.run(t, time.Duration(rotations)*4*time.Second, tenants, 50, nil, 0)
	require.NoError(t, <-rotated)
	var outcomes, used, failed int
	var classes []string
	require.NoError(t, env.Pool.QueryRow(ctx, `
SELECT count(*), count(*) FILTER (WHERE attempt > 1), count(*) FILTER (WHERE state NOT IN ('succeeded', 'snoozed')),
       coalesce(array_agg(DISTINCT class) FILTER (WHERE class <> ''), '{}') FROM headgate.outcomes`).Scan(&outcomes, &used, &failed, &classes))
	t.Logf("%d rotations under %d jobs, %d attempts: %d failed, %d attempts used; %d sessions ended, jobs held for %v; %d connections to an old address later than 2 s",
		rotations, flow.total(tenants), outcomes, failed, used, ended, classes, late)
	require.Zero(t, failed)
	require.Zero(t, used)
	require.Zero(t, late)
	require.GreaterOrEqual(t, ended, rotations, "rotations that ended no session")
	require.Equal(t, rotations, refused, "former passwords that were refused")
}
