package admission_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/admission"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/selector"
)

func selecting(t require.TestingT, expression string) selector.Selector {
	s, err := selector.Parse(expression)
	require.NoError(t, err)
	return s
}

// withMany has tenants t0, t1, … on plans free and pro in turn, beside those of every test,
// which are on plan "".
func withMany(t *testing.T, n int) *jobstest.Env {
	t.Helper()
	env := roomtest.SetupDirect(t)
	acme, err := env.Catalog.Tenant(context.Background(), "acme")
	require.NoError(t, err)
	params := make([]catalog.TenantParams, n)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: acme.Database, Plan: []string{"free", "pro"}[i%2]}
	}
	_, err = env.Catalog.AddTenants(context.Background(), params)
	require.NoError(t, err)
	return env
}

func column(t require.TestingT, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, sql string, args ...any) []string {
	rows, err := db.Query(context.Background(), sql, args...)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

// What is done with a selector's tenants is what is done with these tenants one by one.
func TestSelectedIsOneByOne(t *testing.T) {
	t.Parallel()
	env := withMany(t, 9)
	ctx := context.Background()
	control := env.Admission
	require.NoError(t, env.Catalog.SetStatus(ctx, "t2", catalog.Archived))
	for i, l := range []admission.Limit{{MaxRunning: ptr(2)}, {Weight: ptr(3.0), MaxRunning: ptr(4)}, {Rate: rate(t, "5/s"), Weight: ptr(2.0)}} {
		l.Subject, l.Name = admission.OfTenant, fmt.Sprintf("t%d", i*2)
		_, err := control.SetLimit(ctx, l)
		require.NoError(t, err)
	}
	for _, slug := range []string{"t0", "t1", "t5"} {
		_, err := control.Pause(ctx, admission.OfTenant, slug, &admission.PauseOpts{By: "ana"})
		require.NoError(t, err)
	}
	roomtest.Do(t, env, `UPDATE headgate.pauses SET since = now() - interval '2 hours', until = now() - interval '1 hour' WHERE target = (SELECT id::text FROM headgate.tenants WHERE slug = 't5')`)
	one := func(err error) error {
		if errors.Is(err, admission.ErrNotPaused) || errors.Is(err, admission.ErrNoLimit) {
			return nil
		}
		return err
	}
	verbs := map[string]struct {
		many func(tx pgx.Tx, s selector.Selector, fields admission.LimitFields) (int, error)
		one  func(tx pgx.Tx, slug string, fields admission.LimitFields) error
	}{
		"pause": {
			func(tx pgx.Tx, s selector.Selector, _ admission.LimitFields) (int, error) {
				list, err := control.PauseSelectedTx(ctx, tx, s, &admission.PauseOpts{By: "bo", Note: "full"}, nil)
				return len(list), err
			},
			func(tx pgx.Tx, slug string, _ admission.LimitFields) error {
				_, err := control.PauseTx(ctx, tx, admission.OfTenant, slug, &admission.PauseOpts{By: "bo", Note: "full"})
				return err
			},
		},
		"resume": {
			func(tx pgx.Tx, s selector.Selector, _ admission.LimitFields) (int, error) {
				list, err := control.ResumeSelectedTx(ctx, tx, s, nil)
				return len(list), err
			},
			func(tx pgx.Tx, slug string, _ admission.LimitFields) error {
				_, err := control.ResumeTx(ctx, tx, admission.OfTenant, slug)
				return err
			},
		},
		"set": {
			func(tx pgx.Tx, s selector.Selector, _ admission.LimitFields) (int, error) {
				list, err := control.SetLimitSelectedTx(ctx, tx, s, admission.Limit{MaxRunning: ptr(7), Rate: rate(t, "9/s")}, nil)
				return len(list), err
			},
			func(tx pgx.Tx, slug string, _ admission.LimitFields) error {
				_, err := control.SetLimitTx(ctx, tx, admission.Limit{Subject: admission.OfTenant, Name: slug, MaxRunning: ptr(7), Rate: rate(t, "9/s")})
				return err
			},
		},
		"clear": {
			func(tx pgx.Tx, s selector.Selector, fields admission.LimitFields) (int, error) {
				list, err := control.ClearLimitSelectedTx(ctx, tx, s, fields, nil)
				return len(list), err
			},
			func(tx pgx.Tx, slug string, fields admission.LimitFields) error {
				_, err := control.ClearLimitTx(ctx, tx, admission.OfTenant, slug, fields)
				return err
			},
		},
	}
	state := func(rt *rapid.T, do func(tx pgx.Tx)) []string {
		tx, err := env.Pool.Begin(ctx)
		require.NoError(rt, err)
		defer func() { require.NoError(rt, tx.Rollback(ctx)) }()
		do(tx)
		return append(column(rt, tx, `SELECT concat_ws(' ', tenant_id, max_running, weight, rate, rate_period) FROM headgate.tenant_limits ORDER BY tenant_id`),
			column(rt, tx, `SELECT concat_ws(' ', target, paused_by, note, until) FROM headgate.pauses ORDER BY target`)...)
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := selecting(rt, rapid.SampledFrom([]string{"all", "plan = free", "plan = pro and tenant != t1", "tenant in (t0, t2, t4)", "status = archived", "plan = none"}).Draw(rt, "selector"))
		fields := admission.LimitFields{MaxRunning: rapid.Bool().Draw(rt, "running"), Weight: rapid.Bool().Draw(rt, "weight"), Rate: rapid.Bool().Draw(rt, "rate")}
		verb := verbs[rapid.SampledFrom([]string{"pause", "resume", "set", "clear"}).Draw(rt, "verb")]
		var told, touched int
		many := state(rt, func(tx pgx.Tx) {
			var err error
			told, err = verb.many(tx, s, fields)
			require.NoError(rt, err)
		})
		listed, _, err := env.Catalog.Tenants(ctx, catalog.TenantFilter{Select: s})
		require.NoError(rt, err)
		single := state(rt, func(tx pgx.Tx) {
			for _, tenant := range listed {
				if tenant.Status == catalog.Archived {
					continue
				}
				err := verb.one(tx, tenant.Slug, fields)
				require.NoError(rt, one(err))
				if err == nil {
					touched++
				}
			}
		})
		require.Equal(rt, single, many)
		require.Equal(rt, touched, told)
	})
}

