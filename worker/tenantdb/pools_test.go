package tenantdb_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/worker/tenantdb"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

func TestMain(m *testing.M) {
	if os.Getenv(envAddress) != "" {
		if err := connectOnce(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	jobstest.Main(m)
}

func TestQueriesPrepare(t *testing.T) {
	t.Parallel()
	env := jobstest.New(t)
	jobstest.PrepareQueries(t, ".", env.Database("acme", jobstest.DatabaseOpts{}).Pool)
}

func setup(t *testing.T, cfg tenantdb.Config) (*jobstest.Env, *jobstest.Database, *tenantdb.Pools, address.Place) {
	t.Helper()
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{})
	acme := env.Tenant("acme", "acme")
	_, place, err := env.Catalog.ResolveTenant(context.Background(), acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	cfg.Logger = env.Log
	pools := tenantdb.New(cfg)
	t.Cleanup(pools.Close)
	return env, db, pools, place
}

func backend(ctx context.Context, conn *tenantdb.Conn) (pid uint32) { return conn.PgConn().PID() }

// A connection is kept after success, and closed after an error or a panic.
func TestWithKeepsOrDestroys(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{})
	var pids []uint32
	use := func(end func() error) error {
		return pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
			pids = append(pids, backend(ctx, conn))
			return end()
		})
	}
	boom := errors.New("boom")
	require.NoError(t, use(func() error { return nil }))
	require.NoError(t, use(func() error { return nil }))
	require.Equal(t, pids[0], pids[1])
	require.ErrorIs(t, use(func() error { return boom }), boom)
	require.NoError(t, use(func() error { return nil }))
	require.NotEqual(t, pids[2], pids[3])
	require.PanicsWithValue(t, "boom", func() { _ = use(func() error { panic("boom") }) })
	require.NoError(t, use(func() error { return nil }))
	require.NotEqual(t, pids[4], pids[5])
	require.Eventually(t, func() bool { return pools.Open() == 1 }, time.Minute, time.Millisecond, "closing is nobody's wait")
}

// What one job leaves in a session the next one does not find.
func TestWithResets(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{})
	place, err := tenantdb.Session(place)
	require.NoError(t, err)
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		_, err := conn.Exec(ctx, `
SET ROLE headgate_job; SET search_path = nowhere; SET statement_timeout = '1s'; CREATE TEMP TABLE mine (); LISTEN loud;
SELECT pg_advisory_lock(1); SELECT set_config('headgate.context', '7', false)`)
		return err
	}))
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		var role, path, timeout, org string
		var temp, listening, locks int
		err := conn.QueryRow(ctx, `
SELECT (current_user = session_user)::text, current_setting('search_path'), current_setting('statement_timeout'),
       current_setting('headgate.context', true), (SELECT count(*) FROM pg_class WHERE relname = 'mine'),
       (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())`).
			Scan(&role, &path, &timeout, &org, &temp, &listening, &locks)
		require.NoError(t, err)
		require.Equal(t, []any{"true", `"$user", public`, "0", "", 0, 0, 0}, []any{role, path, timeout, org, temp, listening, locks})
		return nil
	}))
}

// The number that a sequence gave last is a state of the session.
func TestWithForgetsSequences(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, db, pools, place := setup(t, tenantdb.Config{MaxConns: 1})
	place, err := tenantdb.Session(place)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `CREATE SEQUENCE numbers START 77; GRANT USAGE ON numbers TO PUBLIC`)
	require.NoError(t, err)
	var first, second uint32
	var number int
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		first = backend(ctx, conn)
		return conn.QueryRow(ctx, `SELECT nextval('public.numbers')`).Scan(&number)
	}))
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		second = backend(ctx, conn)
		err := conn.QueryRow(ctx, `SELECT lastval()`).Scan(&number)
		require.ErrorContains(t, err, "lastval is not yet defined in this session")
		return nil
	}))
	require.Equal(t, first, second, "the session was kept")
}

// A transaction left open does not survive its borrower.
func TestWithRefusesAnOpenTransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{})
	var first, second uint32
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		first = backend(ctx, conn)
		_, err := conn.Exec(ctx, `BEGIN`)
		return err
	}))
	require.NoError(t, pools.With(ctx, place, func(ctx context.Context, conn *tenantdb.Conn) error {
		second = backend(ctx, conn)
		return nil
	}))
	require.NotEqual(t, first, second)
}

