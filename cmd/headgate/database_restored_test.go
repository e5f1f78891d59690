package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker"
)

// bill writes one row; order writes one and asks for a bill; look writes nothing.
type (
	bill  struct{ N int }
	order struct{ N int }
	look  struct{}
)

func (bill) Kind() string  { return "bill" }
func (order) Kind() string { return "order" }
func (look) Kind() string  { return "look" }

// restored is a database that can be set back to what it was.
type restored struct {
	*commandLine
	env  *jobstest.Env
	db   *jobstest.Database
	name string // on the server
	snap string
}

func newRestored(t *testing.T) *restored {
	t.Helper()
	c, env := setup(t)
	r := &restored{commandLine: c, env: env}
	r.db = env.Database("shop", jobstest.DatabaseOpts{Observed: "nobody is kept apart here", Schema: `
		CREATE TABLE effects (kind text, org bigint, n int); GRANT ALL ON effects TO PUBLIC`})
	require.NoError(t, r.db.Pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&r.name))
	r.snap = r.name + "_snap"
	t.Cleanup(func() { r.server("DROP DATABASE IF EXISTS " + r.snap + " WITH (FORCE)") })
	return r
}

// server runs a statement on the server, outside of the database.
func (r *restored) server(sql string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, jobstest.ServerURL(r.t, "postgres"))
	require.NoError(r.t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	for used := (*pgconn.PgError)(nil); errors.As(err, &used) && used.Code == "55006" && ctx.Err() == nil; { // a session that is just ending
		_, err = conn.Exec(ctx, sql)
	}
	require.NoError(r.t, err, sql)
}

// snapshot keeps the database as it is, and restore makes it that again. No worker runs.
func (r *restored) snapshot() {
	r.t.Helper()
	r.db.Pool.Reset()
	r.server(fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'", r.name))
	r.server("CREATE DATABASE " + r.snap + " TEMPLATE " + r.name)
}

func (r *restored) restore() {
	r.t.Helper()
	r.db.Pool.Reset()
	r.server("DROP DATABASE " + r.name + " WITH (FORCE)")
	r.server("CREATE DATABASE " + r.name + " TEMPLATE " + r.snap)
}

// while runs a worker until do has ended. Bills wait for held, if it is not nil.
func (r *restored) while(do func(), held <-chan struct{}) {
	r.t.Helper()
	insert := func(ctx context.Context, tx pgx.Tx, info jobs.Info, n int) error {
		_, err := tx.Exec(ctx, "INSERT INTO effects VALUES ($1, $2, $3)", info.Kind, info.Tenant.OrgID, n)
		return err
	}
	w, err := worker.New(r.env.Config())
	require.NoError(r.t, err)
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[bill]) error {
		if held != nil {
			<-held
		}
		return insert(ctx, tx, job.Info, job.Args.N)
	})
	worker.InTx(w, func(ctx context.Context, tx pgx.Tx, job *jobs.Job[order]) error {
		if err := job.Follow(bill{N: job.Args.N}, nil); err != nil {
			return err
		}
		return insert(ctx, tx, job.Info, job.Args.N)
	})
	worker.ReadOnly(w, func(context.Context, pgx.Tx, *jobs.Job[look]) error { return nil })
	require.NoError(r.t, w.Start(context.Background()))
	do()
	require.NoError(r.t, w.Stop(context.Background()))
}

func (r *restored) enqueue(tenant string, args jobs.Args) (uid string) {
	r.t.Helper()
	result, err := r.env.Client.Enqueue(context.Background(), tenant, args, nil)
	require.NoError(r.t, err)
	return result.UID
}

// settled waits until no job is left to do.
func (r *restored) settled() {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		var left int
		err := r.env.Pool.QueryRow(context.Background(), "SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&left)
		return err == nil && left == 0
	}, 2*time.Minute, 20*time.Millisecond)
}

// effects are the rows of jobs, as one text.
func (r *restored) effects() string {
	r.t.Helper()
	return ask(r.t, r.name, "SELECT string_agg(kind || ' ' || org || ' ' || n, ', ' ORDER BY kind, org, n) FROM effects")
}

func (r *restored) now() string {
	r.t.Helper()
	var at time.Time
	require.NoError(r.t, r.env.Pool.QueryRow(context.Background(), "SELECT clock_timestamp()").Scan(&at))
	return at.Format(time.RFC3339Nano)
}

type restoredKind struct {
	Kind      string
	Lost      int
	Begun     int `json:"begun_before"`
	Rerun     int
	FollowUps int `json:"follow_ups"`
	Gone      int
	Left      int `json:"to_rerun"`
}

// kinds are what the command lists.
func (r *restored) kinds(to string) (kinds []restoredKind) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal([]byte(r.ok("database", "restored", "shop", "--to", to, "-o", "json")), &kinds))
	return kinds
}

