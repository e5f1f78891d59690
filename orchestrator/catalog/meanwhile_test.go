package catalog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// behind runs before in a transaction, then change, which must wait for the transaction; then
// the transaction commits. It returns the error of change.
func behind(t *testing.T, b bundle, before func(tx pgx.Tx) error, change func() error) error {
	t.Helper()
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	require.NoError(t, before(tx))
	done := make(chan error, 1)
	go func() { done <- change() }()
	waits(t, b)
	require.Empty(t, done, "it must wait")
	require.NoError(t, tx.Commit(t.Context()))
	return <-done
}

// What waits behind a removal, and then finds nothing to change, is refused.
func TestWhatWaitsBehindARemovalIsRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, c := range map[string]struct {
		before func(b bundle, tx pgx.Tx) error
		change func(b bundle) error
		is     error
	}{
		"plan remove":    {func(b bundle, tx pgx.Tx) error { return b.Plans().RemoveTx(ctx, tx, "pro") }, func(b bundle) error { return b.Plans().Remove(ctx, "pro") }, catalog.ErrUnknownPlan},
		"feature remove": {func(b bundle, tx pgx.Tx) error { return b.Features().RemoveTx(ctx, tx, "sso") }, func(b bundle) error { return b.Features().Remove(ctx, "sso") }, catalog.ErrUnknownFeature},
		"adopt": {func(b bundle, tx pgx.Tx) error {
			_, err := b.Hosting().RemoveDatabaseTx(ctx, tx, catalog.DatabaseRemoval{Database: "empty"})
			return err
		}, func(b bundle) error {
			_, err := b.Adopt(ctx, catalog.AdoptParams{Database: "empty"})
			return err
		}, jobs.ErrUnknownDatabase},
		"region remove": {func(b bundle, tx pgx.Tx) error { return b.Hosting().RemoveRegionTx(ctx, tx, "eu") }, func(b bundle) error { return b.Hosting().RemoveRegion(ctx, "eu") }, catalog.ErrUnknownRegion},
		"server remove": {func(b bundle, tx pgx.Tx) error { return b.Hosting().RemoveServerTx(ctx, tx, "s2") }, func(b bundle) error { return b.Hosting().RemoveServer(ctx, "s2") }, catalog.ErrUnknownServer},
		"server rename": {func(b bundle, tx pgx.Tx) error { return b.Hosting().RemoveServerTx(ctx, tx, "s2") }, func(b bundle) error { _, err := b.Hosting().RenameServer(ctx, "s2", "s3"); return err }, catalog.ErrUnknownServer},
		"database rename": {func(b bundle, tx pgx.Tx) error {
			_, err := b.Hosting().RemoveDatabaseTx(ctx, tx, catalog.DatabaseRemoval{Database: "empty"})
			return err
		}, func(b bundle) error { _, err := b.Hosting().RenameDatabase(ctx, "empty", "other"); return err }, jobs.ErrUnknownDatabase},
		"protection": {func(b bundle, tx pgx.Tx) error {
			_, err := b.Hosting().RemoveDatabaseTx(ctx, tx, catalog.DatabaseRemoval{Database: "empty"})
			return err
		}, func(b bundle) error {
			_, err := b.SetProtection(ctx, catalog.ProtectionChange{Database: "empty", To: catalog.ProtectionObserved, Reason: "r"})
			return err
		}, jobs.ErrUnknownDatabase},
		"brand remove": {func(b bundle, tx pgx.Tx) error { return b.Brands().RemoveTx(ctx, tx, "acme", 1) }, func(b bundle) error { return b.Brands().Remove(ctx, "acme", 1) }, jobs.ErrUnknownBrand},
		"brand set": {func(b bundle, tx pgx.Tx) error {
			_, err := b.Editor().RemoveTx(ctx, tx, []string{"acme"}, nil)
			return err
		}, func(b bundle) error { _, err := b.Brands().Set(ctx, "acme", 2, "Two"); return err }, jobs.ErrUnknownTenant},
		"tenant set": {func(b bundle, tx pgx.Tx) error {
			_, err := b.Editor().RemoveTx(ctx, tx, []string{"acme"}, nil)
			return err
		}, func(b bundle) error { _, err := b.Editor().Rename(ctx, "acme", "zed"); return err }, jobs.ErrUnknownTenant},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.addServer(t)
			b.addTenant(t, "acme")
			_, err := b.pool.Exec(ctx, `
				INSERT INTO headgate.servers (id, name, hosts, transport) SELECT gen_random_uuid(), 's2', ARRAY['s2.example'], transport FROM headgate.servers LIMIT 1;
				INSERT INTO headgate.databases (id, name, server_id, dbname, kind, job_login, job_version, owner_login, owner_version, signing_key)
				SELECT gen_random_uuid(), 'empty', server_id, 'empty', 'shared', job_login, job_version, owner_login, owner_version, signing_key FROM headgate.databases LIMIT 1`)
			require.NoError(t, err)
			_, err = b.Plans().Set(ctx, "pro", catalog.PlanChange{})
			require.NoError(t, err)
			_, err = b.Features().Set(ctx, "sso", catalog.FeatureChange{Type: catalog.FeatureBoolean})
			require.NoError(t, err)
			require.NoError(t, b.Hosting().AddRegion(ctx, "eu", ""))
			_, err = b.Brands().Set(ctx, "acme", 1, "One")
			require.NoError(t, err)
			err = behind(t, b, func(tx pgx.Tx) error { return c.before(b, tx) }, func() error { return c.change(b) })
			require.ErrorIs(t, err, c.is)
		})
	}
}