// Idle pools close, and with them their connections.
func TestIdlePoolsClose(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, db, pools, place := setup(t, tenantdb.Config{IdleTimeout: 50 * time.Millisecond})
	require.NoError(t, pools.With(ctx, place, func(context.Context, *tenantdb.Conn) error { return nil }))
	require.Eventually(t, func() bool { return pools.Open() == 0 }, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		var n int
		err := env.Pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1`, db.Job.User).Scan(&n)
		return err == nil && n == 0
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, pools.With(ctx, place, func(context.Context, *tenantdb.Conn) error { return nil }), "and open again")
}

func TestClosedPools(t *testing.T) {
	t.Parallel()
	_, _, pools, place := setup(t, tenantdb.Config{})
	pools.Close()
	pools.Close()
	require.ErrorIs(t, pools.With(context.Background(), place, nil), tenantdb.ErrClosed)
}

// What cannot be connected to has a class and a sentence without the password.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, db, pools, place := setup(t, tenantdb.Config{ConnectTimeout: time.Second})
	for name, c := range map[string]struct {
		change func(*address.Address)
		class  jobs.Class
	}{
		"wrong password":   {func(a *address.Address) { a.Password = address.NewSecret("planted-wrong") }, jobs.ClassAuthFailed},
		"unknown role":     {func(a *address.Address) { a.User = "nobody_here" }, jobs.ClassAuthFailed},
		"unknown database": {func(a *address.Address) { a.Database = "hg_nowhere" }, jobs.ClassWrongDatabase},
		"no server":        {func(a *address.Address) { a.Host += "-gone" }, jobs.ClassUnreachable},
		"another's":        {func(a *address.Address) { *a = env.Database("other", jobstest.DatabaseOpts{}).Job }, jobs.ClassWrongDatabase},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := place
			wrong.DatabaseID, wrong.Login = place.DatabaseID, name // a pool of its own
			a := db.Job
			c.change(&a)
			wrong.Open = func(context.Context) (address.Address, error) { return a, nil }
			err := pools.With(ctx, wrong, func(context.Context, *tenantdb.Conn) error { return nil })
			class, _ := tenantdb.Classify(err)
			require.Equal(t, c.class, class, "%v", err)
			require.ErrorContains(t, err, "connecting to database acme")
			require.NotContains(t, err.Error(), "planted")
		})
	}
}

// A connection waits for a free one as long as its caller has time.
func TestWithWaits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, _, pools, place := setup(t, tenantdb.Config{MaxConns: 1})
	require.NoError(t, pools.With(ctx, place, func(held context.Context, _ *tenantdb.Conn) error {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		err := pools.With(short, place, func(context.Context, *tenantdb.Conn) error { return nil })
		class, _ := tenantdb.Classify(err)
		require.Equal(t, jobs.ClassConnectTimeout, class, "%v", err)
		// The job itself does not wait for what it holds.
		err = pools.With(held, place, func(context.Context, *tenantdb.Conn) error { return nil })
		require.ErrorContains(t, err, "use the one that it has")
		return nil
	}))
}

// A login that was refused is not tried again, however many jobs come, until the
// catalog has another address: each try might be the one that locks the account.
func TestARefusedLoginIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, db, pools, place := setup(t, tenantdb.Config{})
	logins := 0
	wrong := place
	wrong.Open = func(context.Context) (address.Address, error) {
		logins++
		a := db.Job
		a.Password = address.NewSecret("planted-wrong")
		return a, nil
	}
	wrong.Reload = func(context.Context) (address.Place, error) { return wrong, nil } // the catalog knows no better
	nothing := func(context.Context, *tenantdb.Conn) error { return nil }
	for range 20 {
		class, _ := tenantdb.Classify(pools.With(ctx, wrong, nothing))
		require.Equal(t, jobs.ClassAuthFailed, class)
	}
	require.Equal(t, 1, logins)
	right := place
	right.Version++
	require.NoError(t, pools.With(ctx, right, nothing), "another address is tried at once")

	// One that was changed while a job still had the old one is found by asking.
	old := wrong
	old.Login = "another" // connections, and refusals, of its own
	old.Reload = func(context.Context) (address.Place, error) {
		newer := right
		newer.Login = old.Login
		return newer, nil
	}
	require.NoError(t, pools.With(ctx, old, nothing))
	require.Equal(t, 2, logins)
}

// A login, or a database, that may have no more connections says nothing about
// its server's: the process goes on asking for as many. All have one SQLSTATE, and
// words in the server's language.
func TestALimitOfOneLoginIsNotTheServers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, db, pools, place := setup(t, tenantdb.Config{MaxConns: 16})
	nothing := func(context.Context, *tenantdb.Conn) error { return nil }
	limit := func(of string, n int) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, fmt.Sprintf(`ALTER %s CONNECTION LIMIT %d`, of, n))
		require.NoError(t, err)
	}
	for _, of := range []string{"ROLE " + db.Job.User, "DATABASE " + db.Job.Database} {
		limit(of, 0)
		for range 3 {
			class, state := tenantdb.Classify(pools.With(ctx, place, nothing))
			require.Equal(t, jobs.ClassServerFull, class, of)
			require.Equal(t, "53300", state)
		}
		require.Equal(t, 16, pools.Servers()[0].Limit, of)
		limit(of, -1)
	}
	require.NoError(t, pools.With(ctx, place, nothing))
}
