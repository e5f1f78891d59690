package migrations_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// An infinite time, which no program could read, is refused where it is written. What was
// there before becomes what it means.
func TestInfiniteTimesAreRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env := jobstest.New(t)
	env.Database("db", jobstest.DatabaseOpts{})
	env.Tenant("acme", "db")
	conn, err := env.Pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	run(t, conn.Conn(), `INSERT INTO headgate.pauses (scope, target, until) VALUES ('kind', 'endless', NULL), ('kind', 'over', now()), ('kind', 'new', now())`)

	writes := []string{
		`UPDATE headgate.pauses SET until = 'infinity' WHERE target = 'endless'`,
		`UPDATE headgate.pauses SET until = '-infinity' WHERE target = 'over'`,
		`UPDATE headgate.pauses SET since = '-infinity' WHERE target = 'new'`,
		`UPDATE headgate.servers SET created_at = 'infinity'`,
		`UPDATE headgate.databases SET created_at = '-infinity'`,
		`UPDATE headgate.tenants SET created_at = 'infinity'`,
	}
	for _, sql := range writes {
		_, err := conn.Exec(ctx, sql)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, sql)
		require.Equal(t, "23514", refused.Code, sql)
	}

	for _, table := range []string{"pauses", "servers", "databases", "tenants"} {
		run(t, conn.Conn(), `ALTER TABLE headgate.`+table+` DROP CONSTRAINT `+table+`_times_are_finite`)
	}
	for _, sql := range writes {
		run(t, conn.Conn(), sql)
	}
	migration, err := os.ReadFile("central/0044_finite_times.sql")
	require.NoError(t, err)
	run(t, conn.Conn(), string(migration))
	require.Equal(t, []string{"endless: NULL", "new: later", "over: past"}, value[[]string](t, conn.Conn(), `
SELECT array_agg(target || ': ' || CASE WHEN until IS NULL THEN 'NULL' WHEN until < '2000-01-01' THEN 'past' ELSE 'later' END ORDER BY target)
FROM headgate.pauses WHERE isfinite(since)`))
	for _, sql := range writes {
		_, err := conn.Exec(ctx, sql)
		require.Error(t, err, sql)
	}
}