// A database is set back, and with it the effects of jobs that have succeeded since. The
// command names exactly these, and does them again exactly once, however often it is run.
func TestDatabaseRestored(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	r.env.Tenant("acme", "shop")
	r.env.Tenant("beta", "shop")
	r.while(func() {
		r.enqueue("acme", bill{1})
		r.enqueue("beta", order{2})
		r.settled()
	}, nil)
	before := r.effects()
	require.Equal(t, "bill 1 1, bill 2 2, order 2 2", before)
	r.snapshot()
	var to string
	held := make(chan struct{})
	r.while(func() {
		slow := r.enqueue("acme", bill{3})
		require.Eventually(t, func() bool {
			job, err := r.env.Client.Job(t.Context(), slow)
			return err == nil && job.State == jobs.Running
		}, time.Minute, 10*time.Millisecond)
		to = r.now()
		close(held)
		r.settled()
	}, held)
	r.while(func() {
		r.enqueue("acme", bill{4})
		r.enqueue("beta", order{5})
		r.enqueue("beta", look{})
		r.settled()
	}, nil)
	after := r.effects()
	require.Equal(t, "bill 1 1, bill 1 3, bill 1 4, bill 2 2, bill 2 5, order 2 2, order 2 5", after)
	require.Equal(t, []restoredKind{{Kind: "look", Lost: 1, Left: 1}}, r.kinds(to), "only what leaves no ledger row, as long as nothing is restored")

	r.restore()
	require.Equal(t, before, r.effects())
	r.while(func() {
		r.enqueue("acme", bill{6})
		r.settled()
	}, nil)
	want := []restoredKind{{Kind: "bill", Lost: 3, Begun: 1, FollowUps: 1, Left: 2}, {Kind: "look", Lost: 1, Left: 1}, {Kind: "order", Lost: 1, Left: 1}}
	require.Equal(t, want, r.kinds(to), "what ran after the restore is there")
	list := r.ok("database", "restored", "shop", "--to", to, "--jobs", "-o", "csv")
	require.Contains(t, list, "bill,acme,")
	require.Contains(t, list, "follow_up")
	table := r.run("database", "restored", "shop", "--to", to)
	require.Contains(t, table.err, "its ledger has 4 of them; 5 are lost, of which 0 ended within the margin")
	require.Equal(t, `KIND   LOST  BEGUN BEFORE  RERUN  FOLLOW UPS  GONE  TO RERUN
bill   3     1             0      1           0     2
look   1     0             0      0           0     1
order  1     0             0      0           0     1
`, table.out, "docs/operations.md shows it")
	again := "headgate database restored shop --to " + said(t, to)
	for _, next := range []string{"next: is the work of 2 jobs of kind bill to be done again? `" + again + " --rerun bill`\n", "next: is the work of 1 job of kind order to be done again? `" + again + " --rerun order`\n",
		"all kinds at once: `" + again + " --rerun-all`\n"} {
		require.Contains(t, table.err, next)
	}
	require.Contains(t, r.run("database", "restored", "shop", "--to", to, "--margin", "2m").err, again+" --margin 2m0s --rerun bill`", "the advice is about the same jobs")

	dry := r.run("database", "restored", "shop", "--to", to, "--rerun", "bill", "--rerun", "order", "--dry-run", "-o", "json")
	require.Contains(t, dry.err, "nothing was changed: a dry run; 3 jobs would be rerun")
	require.Equal(t, want, r.kinds(to))
	require.JSONEq(t, `[{"kind": "bill", "rerun": 2, "before": 0, "refused": 0}]`, r.ok("database", "restored", "shop", "--to", to, "--rerun", "bill", "-o", "json"))
	require.JSONEq(t, `[{"kind": "order", "rerun": 1, "before": 0, "refused": 0}]`, r.ok("database", "restored", "shop", "--to", to, "--rerun", "bill", "--rerun", "order", "-o", "json"))
	require.JSONEq(t, `[]`, r.ok("database", "restored", "shop", "--to", to, "--rerun", "order", "-o", "json"), "each once")
	r.while(r.settled, nil)
	require.Equal(t, "bill 1 1, bill 1 3, bill 1 4, bill 1 6, bill 2 2, bill 2 5, order 2 2, order 2 5", r.effects(), "each effect once, the bill of the order too")
	require.JSONEq(t, `[]`, r.ok("database", "restored", "shop", "--to", to, "--rerun", "bill", "--rerun", "order", "-o", "json"))
	require.Equal(t, []restoredKind{{Kind: "bill", Lost: 3, Begun: 1, Rerun: 2, FollowUps: 1}, {Kind: "look", Lost: 1, Left: 1}, {Kind: "order", Lost: 1, Rerun: 1}}, r.kinds(to))
}

// The command's own reruns are lost to a second restore like other jobs, and are done again
// once, and not beside the jobs that they stand for.
func TestDatabaseRestoredTwice(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	r.env.Tenant("acme", "shop")
	r.snapshot()
	to := r.now()
	r.while(func() { r.enqueue("acme", bill{1}); r.settled() }, nil)
	for range 2 {
		r.restore()
		require.Contains(t, r.ok("database", "restored", "shop", "--to", to, "--rerun-all", "-o", "json"), `"rerun": 1`)
		r.while(r.settled, nil)
		require.Equal(t, "bill 1 1", r.effects())
	}
	require.Equal(t, []restoredKind{{Kind: "bill", Lost: 2, Rerun: 2}}, r.kinds(to))
}

