package admission_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/selector"
)

// behind runs before in a transaction, then change, which must wait for the transaction; then
// the transaction commits. It returns the error of change.
func behind(t *testing.T, env *jobstest.Env, before func(tx pgx.Tx) error, change func() error) error {
	t.Helper()
	ctx := context.Background()
	tx, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	require.NoError(t, before(tx))
	done := make(chan error, 1)
	go func() { done <- change() }()
	require.Eventually(t, func() bool {
		require.Empty(t, done, "it must wait")
		return roomtest.Count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, tx.Commit(ctx))
	return <-done
}

// What waits behind the rename or the removal of a tenant, and then finds the tenant no more, is
// refused, and nothing is written.
func TestWhatWaitsBehindATenantThatGoesIsRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	rename := func(tx pgx.Tx, slug string) error {
		_, err := env.Catalog.Editor().RenameTx(ctx, tx, slug, slug+"-of-old")
		return err
	}
	remove := func(tx pgx.Tx, slug string) error {
		_, err := env.Catalog.Editor().RemoveTx(ctx, tx, []string{slug}, nil)
		return err
	}
	grant := func(terms string) func(slug string) error {
		return func(slug string) error {
			of, err := selector.Parse(fmt.Sprintf(terms, slug))
			require.NoError(t, err)
			_, _, err = env.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: "postgres", Kind: "note", Tenants: of})
			return err
		}
	}
	two := 2
	for name, c := range map[string]struct {
		before func(tx pgx.Tx, slug string) error
		change func(slug string) error
		rows   string
	}{
		"grant, rename":           {rename, grant(`tenant = %s`), "enqueue_grants"},
		"grant of either, rename": {rename, grant(`tenant = %s or plan = pro`), "enqueue_grants"},
		"grant of others, rename": {rename, grant(`not tenant in (acme, %s)`), "enqueue_grants"},
		"grant, removal":          {remove, grant(`tenant = %s`), "enqueue_grants"},
		"pause, removal":          {remove, func(slug string) error { _, err := env.Admission.Pause(ctx, admission.OfTenant, slug, nil); return err }, "pauses"},
		"limit, removal": {remove, func(slug string) error {
			_, err := env.Admission.SetLimit(ctx, admission.Limit{Subject: admission.OfTenant, Name: slug, MaxRunning: &two})
			return err
		}, "tenant_limits"},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: each counts the sessions that wait
			slug := fmt.Sprintf("gone-%d", roomtest.Count(t, env, `SELECT count(*) FROM headgate.tenants`))
			env.Tenant(slug, "shared")
			err := behind(t, env, func(tx pgx.Tx) error { return c.before(tx, slug) }, func() error { return c.change(slug) })
			require.ErrorIs(t, err, jobs.ErrUnknownTenant)
			require.ErrorContains(t, err, "or not any more")
			require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.`+c.rows))
		})
	}
}

// A grant names tenants that there are.
func TestAGrantForNobodyIsRefused(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	for _, terms := range []string{"tenant = nobody", "tenant in (acme, nobody)", "tenant != nobody", "plan = pro or not tenant = nobody"} {
		of, err := selector.Parse(terms)
		require.NoError(t, err)
		_, _, err = env.Admission.AddEnqueueGrant(ctx, admission.EnqueueGrant{Role: "postgres", Kind: "note", Tenants: of})
		require.ErrorIs(t, err, jobs.ErrUnknownTenant, terms)
		require.ErrorContains(t, err, "nobody")
	}
	require.Zero(t, roomtest.Count(t, env, `SELECT count(*) FROM headgate.enqueue_grants`))
}

// The damage without the hold: the statement that writes a tenant's limit waits behind the
// removal too, by its foreign key, finds the row that stays for history, and writes.
func TestAForeignKeyTakesARemovedTenant(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	slug := "gone"
	id := env.Tenant(slug, "shared").ID
	err := behind(t, env, func(tx pgx.Tx) error {
		_, err := env.Catalog.Editor().RemoveTx(ctx, tx, []string{slug}, nil)
		return err
	}, func() error {
		_, err := env.Pool.Exec(ctx, `INSERT INTO headgate.tenant_limits (tenant_id, max_running) VALUES ($1, 2)`, id)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.tenant_limits`), "the control: a removed tenant has a limit")
}
