package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/catalog"
	selectors "github.com/headgate/headgate/orchestrator/selector"
)

func parsed(t require.TestingT, expression string) selectors.Selector {
	s, err := selectors.Parse(expression)
	require.NoError(t, err)
	return s
}

// many is a catalog with n tenants in one database: every other one on plan free.
func many(t *testing.T, n int) (bundle, catalog.TenantEditor) {
	t.Helper()
	b := setup(t)
	b.addServer(t)
	b.addMany(t, n)
	_, err := b.pool.Exec(t.Context(), `UPDATE headgate.tenants SET plan = CASE WHEN org_id % 2 = 0 THEN 'free' ELSE 'pro' END, labels = jsonb_build_object('n', (org_id % 3)::text)`)
	require.NoError(t, err)
	return b, b.Editor()
}

func (b bundle) slugs(t require.TestingT, sql string) (slugs []string) {
	rows, err := b.pool.Query(context.Background(), sql)
	require.NoError(t, err)
	slugs, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return slugs
}

func slugsOf(changed []catalog.Changed) (slugs []string) {
	for _, ch := range changed {
		slugs = append(slugs, ch.Before.Slug)
	}
	return slugs
}

// A change of a selector's tenants is what the changes of these tenants one by one would be.
func TestABulkBySelectorIsOneByOne(t *testing.T) {
	t.Parallel()
	b, editor := many(t, 24)
	ctx := t.Context()
	_, err := b.Features().Set(ctx, "seats", catalog.FeatureChange{Type: catalog.FeatureNumber, Default: text("3")})
	require.NoError(t, err)
	require.NoError(t, b.SetStatus(ctx, "t3", catalog.Archived))
	require.NoError(t, b.SetStatus(ctx, "t4", catalog.Suspended))
	state := func(rt *rapid.T, do func(tx pgx.Tx) ([]string, error)) (told, rows []string) {
		tx, err := b.pool.Begin(ctx)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, tx.Rollback(ctx)) }()
		told, err = do(tx)
		require.NoError(rt, err)
		found, err := tx.Query(ctx, `SELECT concat_ws(' ', slug, plan, timezone, labels, features, status, status_reason, waiting, version) FROM headgate.tenants ORDER BY id`)
		require.NoError(rt, err)
		rows, err = pgx.CollectRows(found, pgx.RowTo[string])
		require.NoError(rt, err)
		return told, rows
	}
	one := func(changed []catalog.Changed, err error) ([]string, error) { return slugsOf(changed), err }
	rapid.Check(t, func(rt *rapid.T) {
		s := parsed(rt, rapid.SampledFrom([]string{
			"all", "plan = free", "label.n in (1, 2) and plan = pro", "not label.n = 0 or status = suspended", "feature.seats >= 3 and tenant != t5", "status = archived", "region = eu",
		}).Draw(rt, "selector"))
		fields := catalog.TenantChange{
			Plan:     rapid.SampledFrom([]*string{nil, text("free"), text("enterprise")}).Draw(rt, "plan"),
			Timezone: rapid.SampledFrom([]*string{nil, text("Europe/Paris")}).Draw(rt, "zone"),
			Labels:   rapid.SampledFrom([]map[string]*string{nil, {"n": text("7")}, {"n": nil, "tier": text("gold")}}).Draw(rt, "labels"),
			Features: rapid.SampledFrom([]map[string]*string{nil, {"seats": text("12")}, {"seats": nil}}).Draw(rt, "features"),
		}
		status := catalog.StatusChange{
			To:     rapid.SampledFrom([]catalog.Status{catalog.Active, catalog.Suspended, catalog.Archived}).Draw(rt, "status"),
			Reason: "spring", Waiting: rapid.SampledFrom([]catalog.Waiting{"", catalog.CancelWaiting}).Draw(rt, "waiting"),
		}
		ofFields := rapid.Bool().Draw(rt, "fields")

		whom, bulk := state(rt, func(tx pgx.Tx) ([]string, error) {
			if ofFields {
				return one(editor.ChangeSelectedTx(ctx, tx, s, fields, nil))
			}
			return one(editor.SetStatusSelectedTx(ctx, tx, s, status, nil))
		})
		listed, _, err := b.Tenants(ctx, catalog.TenantFilter{Select: s})
		require.NoError(rt, err)
		var want []string
		for _, tenant := range listed {
			if tenant.Status != catalog.Archived {
				want = append(want, tenant.Slug)
			}
		}
		require.ElementsMatch(rt, want, whom)
		_, single := state(rt, func(tx pgx.Tx) (done []string, err error) {
			for _, slug := range want {
				if ofFields {
					_, err = editor.ChangeTx(ctx, tx, []string{slug}, fields)
				} else {
					_, err = editor.SetStatusTx(ctx, tx, []string{slug}, status)
				}
				if err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		require.Equal(rt, single, bulk)
	})
}

// One bulk is one operation of the audit, with an entry for each tenant. A dry run and one
// that is not confirmed leave nothing, and say the same tenants.
func TestABulkIsOneOperationOrNone(t *testing.T) {
	t.Parallel()
	b, editor := many(t, 10)
	ctx := access.With(t.Context(), access.Actor{Name: "ines", Reason: "spring offer"})
	s, change := parsed(t, "plan = free"), catalog.TenantChange{Labels: map[string]*string{"tier": text("gold")}}
	const operations = `SELECT concat_ws(' ', count(*), count(DISTINCT tenant_id), min(actor), min(reason)) FROM headgate.audit WHERE changes::text LIKE '%labels.tier%' GROUP BY operation`

	dry, err := editor.ChangeSelected(ctx, s, change, &catalog.SelectedOpts{DryRun: true, Confirm: func([]string) error { return errors.New("a dry run asks nobody") }})
	require.NoError(t, err)
	require.Len(t, dry, 5)
	require.Equal(t, "gold", dry[0].After.Labels["tier"])
	var asked []string
	refused := errors.New("these are too many")
	_, err = editor.ChangeSelected(ctx, s, change, &catalog.SelectedOpts{Confirm: func(slugs []string) error { asked = slugs; return refused }})
	require.ErrorIs(t, err, refused)
	require.Equal(t, slugsOf(dry), asked)
	require.Empty(t, b.slugs(t, operations))
	require.Empty(t, b.slugs(t, `SELECT slug FROM headgate.tenants WHERE labels ? 'tier'`))

	changed, err := editor.ChangeSelected(ctx, s, change, &catalog.SelectedOpts{Confirm: func([]string) error { return nil }})
	require.NoError(t, err)
	require.Equal(t, dry[0].After.Labels, changed[0].After.Labels)
	require.Equal(t, []string{"5 5 ines spring offer"}, b.slugs(t, operations))
	require.ElementsMatch(t, asked, b.slugs(t, `SELECT slug FROM headgate.tenants WHERE labels ? 'tier'`))
	remembered, err := b.Tenant(ctx, asked[0])
	require.NoError(t, err)
	require.Equal(t, "gold", remembered.Labels["tier"])
}

// Nobody is no error; what an expression is not trusted with is one, and changes nothing.
func TestABulkBySelectorRefuses(t *testing.T) {
	t.Parallel()
	b, editor := many(t, 6)
	ctx := t.Context()
	changed, err := editor.ChangeSelected(ctx, parsed(t, "plan = none"), catalog.TenantChange{Plan: text("pro")}, nil)
	require.NoError(t, err)
	require.Empty(t, changed)
	for want, change := range map[string]catalog.TenantChange{
		"it is of one tenant: name the tenant": {Version: 1, Plan: text("pro")}, "cannot have one key": {OrgKey: text("k")}, `timezone "Mars"`: {Timezone: text("Mars")},
		"would have": {Labels: manyLabels(64)},
	} {
		_, err := editor.ChangeSelected(ctx, parsed(t, "all"), change, nil)
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, b.SetStatus(ctx, "t2", catalog.Moving))
	_, err = editor.SetStatusSelected(ctx, parsed(t, "all"), catalog.StatusChange{To: catalog.Active}, nil)
	require.ErrorIs(t, err, jobs.ErrTenantMoving)
	require.ErrorContains(t, err, "\"t2\"; add `and status != moving`")
	_, err = editor.SetStatusSelected(ctx, parsed(t, "all"), catalog.StatusChange{To: catalog.Removed}, nil)
	require.ErrorContains(t, err, "a removal takes more along")
	var unread selectors.Selector
	require.NoError(t, unread.Scan("plan ~ free"))
	_, err = editor.ChangeSelected(ctx, unread, catalog.TenantChange{Plan: text("pro")}, nil)
	require.ErrorAs(t, err, new(*jobs.InputError))
	require.Equal(t, []string{"6"}, b.slugs(t, `SELECT count(*)::text FROM headgate.tenants WHERE timezone = 'UTC' AND status IN ('active', 'moving') AND NOT labels ? 'l1'`))
}

// waits returns when somebody waits for a lock on tenants.
func (b bundle) waits(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		err := b.pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%headgate.tenants%'`).Scan(&n)
		return err == nil && n > 0
	}, time.Minute, 10*time.Millisecond)
}