// What one tenant or one row refuses keeps no other job back, and the command goes on when it
// is run again.
func TestDatabaseRestoredGoesOn(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	for _, slug := range []string{"acme", "beta", "left"} {
		r.env.Tenant(slug, "shop")
	}
	r.env.Database("other", jobstest.DatabaseOpts{})
	r.snapshot()
	to := r.now()
	gone := ""
	r.while(func() {
		for n := range 60 {
			r.enqueue([]string{"acme", "beta"}[n%2], bill{n})
		}
		r.enqueue("left", bill{100})
		gone = r.enqueue("acme", look{})
		r.settled()
	}, nil)
	_, err := r.env.Pool.Exec(t.Context(), "DELETE FROM river_job WHERE id = $1", r.env.RowOf(gone))
	require.NoError(t, err)
	_, err = r.env.Pool.Exec(t.Context(), `
		ALTER TABLE headgate.tenants DISABLE TRIGGER begin_move;
		UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'other') WHERE slug = 'left';
		ALTER TABLE headgate.tenants ENABLE TRIGGER begin_move`)
	require.NoError(t, err)
	r.restore()
	require.Equal(t, []restoredKind{{Kind: "bill", Lost: 60, Left: 60}, {Kind: "look", Lost: 1, Gone: 1}}, r.kinds(to), "a tenant that has left has its data elsewhere")
	require.NoError(t, r.env.Catalog.SetStatus(t.Context(), "beta", catalog.Suspended))

	command := []string{"database", "restored", "shop", "--to", to, "--rerun-all"}
	r.fails(cli.ExitUsage, command, "database shop has lost 60 jobs; pass --confirm 60 (nothing was changed)")
	first := r.run(append(command, "--confirm", "60", "-o", "json")...)
	require.Equal(t, cli.ExitFailed, first.code, first.err)
	require.JSONEq(t, `[{"kind": "bill", "rerun": 30, "before": 0, "refused": 30}]`, first.out)
	require.Contains(t, first.err, "30 of 60 jobs were not rerun, the first 20 reasons are above")
	require.Contains(t, first.err, `tenant "beta" is suspended`)
	require.NoError(t, r.env.Catalog.SetStatus(t.Context(), "beta", catalog.Active))
	require.JSONEq(t, `[{"kind": "bill", "rerun": 30, "before": 0, "refused": 0}]`, r.ok(append(command, "-o", "json")...))
	r.while(r.settled, nil)
	require.Equal(t, "60 60", ask(t, r.name, "SELECT count(*) || ' ' || count(DISTINCT n) FROM effects"))
}

func TestDatabaseRestoredRefuses(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	r.env.Tenant("acme", "shop")
	r.snapshot()
	to := r.now()
	r.while(func() { r.enqueue("acme", bill{1}); r.settled() }, nil)
	r.restore()
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for _, c := range []struct {
		code int
		says string
		args []string
	}{
		{cli.ExitUsage, "it lies in the future", []string{"shop", "--to", at(time.Hour)}},
		{cli.ExitUsage, "give a time from", []string{"shop", "--to", at(-31 * 24 * time.Hour)}},
		{cli.ExitUsage, "yesterday", []string{"shop", "--to", "yesterday"}},
		{cli.ExitUsage, "--to", []string{"shop"}},
		{cli.ExitNotFound, `did you mean shop`, []string{"shp", "--to", to}},
		{cli.ExitUsage, `no lost job is of kind "bil"`, []string{"shop", "--to", to, "--rerun", "bil"}},
		{cli.ExitUsage, "exclude each other", []string{"shop", "--to", to, "--rerun", "bill", "--rerun-all"}},
		{cli.ExitUsage, "nothing is rerun: leave out --dry-run", []string{"shop", "--to", to, "--dry-run"}},
		{cli.ExitUsage, "--jobs lists and reruns nothing", []string{"shop", "--to", to, "--jobs", "--rerun-all"}},
		{cli.ExitUsage, "give 0s to 24h", []string{"shop", "--to", to, "--margin", "25h"}},
		{cli.ExitUsage, "give a time after", []string{"shop", "--to", to, "--until", at(-time.Hour)}},
	} {
		r.fails(c.code, append([]string{"database", "restored"}, c.args...), c.says)
	}
	require.Equal(t, []restoredKind{{Kind: "bill", Lost: 1, Left: 1}}, r.kinds(to))
}

// said is a time as commands write it.
func said(t *testing.T, at string) string {
	t.Helper()
	read, err := time.Parse(time.RFC3339Nano, at)
	require.NoError(t, err)
	return read.UTC().Format(time.RFC3339Nano)
}
