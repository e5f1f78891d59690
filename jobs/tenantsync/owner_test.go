package tenantsync_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest/impostor"
	"github.com/headgate/headgate/jobs/tenantsync"
)

// The application put a view in the table's place between the look and the reading, and a
// function of the application ran with the rights of the owner's login.
func TestAViewThatTakesTheTablesPlaceIsNotRead(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	app := impostor.New(t, saas.Pool, saas.Owner.User, "public.accounts")
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		return result, rows.Each(ctx, func([]byte) error { result.Rows++; return nil })
	})
	begin := func() string {
		r, err := env.Client.EnqueueDatabase(t.Context(), "saas", tenantsync.Args{Table: "public.accounts"}, &jobs.EnqueueOpts{MaxAttempts: 1})
		require.NoError(t, err)
		return r.UID
	}
	app.Swap()
	uid := begin()
	app.Commit()
	last := env.Wait(uid)
	require.NotEqual(t, jobs.Succeeded, last.State)
	require.Contains(t, last.Message, `"public"."accounts" is no table and belongs to role `)
	app.Back()
	last = env.Wait(begin())
	require.Equal(t, jobs.Succeeded, last.State, last.Message)
	require.EqualValues(t, 2500, last.Result.Rows)

	// the control: the order of old, a look and then the name
	cfg := saas.Pool.Config().ConnConfig.Copy()
	cfg.User, cfg.Password, cfg.Fallbacks = saas.Owner.User, saas.Owner.Password.Reveal(), nil
	owner, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer func() { _ = owner.Close(context.Background()) }()
	_, err = owner.Exec(t.Context(), `BEGIN READ ONLY; SELECT relkind FROM pg_class WHERE oid = 'public.accounts'::regclass`)
	require.NoError(t, err)
	app.Swap()
	ended := make(chan error, 1)
	go func() {
		_, err := owner.Exec(context.Background(), `SELECT to_jsonb(q)::text FROM public.accounts AS q`)
		ended <- err
	}()
	app.Commit()
	require.ErrorContains(t, <-ended, "ran as "+saas.Owner.User)
}

// A cast to json that came after the look ran with the rights of the owner's login, because a
// row is read as an object of JSON.
func TestATypeOfTheApplicationIsNotRead(t *testing.T) {
	t.Parallel()
	env, saas := setup(t)
	app := impostor.New(t, saas.Pool, saas.Owner.User, "public.accounts")
	work(env, func(ctx context.Context, _ *jobs.Job[tenantsync.Args], rows tenantsync.Rows) (result jobs.Result, err error) {
		app.Do(`CREATE FUNCTION told(mood) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json WHERE public.spy(1) $$; CREATE CAST (mood AS json) WITH FUNCTION told(mood)`)
		return result, rows.Each(ctx, func([]byte) error { return nil })
	})
	app.Do(`CREATE TYPE mood AS ENUM ('fine'); ALTER TABLE accounts ADD COLUMN more mood DEFAULT 'fine'`)
	r, err := env.Client.EnqueueDatabase(t.Context(), "saas", tenantsync.Args{Table: "public.accounts"}, &jobs.EnqueueOpts{MaxAttempts: 1})
	require.NoError(t, err)
	last := env.Wait(r.UID)
	require.Contains(t, last.Message, `"public"."accounts" has column more of type public.mood`)
	app.Do(`CREATE FUNCTION told(mood) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json WHERE public.spy(1) $$; CREATE CAST (mood AS json) WITH FUNCTION told(mood)`)
	app.Admin(`SET ROLE ` + pgx.Identifier{saas.Owner.User}.Sanitize() + `; SELECT to_jsonb(q)::text FROM public.accounts AS q; RESET ROLE`)
	require.Equal(t, []string{saas.Owner.User}, app.Ran(), "the control")
}