// Between the selection and the change somebody else changes a tenant. Where it is not
// selected any more, the bulk is told and changes nothing; where it still is, both changes
// are kept.
func TestATenantThatChangesUnderABulkIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		told bool
	}{
		"leaves":       {`UPDATE headgate.tenants SET plan = 'pro' WHERE slug = 't1'`, true},
		"archived":     {`UPDATE headgate.tenants SET status = 'archived' WHERE slug = 't1'`, true},
		"still chosen": {`UPDATE headgate.tenants SET labels = labels || '{"by": "other"}' WHERE slug = 't1'`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, editor := many(t, 6)
			_, err := b.pool.Exec(t.Context(), `UPDATE headgate.tenants SET plan = 'free'`)
			require.NoError(t, err)
			tx, err := b.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			_, err = tx.Exec(t.Context(), c.sql)
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() {
				ours, err := b.pool.Begin(context.Background()) // a wait of ours has no limit
				if err != nil {
					done <- err
					return
				}
				defer func() { _ = ours.Rollback(context.Background()) }()
				if _, err = editor.ChangeSelectedTx(context.Background(), ours, parsed(t, "plan = free"), catalog.TenantChange{Labels: map[string]*string{"tier": text("gold")}}, nil); err == nil {
					err = ours.Commit(context.Background())
				}
				done <- err
			}()
			b.waits(t)
			require.NoError(t, tx.Commit(t.Context()))
			err = <-done
			if !c.told {
				require.NoError(t, err)
				require.Equal(t, []string{`{"n": "1", "by": "other", "tier": "gold"}`}, b.slugs(t, `SELECT (labels || '{"n": "1"}')::text FROM headgate.tenants WHERE slug = 't1'`))
				return
			}
			require.ErrorIs(t, err, catalog.ErrChanged)
			require.ErrorContains(t, err, `tenant "t1" is not selected any more, and nothing was changed`)
			require.Empty(t, b.slugs(t, `SELECT slug FROM headgate.tenants WHERE labels ? 'tier'`))
		})
	}
}