// A bulk is one operation of the audit, with its reason; a dry run, one that is not confirmed
// and one that selects nobody leave nothing.
func TestSelectedIsOneOperationOrNone(t *testing.T) {
	t.Parallel()
	env := withMany(t, 10)
	control := env.Admission
	ctx := access.With(context.Background(), access.Actor{Name: "ines", Reason: "spring"})
	free := selecting(t, "plan = free")
	operations := func(object string) []string {
		return column(t, env.Pool, `SELECT concat_ws(' ', action, count(*), count(DISTINCT tenant_id), min(actor), min(reason)) FROM headgate.audit WHERE object = $1 GROUP BY operation, action ORDER BY max(id)`, object)
	}
	refused := errors.New("too many")
	for _, bulk := range []*catalog.SelectedOpts{{DryRun: true}, {Confirm: func(slugs []string) error { return fmt.Errorf("%d: %w", len(slugs), refused) }}} {
		for _, do := range []func() (int, error){
			func() (int, error) {
				list, err := control.PauseSelected(ctx, free, &admission.PauseOpts{By: "ana", Note: "full"}, bulk)
				return len(list), err
			},
			func() (int, error) {
				list, err := control.SetLimitSelected(ctx, free, admission.Limit{MaxRunning: ptr(1)}, bulk)
				return len(list), err
			},
		} {
			n, err := do()
			if bulk.DryRun {
				require.NoError(t, err)
				require.Equal(t, 5, n)
				continue
			}
			require.ErrorIs(t, err, refused)
			require.ErrorContains(t, err, "5: too many")
			require.Zero(t, n)
		}
	}
	nobody, err := control.PauseSelected(ctx, selecting(t, "plan = none"), nil, nil)
	require.NoError(t, err)
	require.Empty(t, nobody)
	require.Empty(t, operations("pause"))
	require.Empty(t, operations("tenant limit"))

	paused, err := control.PauseSelected(ctx, free, &admission.PauseOpts{By: "ana", Note: "full"}, nil)
	require.NoError(t, err)
	require.Len(t, paused, 5)
	was, err := control.ResumeSelected(ctx, selecting(t, "all"), nil)
	require.NoError(t, err)
	require.ElementsMatch(t, paused, was)
	require.Equal(t, []string{"add 5 5 ana full", "remove 5 5 ines spring"}, operations("pause"))
	set, err := control.SetLimitSelected(ctx, free, admission.Limit{MaxRunning: ptr(1), Weight: ptr(2.0)}, nil)
	require.NoError(t, err)
	left, err := control.ClearLimitSelected(ctx, free, admission.LimitFields{Weight: true}, nil)
	require.NoError(t, err)
	require.Equal(t, admission.Limit{Subject: admission.OfTenant, Name: set[0].Name, MaxRunning: ptr(1)}, left[0])
	_, err = control.ClearLimitSelected(ctx, selecting(t, "all"), admission.LimitFields{}, nil)
	require.NoError(t, err)
	require.Equal(t, []string{"add 5 5 ines spring", "change 5 5 ines spring", "remove 5 5 ines spring"}, operations("tenant limit"))
	require.Empty(t, column(t, env.Pool, `SELECT tenant_id::text FROM headgate.tenant_limits`))
}

