package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/migrations"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	_, address := emptyDatabase(t)
	c := newCLI(t, address)

	golden(t, "migrate_status_none", c.ok("migrate", "status", "-o", "json"))
	c.fails(cli.ExitSchema, []string{"tenant", "list"}, "has no Headgate schema", "headgate migrate up")

	first := c.run("migrate", "up")
	require.Zero(t, first.code, first.err)
	require.Contains(t, first.out, "applied river_001\n")
	require.Contains(t, first.out, "applied 0001_catalog\n")
	central, _ := migrations.Versions()
	require.Equal(t, central, strings.Count(first.out, "applied 0"))

	second := c.run("migrate", "up")
	require.Zero(t, second.code, second.err)
	require.Empty(t, second.out)
	require.Contains(t, second.err, "already current")

	require.JSONEq(t, `{"applied": [], "version": `+cli.Plain(central)+`}`, c.ok("migrate", "up", "-o", "json"))
	golden(t, "migrate_status_current", c.ok("migrate", "status", "-o", "json"))
}

// Of eight that start at once one applies, and all succeed.
func TestMigrateEightAtOnce(t *testing.T) {
	t.Parallel()
	_, address := emptyDatabase(t)
	c := newCLI(t, address)
	results := make([]result, 8)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i] = c.run("migrate", "up", "-o", "json") })
	}
	all.Wait()
	applied := 0
	for _, r := range results {
		require.Equal(t, cli.ExitOK, r.code, r.err)
		var view migratedView
		require.NoError(t, json.Unmarshal([]byte(r.out), &view), r.out)
		if len(view.Applied) > 0 {
			applied++
		}
	}
	require.Equal(t, 1, applied)
}

// A program older or newer than the schema says which of the two is behind.
func TestSchemaMismatch(t *testing.T) {
	t.Parallel()
	central, _ := migrations.Versions()
	for _, test := range []struct {
		name, change, state string
		commands            []string
		says                []string
		codeOfUp            int
	}{
		{
			"schema behind", `DELETE FROM headgate.migrations WHERE version = (SELECT max(version) FROM headgate.migrations)`, "behind",
			[]string{"serve", "worker", "tenant list", "job list"}, []string{"run `headgate migrate up`"}, -1,
		},
		{
			"schema ahead and too new", `INSERT INTO headgate.migrations (version, name, serves) VALUES (` + cli.Plain(central+2) + `, 'later', ` + cli.Plain(central+2) + `)`, "unusable",
			[]string{"serve", "worker", "tenant list", "migrate up"}, []string{"upgrade headgate"}, cli.ExitSchema,
		},
		{
			"schema ahead and usable", `INSERT INTO headgate.migrations (version, name, serves) VALUES (` + cli.Plain(central+2) + `, 'later', 1)`, "ahead",
			nil, nil, cli.ExitOK,
		},
		{
			"no row left", `DELETE FROM headgate.migrations`, "none",
			[]string{"serve", "tenant list"}, []string{"has no Headgate schema"}, -1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, env := setup(t)
			admin(t, env.Pool.Config().ConnConfig.Database, test.change)
			for _, command := range test.commands {
				c.fails(cli.ExitSchema, strings.Fields(command), test.says...)
			}
			require.Contains(t, c.ok("migrate", "status", "-o", "json"), `"state": "`+test.state+`"`)
			if test.codeOfUp >= 0 {
				require.Equal(t, test.codeOfUp, c.run("migrate", "up").code)
			}
			if test.state == "ahead" {
				c.ok("tenant", "list")
			}
		})
	}
}

// Who holds the lock is told on stderr after a second, and again at the end.
func TestMigrateNamesWhoHoldsTheLock(t *testing.T) {
	t.Parallel()
	name, address := emptyDatabase(t)
	c := newCLI(t, address)
	held, release := make(chan int), make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		conn, err := pgx.Connect(context.Background(), jobstest.ServerURL(t, name))
		if err != nil {
			t.Errorf("connecting: %v", err)
			close(held)
			return
		}
		defer func() { _ = conn.Close(context.Background()) }()
		_, err = conn.Exec(context.Background(), `SELECT pg_advisory_lock(x'6865616467617465'::bigint)`)
		if err != nil {
			t.Errorf("locking: %v", err)
		}
		held <- int(conn.PgConn().PID())
		<-release
	})
	pid := <-held
	r := c.run("migrate", "up", "--wait", "1500ms")
	close(release)
	holding.Wait()
	require.Equal(t, cli.ExitTimeout, r.code, r.err)
	require.Contains(t, r.err, "headgate: waiting for the migration lock: held by pid "+cli.Plain(pid)+" (")
	require.Contains(t, r.err, "headgate: gave up after 1.5s of waiting for the migration lock: held by pid "+cli.Plain(pid)+" (")
	require.Contains(t, r.err, "SELECT pg_terminate_backend("+cli.Plain(pid)+")")
	require.NotContains(t, r.err, "was not done after")
	c.ok("migrate", "up")
	c.fails(cli.ExitUsage, []string{"migrate", "up", "--wait", "0"}, "--wait is 0s: give 1s or more")
}
