package schedule_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// A template that named a tenant by its slug ran for the next customer that got the slug.
func TestASlugThatATemplateNamesStays(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	editor := env.Catalog.Editor()
	_, url := env.RoleLogin("api")
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	for _, selector := range []string{"tenant = acme", "tenant in (zeta, acme)", "tenant = acme or plan = pro", "tenant != acme and plan = pro"} {
		setTemplate(t, env, schedule.TemplateParams{Name: "its-own", Select: selecting(t, selector), Spec: schedule.Spec{Cron: "@daily"}})
		_, err := editor.Rename(ctx, "acme", "crane")
		require.ErrorIs(t, err, catalog.ErrReferred, selector)
		require.ErrorContains(t, err, `template "its-own" names its slug, and would reach another tenant that gets the slug: `+"`headgate schedule edit its-own --template --select EXPR` has it name others first")
		_, err = editor.Remove(ctx, []string{"acme"}, nil)
		require.ErrorIs(t, err, catalog.ErrReferred, selector)
		for _, sql := range []string{`UPDATE headgate.tenants SET slug = 'crane' WHERE slug = 'acme'`, `UPDATE headgate.tenants SET status = 'removed' WHERE slug = 'acme'`} {
			_, err := conn.Exec(ctx, sql)
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr, sql)
			require.Equal(t, []string{"23503", "templates_name_tenants"}, []string{pgErr.Code, pgErr.ConstraintName}, sql)
		}
		_, err = editor.Rename(ctx, "brick", "brock") // which no template names
		require.NoError(t, err)
		_, err = editor.Rename(ctx, "brock", "brick")
		require.NoError(t, err)
	}
	setTemplate(t, env, schedule.TemplateParams{Name: "its-own", Select: selecting(t, "plan = pro and label.acme = x"), Spec: schedule.Spec{Cron: "@daily"}})
	_, err = editor.Rename(ctx, "acme", "crane")
	require.NoError(t, err)
}

// A label's value, a plan or a word of the grammar is no slug, whoever has one that is spelt so.
func TestOnlySlugsAreNamed(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	setTemplate(t, env, schedule.TemplateParams{Name: "words", Select: selecting(t, "not (tenant = acme or label.tier = gold) and plan != pro and tenant in (zeta, a-b)"), Spec: schedule.Spec{Cron: "@daily"}})
	rows, err := env.Pool.Query(context.Background(), `SELECT slug FROM headgate.named_slugs ORDER BY slug`)
	require.NoError(t, err)
	named, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"a-b", "acme", "zeta"}, named)
}

// A template that waits for a rename names a slug that nobody has, and the next customer might.
func TestATemplateThatWaitsForARenameIsRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	ctx := context.Background()
	renaming, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = renaming.Rollback(ctx) }()
	_, err = renaming.Exec(ctx, `UPDATE headgate.tenants SET slug = 'brock' WHERE slug = 'brick'`)
	require.NoError(t, err)
	stored := make(chan error, 1)
	go func() {
		_, err := env.Schedules.Templates.Set(ctx, schedule.TemplateParams{Name: "its-own", Select: selecting(t, "tenant = brick"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily"}})
		stored <- err
	}()
	waits(t, env, "headgate.fleets")
	require.NoError(t, renaming.Commit(ctx))
	require.ErrorContains(t, <-stored, "tenant brick, which the selector names, gave up its slug")
}

// Who renames a tenant, and who stores a template that names it, each read what the other
// writes: the second waits for the first.
func TestATemplateHoldsTheTenantsThatItNames(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]bool{"held": true, "the control": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.SetupDirect(t)
			ctx := context.Background()
			if !held {
				roomtest.Do(t, env, `ALTER TABLE headgate.fleets DISABLE TRIGGER hold_named`)
			}
			storing, err := env.Pool.Begin(ctx)
			require.NoError(t, err)
			defer func() { _ = storing.Rollback(ctx) }()
			_, err = env.Schedules.Templates.SetTx(ctx, storing, schedule.TemplateParams{Name: "its-own", Select: selecting(t, "tenant = brick and plan = pro"), Args: roomtest.Note{Text: "x"}, Spec: schedule.Spec{Cron: "@daily"}})
			require.NoError(t, err)
			renamed := make(chan error, 1)
			go func() {
				_, err := env.Catalog.Editor().Rename(ctx, "brick", "brock")
				renamed <- err
			}()
			if held {
				waits(t, env, "headgate.tenants")
				require.NoError(t, storing.Commit(ctx))
				require.ErrorIs(t, <-renamed, catalog.ErrReferred)
				return
			}
			require.NoError(t, <-renamed)
			require.NoError(t, storing.Commit(ctx))
			env.Tenant("brick", "shared") // the next customer
			roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 'brick'`)
			_ = pass(t, env)
			require.Len(t, rowsOf(t, env), 1)
		})
	}
}

// waits returns when a session waits for a lock in a statement about a table.
func waits(t *testing.T, env *jobstest.Env, table string) {
	t.Helper()
	const sql = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, $1) > 0`
	for roomtest.Count(t, env, sql, table) == 0 {
		require.NoError(t, t.Context().Err())
	}
}
