package migrations_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/migrations"
)

// What a later version of River makes goes to the queue's schema, whatever comes first in the
// search_path: of a login that is called headgate it is schema headgate.
func TestRiversTablesStayTogether(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	conn := empty(t)()
	_, err := migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
	back, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		//nolint:staticcheck // deprecated for batches; steps back in one transaction are what is wanted
		_, err := back.MigrateTx(ctx, tx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: 6})
		return err
	}))
	_, err = conn.Exec(ctx, `SET search_path = headgate, public`)
	require.NoError(t, err)
	applied, err := migrations.Up(ctx, conn, nil)
	require.NoError(t, err)
	require.Contains(t, applied, "river_007")
	var schema string
	require.NoError(t, conn.QueryRow(ctx, `SELECT string_agg(DISTINCT relnamespace::regnamespace::text, ' ') FROM pg_class WHERE relname ~ '^river_' AND relkind = 'r'`).Scan(&schema))
	require.Equal(t, "public", schema)
}

// A River client takes what RiverSchema gives for the name of a schema.
func TestRiverSchema(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]bool{
		"public": true, "App_2": true, strings.Repeat("a", 46): true, strings.Repeat("a", 47): false, "my app": false, "2nd": false, "": false,
	} {
		told := migrations.RiverSchema(name)
		require.Equal(t, taken, told == name && name != "", name)
		_, err := river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: told})
		require.NoError(t, err, name)
		_, err = river.NewClient(riverpgxv5.New(nil), &river.Config{Schema: name})
		require.Equal(t, taken || name == "", err == nil, "River on %q: %v", name, err)
	}
}
