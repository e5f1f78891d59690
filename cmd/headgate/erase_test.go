package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog/importer"
	"github.com/headgate/headgate/worker"
)

// TestTenantErase is the way of docs/erasing.md: remove, count, erase, look.
func TestTenantErase(t *testing.T) {
	t.Parallel()
	c, env, db := shop(t, ``)
	c.ok("database", "protect", "shared-1", "--table", "orders")
	c.ok("database", "protect", "shared-1", "--table", "order_items", "--through", "order_id")
	cfg := env.Config()
	client, err := orchestrator.New(orchestrator.Config{Pool: cfg.Pool, Catalog: env.Catalog})
	require.NoError(t, err)
	env.Work(&cfg, func(w *worker.Worker) {
		kinds.Register(w, nil, kinds.Centre{Catalog: env.Catalog, Importer: importer.New(cfg.Pool, env.Catalog), Client: client})
	})

	c.fails(cli.ExitUsage, []string{"tenant", "erase", "acme"}, "cannot be undone", "--dry-run", "--yes")
	r := c.run("tenant", "erase", "acme", "--yes")
	require.NotEqual(t, cli.ExitOK, r.code)
	require.Contains(t, r.err, "acme is active, and only what was removed is erased: run `headgate tenant remove acme --yes` first")
	var counted, erased struct {
		JobUID string  `json:"job_uid"`
		State  string  `json:"job_state"`
		DoneAt *string `json:"done_at"`
		ID     string  `json:"tenant_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "erase", "acme", "--dry-run", "-o", "json")), &counted))
	require.Contains(t, env.Wait(counted.JobUID).Result.Output, `has 20 rows in 2 tables`)
	require.Equal(t, "20", ask(t, db.Job.Database, `SELECT count(*)::text FROM orders`))

	require.Contains(t, c.run("tenant", "remove", "acme", "--yes").err, "`headgate tenant erase "+counted.ID+" --yes` deletes them")
	r = c.run("tenant", "erase", "acme", "--yes")
	require.Contains(t, r.err, "a removed tenant has no slug any more")
	require.NoError(t, json.Unmarshal([]byte(c.ok("tenant", "erase", "1", "--reason", "request 17", "--yes", "-o", "json")), &erased))
	require.Equal(t, counted.ID, erased.ID)
	require.Contains(t, env.Wait(erased.JobUID).Result.Output, "public.order_items: 10")
	require.Equal(t, "2 10", ask(t, db.Job.Database, `SELECT string_agg(DISTINCT org_id::text, ' ') || ' ' || (SELECT count(*) FROM order_items) FROM orders`))

	r = c.run("tenant", "erase", counted.ID, "--yes")
	require.Equal(t, cli.ExitOK, r.code)
	require.Contains(t, r.err, "nothing to do: the tenant is erased")
	require.Contains(t, c.ok("tenant", "show", counted.ID), "by job "+erased.JobUID)
	audit := c.ok("audit", "list", "--tenant", counted.ID, "-o", "csv")
	require.Contains(t, audit, "erasure")
}

// A database that is restored to before an erasure has the tenant's rows again. The command
// that lists what is lost offered the erasure's rerun, which found the tenant erased.
func TestARestoredDatabaseIsErasedAgain(t *testing.T) {
	t.Parallel()
	c, env, db := shop(t, ``)
	c.ok("database", "protect", "shared-1", "--table", "orders")
	c.ok("database", "protect", "shared-1", "--table", "order_items", "--through", "order_id")
	cfg := env.Config()
	client, err := orchestrator.New(orchestrator.Config{Pool: cfg.Pool, Catalog: env.Catalog})
	require.NoError(t, err)
	env.Work(&cfg, func(w *worker.Worker) {
		kinds.Register(w, nil, kinds.Centre{Catalog: env.Catalog, Importer: importer.New(cfg.Pool, env.Catalog), Client: client})
	})
	inDatabase := func(sql string) {
		conn, err := pgx.Connect(t.Context(), jobstest.ServerURL(t, db.Job.Database))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	rows := func() string { return ask(t, db.Job.Database, `SELECT count(*) FROM orders WHERE org_id = 1`) }
	inDatabase(`CREATE SCHEMA backup; CREATE TABLE backup.orders AS TABLE orders; CREATE TABLE backup.ledger AS TABLE headgate.ledger`)
	to := time.Now().UTC().Format(time.RFC3339Nano)
	c.ok("tenant", "remove", "acme", "--yes")
	var erased struct {
		ID  string `json:"tenant_id"`
		Job string `json:"job_uid"`
	}
	erase := func(args ...string) {
		require.NoError(t, json.Unmarshal([]byte(c.ok(append(args, "-o", "json")...)), &erased))
		require.Equal(t, jobs.Succeeded, env.Wait(erased.Job).State)
		require.Equal(t, "0", rows())
	}
	erase("tenant", "erase", "1", "--yes")
	list := []string{"database", "restored", "shared-1", "--to", to, "--margin", "0s"}
	r := c.run(list...)
	require.NotContains(t, r.err, "was erased", "the control: nothing is lost")

	inDatabase(`INSERT INTO orders SELECT * FROM backup.orders WHERE org_id = 1; TRUNCATE headgate.ledger; INSERT INTO headgate.ledger SELECT * FROM backup.ledger`)
	require.Equal(t, "10", rows())
	r = c.run(list...)
	require.Zero(t, r.code, r.err)
	require.NotContains(t, r.err, "--rerun")
	advised := "headgate tenant erase " + erased.ID + " --again --yes"
	require.Equal(t, []string{advised}, printed(r.err))
	require.Contains(t, c.run("tenant", "erase", erased.ID, "--yes").err, "nothing to do: the tenant is erased")
	erase(strings.Fields(advised)[1:]...)
	require.Empty(t, printed(c.run(list...).err))
}