func TestSelectedRefuses(t *testing.T) {
	t.Parallel()
	env := withMany(t, 2)
	ctx, all := context.Background(), selecting(t, "all")
	for want, do := range map[string]func() error{
		"a selector selects tenants": func() error {
			_, err := env.Admission.SetLimitSelected(ctx, all, admission.Limit{Subject: admission.OfPlan, MaxRunning: ptr(1)}, nil)
			return err
		},
		"not both": func() error {
			_, err := env.Admission.SetLimitSelected(ctx, all, admission.Limit{Name: "acme", MaxRunning: ptr(1)}, nil)
			return err
		},
		"nothing is given to set": func() error {
			_, err := env.Admission.SetLimitSelected(ctx, all, admission.Limit{}, nil)
			return err
		},
		"a kind has": func() error {
			_, err := env.Admission.ClearLimitSelected(ctx, all, admission.LimitFields{MaxPerTenant: true}, nil)
			return err
		},
		"it is past": func() error {
			_, err := env.Admission.PauseSelected(ctx, all, &admission.PauseOpts{Until: time.Now().Add(-time.Hour)}, nil)
			return err
		},
		"selector, character": func() error {
			var unread selector.Selector
			require.NoError(t, unread.Scan("plan ~ free"))
			_, err := env.Admission.ResumeSelected(ctx, unread, nil)
			return err
		},
	} {
		err := do()
		require.ErrorContains(t, err, want)
		require.ErrorAs(t, err, new(*jobs.InputError), want)
	}
}

// A tenant that somebody has in hand, with the locks of a change, keeps no bulk of pauses or
// limits waiting. One that is being removed does, and gets nothing: its rows would stay.
func TestSelectedBesideChangesOfTenants(t *testing.T) {
	t.Parallel()
	env := withMany(t, 4)
	ctx, all := context.Background(), selecting(t, "plan = free")
	release := roomtest.Locked(t, env, `UPDATE headgate.tenants SET name = 'x' WHERE slug = 't0'`)
	paused, err := env.Admission.PauseSelected(ctx, all, nil, nil)
	require.NoError(t, err)
	require.Len(t, paused, 2)
	_, err = env.Admission.SetLimitSelected(ctx, all, admission.Limit{MaxRunning: ptr(1)}, nil)
	require.NoError(t, err)
	release()

	_, err = env.Admission.ResumeSelected(ctx, all, nil)
	require.NoError(t, err)
	removal, err := env.Pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = removal.Rollback(ctx) }()
	_, err = env.Catalog.Editor().RemoveTx(ctx, removal, []string{"t2"}, nil)
	require.NoError(t, err)
	done := make(chan []admission.Pause, 1)
	go func() {
		tx, err := env.Pool.Begin(ctx) // a wait of ours has no limit
		if err == nil {
			if paused, err = env.Admission.PauseSelectedTx(ctx, tx, all, nil, nil); err == nil {
				err = tx.Commit(ctx)
			}
		}
		if err != nil {
			t.Error(err)
		}
		done <- paused
	}()
	require.Eventually(t, func() bool {
		return roomtest.Count(t, env, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
	}, time.Minute, 5*time.Millisecond)
	require.NoError(t, removal.Commit(ctx))
	got := <-done
	require.Len(t, got, 1)
	require.Equal(t, "t0", got[0].Name)
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.pauses`))
}