// A tenant that another session keeps locked ends a bulk, which then says which tenant that
// is and whose session. A lock that keeps no change waiting is not named. The caller's
// transaction goes on.
func TestABulkNamesWhoLocksATenant(t *testing.T) {
	t.Parallel()
	b, editor := many(t, 6)
	ctx := t.Context()
	var pid int
	for i, sql := range []string{`SELECT pg_backend_pid() FROM headgate.tenants WHERE slug = 't1' FOR KEY SHARE`, `SELECT pg_backend_pid() FROM headgate.tenants WHERE slug = 't4' FOR UPDATE`} {
		holder, err := b.pool.Begin(ctx)
		require.NoError(t, err, i)
		defer func() { _ = holder.Rollback(context.Background()) }()
		require.NoError(t, holder.QueryRow(ctx, sql).Scan(&pid))
	}
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(ctx, `SET LOCAL lock_timeout = '2s'`)
	require.NoError(t, err)
	for _, change := range []func() error{
		func() error {
			_, err := editor.ChangeSelectedTx(ctx, tx, parsed(t, "all"), catalog.TenantChange{Plan: text("basic")}, nil)
			return err
		},
		func() error {
			_, err := editor.ChangeTx(ctx, tx, []string{"t0", "t4"}, catalog.TenantChange{Plan: text("basic")})
			return err
		},
	} {
		err := change()
		require.ErrorContains(t, err, fmt.Sprintf(`tenant "t4" is locked by session %d of `, pid))
		require.ErrorContains(t, err, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
		require.Equal(t, 1, strings.Count(err.Error(), "session "), "one session is named, once: %v", err)
	}
	changed, err := editor.ChangeSelectedTx(ctx, tx, parsed(t, "tenant != t4"), catalog.TenantChange{Plan: text("basic")}, nil)
	require.NoError(t, err)
	require.Len(t, changed, 5)
}
