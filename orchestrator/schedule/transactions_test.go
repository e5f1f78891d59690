package schedule_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// Every transaction of the central side is begun by package central, which limits
// it. What is allowed beside is a savepoint in a variable named tx.
func TestTransactionsAreBegunInOnePlace(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, dir := range []string{".", "..", "../catalog"} {
		names, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			wrong, begun := begins(t, name, string(text))
			require.Empty(t, wrong, "begin it by central.Write, WriteWithin, Read or Begin")
			seen += begun
		}
	}
	require.Greater(t, seen, 25, "the transactions that are there are found")

	for _, call := range []string{"c.pool.Begin(ctx)", "conn.BeginTx(ctx, pgx.TxOptions{})", "pgx.BeginFunc(ctx, c.pool, do)", "pgx.BeginTxFunc(ctx, db, pgx.TxOptions{}, do)"} {
		wrong, _ := begins(t, "bad.go", "package bad\nfunc f() { "+call+" }")
		require.NotEmpty(t, wrong, call)
	}
}

// begins returns the places where a transaction is begun otherwise, and how many
// are begun as they should.
func begins(t *testing.T, name, text string) (wrong []string, right int) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, _ := fun.X.(*ast.Ident)
		switch {
		case of != nil && of.Name == "central":
			if fun.Sel.Name != "IsLockTimeout" && fun.Sel.Name != "HasCode" {
				right++
			}
		case strings.HasPrefix(fun.Sel.Name, "Begin"):
			arg, _ := call.Args[min(1, len(call.Args)-1)].(*ast.Ident)
			if fun.Sel.Name == "BeginFunc" && arg != nil && arg.Name == "tx" {
				return true
			}
			wrong = append(wrong, set.Position(call.Pos()).String())
		}
		return true
	})
	return wrong, right
}

// A person's call that waits for a lock says so after seconds, and changes
// nothing; the process that holds the lock and has stopped is ended by the server.
func TestALockIsWaitedForAFewSeconds(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	create(t, env, "acme", "nightly", "@daily")
	frozen, err := central.Begin(ctx, env.Pool, central.Limits{Idle: time.Hour, Lock: time.Second}) // an application's own, without a limit
	require.NoError(t, err)
	defer func() { _ = frozen.Rollback(ctx) }()
	_, err = frozen.Exec(ctx, `SELECT FROM headgate.schedules FOR UPDATE`)
	require.NoError(t, err)
	err = env.Schedules.Pause(ctx, of("acme", "nightly"), nil)
	require.ErrorContains(t, err, "another transaction has kept what this one needs for more than 8s")
}

// Whoever stops between two statements of a transaction of ours holds its locks
// for seconds: the others go on. What stops is played by a session that has executed
// the same statements and then says nothing more.
func TestWhoStopsHoldsNobodyForLong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits central.Limits
		sql    []string
		others func(ctx context.Context, env *jobstest.Env) error
	}{
		"in SetTemplate": {central.Patience, []string{schedule.LockTemplates}, func(ctx context.Context, env *jobstest.Env) error {
			return env.Schedules.Templates.Delete(ctx, "everybody", schedule.TemplateDeletion{})
		}},
		"in enqueue, with a key": {
			central.Patience,
			[]string{`INSERT INTO headgate.idempotency_keys (scope, key, kind, args_hash, fields, job_uid) SELECT id, 'k', 'note', '\x00', '{}', gen_random_uuid() FROM headgate.tenants WHERE slug = 'acme'`},
			func(ctx context.Context, env *jobstest.Env) error {
				_, err := env.Client.Enqueue(ctx, "acme", roomtest.Note{Text: "x"}, &jobs.EnqueueOpts{IdempotencyKey: "k"})
				return err
			},
		},
		"in AddTenant": {central.Patience, []string{`UPDATE headgate.org_ids SET highest = highest + 1`}, func(ctx context.Context, env *jobstest.Env) error {
			_, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: "late", Name: "late", Database: "shared"})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.Setup(t)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			setTemplate(t, env, schedule.TemplateParams{Name: "everybody", Select: selecting(t, "all"), Spec: schedule.Spec{Cron: "@daily"}})
			tx, err := central.Begin(ctx, env.Pool, c.limits)
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(ctx) }()
			for _, sql := range c.sql {
				_, err := tx.Exec(ctx, sql)
				require.NoError(t, err)
			}
			require.NoError(t, c.others(ctx, env))
		})
	}
}

// A transaction of ours is what it says, whatever the session's defaults are.
func TestTransactionsStateWhatTheyAre(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, env.Pool.Config().ConnString())
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `
SET default_transaction_isolation = 'serializable'; SET default_transaction_read_only = on;
SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0`)
	require.NoError(t, err)
	said := func(tx pgx.Tx) (all [4]string) {
		require.NoError(t, tx.QueryRow(ctx, `
SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')`,
		).Scan(&all[0], &all[1], &all[2], &all[3]))
		return all
	}
	require.NoError(t, central.Write(ctx, conn, func(tx pgx.Tx) error {
		require.Equal(t, [4]string{"read committed", "off", "5s", "8s"}, said(tx))
		return nil
	}))
	require.NoError(t, central.Read(ctx, conn, func(tx pgx.Tx) error {
		require.Equal(t, [4]string{"repeatable read", "on", "5s", "8s"}, said(tx))
		return nil
	}))
	var after string
	require.NoError(t, conn.QueryRow(ctx, `SELECT current_setting('lock_timeout')`).Scan(&after))
	require.Equal(t, "0", after, "the limits end with their transaction")
}
