package tenantsync_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/jobs/tenantsync"
)

// A view's functions run with the rights of who reads it. The owner's login may be a member of
// the application's role, and that is not enough: the view must be the login's own.
func TestAViewOfTheApplicationIsNotReadWithTheOwnersRights(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	saas := env.Database("saas", jobstest.DatabaseOpts{Kind: "dedicated", Schema: schema})
	work(env, func(context.Context, *jobs.Job[tenantsync.Args], tenantsync.Rows) (jobs.Result, error) {
		return jobs.Result{}, nil
	})
	app := pgx.Identifier{saas.Owner.User + "_app"}.Sanitize()
	do := func(sql string) {
		_, err := saas.Pool.Exec(context.Background(), sql)
		require.NoError(t, err, sql)
	}
	do(`CREATE ROLE ` + app + `; GRANT ` + app + ` TO ` + pgx.Identifier{saas.Owner.User}.Sanitize() + `; GRANT ALL ON SCHEMA public TO ` + app)
	t.Cleanup(func() {
		do(`REASSIGN OWNED BY ` + app + ` TO ` + pgx.Identifier{saas.Owner.User}.Sanitize())
		do(`DROP OWNED BY ` + app)
		do(`DROP ROLE ` + app)
	})
	do(`ALTER TABLE accounts OWNER TO ` + app)
	require.Equal(t, jobs.Succeeded, env.Wait(enqueue(t, env)).State, "the control: the view is the owner's own")
	do(`ALTER VIEW tenants OWNER TO ` + app)
	end := env.Wait(enqueue(t, env))
	require.NotEqual(t, jobs.Succeeded, end.State)
	require.Contains(t, end.Message, "its functions would run with the rights of the owner's login")
}
