package tenantdb_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb"
)

// planted are the kinds of state that one user of a connection can leave for the
// next.
var planted = map[string]string{
	"role":               `SET ROLE headgate_job`,
	"settings":           `SET search_path = nowhere; SET statement_timeout = '7s'; SELECT set_config('headgate.context', '7', false)`,
	"temp table":         `CREATE TEMP TABLE mine (a int)`,
	"advisory lock":      `SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)`,
	"listen":             `LISTEN loud`,
	"cursor":             `BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT`,
	"prepared statement": `PREPARE mine AS SELECT 1`,
	"open transaction":   `BEGIN`,
	"failed transaction": `BEGIN; SELECT 1 / 0`,
}

var errBoom = errors.New("boom")

// ends are the ways in which a user gives a connection back.
var ends = map[string]func(ctx context.Context, cancel context.CancelFunc, conn *tenantdb.Conn) error{
	"success": func(context.Context, context.CancelFunc, *tenantdb.Conn) error { return nil },
	"error":   func(context.Context, context.CancelFunc, *tenantdb.Conn) error { return errBoom },
	"panic":   func(context.Context, context.CancelFunc, *tenantdb.Conn) error { panic(errBoom) },
	"timeout": func(ctx context.Context, _ context.CancelFunc, conn *tenantdb.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
		defer cancel()
		return sleep(ctx, conn)
	},
	"cancel": func(ctx context.Context, cancel context.CancelFunc, conn *tenantdb.Conn) error {
		time.AfterFunc(2*time.Millisecond, cancel)
		return sleep(ctx, conn)
	},
}

// sleep is a statement that does not end by itself. In a failed transaction it
// fails at once, which is an end as well.
func sleep(ctx context.Context, conn *tenantdb.Conn) error {
	_, err := conn.Exec(ctx, `SELECT pg_sleep(60)`)
	return err
}

// peersSQL is all that can be left, in one row. Locks are looked for in all of
// this login's sessions: one that is closed too late still holds its own. What the
// reset itself sets is no such state.
const lookSQL = `
SELECT current_user::text, session_user::text,
       coalesce((SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE source = 'session' AND name <> 'idle_session_timeout'), ''),
       coalesce(current_setting('headgate.context', true), ''),
       (SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema()),
       (SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND a.usename = session_user),
       (SELECT count(*) FROM pg_listening_channels()),
       (SELECT count(*) FROM pg_cursors WHERE is_holdable),
       (SELECT count(*) FROM pg_prepared_statements WHERE from_sql)`

func look(t *testing.T, ctx context.Context, conn *tenantdb.Conn) (found [10]any) {
	t.Helper()
	into := make([]any, len(found)-1)
	for i := range into {
		into[i] = &found[i]
	}
	require.NoError(t, conn.QueryRow(ctx, lookSQL).Scan(into...))
	found[len(into)] = conn.PgConn().TxStatus()
	return found
}

// What one user leaves in a session the next one does not find, whatever it was
// and however it ended.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	leaks(t, 2)
}

// leaks borrows a connection twice for each state and each end, times over: once
// to leave the state behind, which the look must see, and once to look for it.
func leaks(t *testing.T, times int) {
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{MaxConns: 1})
	place, err := tenantdb.Session(place) // what is planted outside a transaction is the session's; through a pooler see TestFaultsPgBouncer
	require.NoError(t, err)
	var fresh [10]any
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		fresh = look(t, ctx, conn)
		return nil
	}))
	borrowed, kept := 0, 0
	for state, sql := range planted {
		for how, end := range ends {
			for range times {
				var first uint32
				plant := func(ctx context.Context, conn *tenantdb.Conn) error {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					first = backend(ctx, conn)
					_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
					if state == "failed transaction" {
						require.Error(t, err)
					} else {
						require.NoError(t, err, state)
						require.NotEqual(t, fresh, look(t, ctx, conn), "the look does not see a %s", state)
					}
					return end(ctx, cancel, conn)
				}
				func() {
					defer func() {
						if p := recover(); p != nil && p != any(errBoom) {
							panic(p)
						}
					}()
					err := pools.With(ctx, place, plant)
					require.Equal(t, how == "success", err == nil, "%s, %s: %v", state, how, err)
				}()
				require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
					require.Equal(t, fresh, look(t, ctx, conn), "%s was left behind by %s", state, how)
					if backend(ctx, conn) == first {
						kept++
					}
					return nil
				}))
				borrowed++
			}
		}
	}
	t.Logf("%d times %d kinds of state by %d ends: nothing was left; %d of %d connections were kept", times, len(planted), len(ends), kept, borrowed)
	require.GreaterOrEqual(t, kept, 6*times, "after success a connection is kept, unless it is in a transaction or holds prepared statements")
}
