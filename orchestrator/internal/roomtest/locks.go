package roomtest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
)

// Locked holds what sql locks until the test releases it.
func Locked(t *testing.T, env *jobstest.Env, sql string, args ...any) (release func()) {
	t.Helper()
	tx, err := env.Pool.Begin(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // of a test that fails before
	_, err = tx.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(context.Background())) }
}

// OnInsert lets Postgres do something before each row that goes into the queue.
func OnInsert(t *testing.T, env *jobstest.Env, body string) {
	t.Helper()
	Do(t, env, `CREATE OR REPLACE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+body+` RETURN NEW; END $$`)
	Do(t, env, `DROP TRIGGER IF EXISTS on_insert ON river_job`)
	Do(t, env, `CREATE TRIGGER on_insert BEFORE INSERT ON river_job FOR EACH ROW EXECUTE FUNCTION on_insert()`)
}
