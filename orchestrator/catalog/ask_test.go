package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// asks are the ways to ask for tenant acme.
func asks(c *counted, acme catalog.Tenant) map[string]func(context.Context) error {
	place := func(login jobs.Login) func(context.Context) error {
		return func(ctx context.Context) error {
			_, _, err := c.ResolveTenant(ctx, acme.ID, login)
			return err
		}
	}
	look := func(resolve func(context.Context, string) (catalog.Tenant, error), name string) func(context.Context) error {
		return func(ctx context.Context) error {
			found, err := resolve(ctx, name)
			if err == nil && found.ID != acme.ID {
				return fmt.Errorf("%s is %s", name, found.Slug)
			}
			return err
		}
	}
	return map[string]func(context.Context) error{
		"job login": place(jobs.LoginJob), "owner login": place(jobs.LoginOwner),
		"host": look(c.ResolveHost, "Acme.example.com:443"), "e-mail": look(c.ResolveEmail, "ines@acme.example.com"),
		"slug": look(c.ResolveName, "acme"), "UUID": look(c.ResolveName, acme.ID), "org_id": look(c.ResolveName, fmt.Sprint(acme.OrgID)),
	}
}

func (c *counted) addAcme(t testing.TB) catalog.Tenant {
	t.Helper()
	acme := c.addTenant(t, "acme")
	require.NoError(t, c.Domains().Add(t.Context(), "acme", "acme.example.com", catalog.DomainSubdomain))
	require.NoError(t, c.Domains().AddEmail(t.Context(), "acme", "acme.example.com"))
	return acme
}

// A hundred callers at once who miss cost one query, by whatever they ask for.
func TestManyWhoMissAskOnce(t *testing.T) {
	t.Parallel()
	c := setupCounted(t, catalog.Memory{})
	acme := c.addAcme(t)
	for round := range 20 {
		require.NoError(t, c.SetStatus(t.Context(), "acme", catalog.Active)) // forgets what it knew
		for name, ask := range asks(c, acme) {
			before := c.queries.Load()
			var group sync.WaitGroup
			start := make(chan struct{})
			for range 100 {
				group.Go(func() {
					<-start
					if err := ask(t.Context()); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			close(start)
			group.Wait()
			require.EqualValues(t, 1, c.queries.Load()-before, "%s in round %d", name, round)
		}
	}
}

// It all works without prepared statements too, as behind a pooler in transaction
// mode: half way to their end one query confirms all answers.
func TestEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		c := setupCountedBy(t, catalog.Memory{}, func(cfg *pgx.ConnConfig) { cfg.DefaultQueryExecMode = mode })
		acme := c.addAcme(t)
		all := asks(c, acme)
		for name, ask := range all {
			require.NoError(t, ask(t.Context()), "%s: %s", mode, name)
		}
		before := c.queries.Load()
		for range 10 {
			c.later(catalog.FreshFor / 2)
			for name, ask := range all {
				require.NoError(t, ask(t.Context()), "%s: %s", mode, name)
			}
		}
		require.EqualValues(t, 10, c.queries.Load()-before, mode)
	}
}

// What does not exist is asked for once in UnknownFor, and found at once when
// this catalog adds it.
func TestTheUnknownIsRemembered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const unknownFor = 3 * time.Second
	c := setupCounted(t, catalog.Memory{UnknownFor: unknownFor})
	c.addTenant(t, "acme")
	for period := range 3 {
		for name, resolve := range map[string]func(context.Context, string) (catalog.Tenant, error){
			"nobody.example.com": c.ResolveHost, "x@nobody.example.com": c.ResolveEmail, "nobody": c.ResolveName, "4711": c.ResolveName,
		} {
			before := c.queries.Load()
			var group sync.WaitGroup
			for range 10 {
				group.Go(func() {
					for range 1000 {
						if _, err := resolve(ctx, name); !errors.Is(err, jobs.ErrUnknownTenant) {
							t.Errorf("%s: %v", name, err)
						}
					}
				})
			}
			group.Wait()
			require.EqualValues(t, 1, c.queries.Load()-before, "%s in period %d", name, period)
		}
		c.later(unknownFor)
	}
	_, err := c.ResolveHost(ctx, "nobody.example.com")
	require.ErrorIs(t, err, jobs.ErrUnknownTenant)
	require.NoError(t, c.Domains().Add(ctx, "acme", "nobody.example.com", catalog.DomainCustom))
	_, err = c.ResolveHost(ctx, "nobody.example.com")
	require.NoError(t, err)
	before := c.queries.Load()
	for _, host := range []string{"", "127.0.0.1", "a_b", "-", "a..b"} {
		_, err := c.ResolveHost(ctx, host)
		require.Error(t, err)
	}
	require.Equal(t, before, c.queries.Load(), "what no tenant can have is not asked for")
}

// A worker cancels the job of a tenant that is not there, so each of its questions goes to
// the catalog.
func TestTheUnknownIsNotRememberedForWorkers(t *testing.T) {
	t.Parallel()
	c := setupCounted(t, catalog.Memory{})
	for range 3 {
		before := c.queries.Load()
		_, _, err := c.ResolveTenant(t.Context(), "0190aaaa-0000-7000-8000-000000000041", jobs.LoginJob)
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		require.EqualValues(t, 1, c.queries.Load()-before)
	}
}

// However many names are asked for, so many answers are kept; those in use stay.
func TestTheMemoryIsBounded(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const most = 500
	c := setupCounted(t, catalog.Memory{Answers: most})
	acme := c.addAcme(t)
	used := asks(c, acme)["host"]
	for i := range 5000 {
		_, err := c.ResolveHost(ctx, fmt.Sprintf("h%d.example.com", i))
		require.ErrorIs(t, err, jobs.ErrUnknownTenant)
		require.NoError(t, used(ctx))
	}
	require.LessOrEqual(t, c.Remembered(), most)
	before := c.queries.Load()
	require.NoError(t, used(ctx))
	require.Equal(t, before, c.queries.Load(), "a host in use was pushed out by those that do not exist")
}

// cuttable is a way to the server that can be cut.
type cuttable struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	tries atomic.Int64
}

func (c *cuttable) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.tries.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, errors.New("cut")
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	c.conns = append(c.conns, conn)
	return conn, err
}

func (c *cuttable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// While the central database is away, what was known is given for StaleFor and not
// longer, what was not known is refused as such, and hardly anybody asks.
func TestServingThroughAnOutage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const staleFor = time.Minute
	way := &cuttable{}
	c := setupCountedBy(t, catalog.Memory{StaleFor: staleFor}, func(cfg *pgx.ConnConfig) { cfg.DialFunc = way.dial })
	acme := c.addAcme(t)
	all := asks(c, acme)
	for name, ask := range all {
		require.NoError(t, ask(ctx), name)
	}
	way.set(true)
	tries := way.tries.Load()
	const step = 10 * time.Second
	for spent := step; spent < staleFor; spent += step {
		c.later(step)
		for range 100 {
			for name, ask := range all {
				require.NoError(t, ask(ctx), "%s after %s", name, spent)
			}
		}
		_, err := c.ResolveHost(ctx, "other.example.com")
		require.ErrorIs(t, err, catalog.ErrUnavailable)
		require.NotErrorIs(t, err, jobs.ErrUnknownTenant)
	}
	require.LessOrEqual(t, way.tries.Load()-tries, int64(3*staleFor/step), "so many tried to connect")
	c.later(step)
	for name, ask := range all {
		err := ask(ctx)
		require.ErrorIs(t, err, catalog.ErrUnavailable, name)
		require.NotErrorIs(t, err, jobs.ErrUnknownTenant)
	}

	way.set(false)
	c.later(time.Second)
	for name, ask := range all {
		require.NoError(t, ask(ctx), name)
	}
	require.NoError(t, c.SetStatus(ctx, "acme", catalog.Moving))
	way.set(true)
	for name, ask := range all {
		require.ErrorIs(t, ask(ctx), catalog.ErrUnavailable, "%s: what has changed is not given any more", name)
	}
}

// A database that does not answer costs one caller a few seconds, and the others
// nothing.
func TestABlackHole(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := setup(t)
	b.addServer(t)
	b.addTenant(t, "acme")
	_, err := b.ResolveName(ctx, "acme")
	require.NoError(t, err)
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, `LOCK TABLE headgate.tenants IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	eventually(t, "the answer has aged", 5*time.Second, func() bool { return !b.Fresh("acme") })

	_, err = b.ResolveName(ctx, "acme")
	require.NoError(t, err)
	var slow, calls atomic.Int64
	var group sync.WaitGroup
	until := time.Now().Add(5 * time.Second) // some time in it somebody asks again, and waits
	for range 8 {
		group.Go(func() {
			for time.Now().Before(until) {
				began := time.Now()
				if _, err := b.ResolveName(ctx, "acme"); err != nil {
					t.Error(err)
				}
				calls.Add(1)
				if time.Since(began) > time.Second {
					slow.Add(1)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d of %d calls waited", slow.Load(), calls.Load())
	require.Positive(t, slow.Load())
	require.LessOrEqual(t, slow.Load(), int64(4))

	gone, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = b.ResolveName(gone, "somebody")
	require.ErrorIs(t, err, catalog.ErrUnavailable)
}

// A row that cannot be read is that tenant's trouble, and no outage.
func TestOneWrongRowIsNoOutage(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := setupCounted(t, catalog.Memory{})
	acme := c.addAcme(t)
	c.addTenant(t, "other")
	all := asks(c, acme)
	require.NoError(t, all["host"](ctx))
	_, err := c.pool.Exec(ctx, `ALTER TABLE headgate.tenants DROP CONSTRAINT tenants_labels_are_texts; -- which refuses it
UPDATE headgate.tenants SET labels = '{"tier": 1}' WHERE slug = 'acme'`)
	require.NoError(t, err)
	c.later(catalog.FreshFor)
	for name, ask := range all {
		err := ask(ctx)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, catalog.ErrUnavailable, name)
	}
	_, err = c.ResolveName(ctx, "other")
	require.NoError(t, err)
}

// A reader who asked before a change does not store after it what he read, and who
// comes after the change does not wait for that reader's answer.
func TestAnOldReaderStoresNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := setupCounted(t, catalog.Memory{})
	acme := c.addAcme(t)
	for name, ask := range asks(c, acme) {
		require.NoError(t, c.SetStatus(ctx, "acme", catalog.Active))
		c.afterQuery.Store(func() { // its answer is on the way when somebody else changes the row
			require.NoError(t, c.SetStatus(ctx, "acme", catalog.Suspended))
			bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			require.ErrorIs(t, ask(bounded), jobs.ErrTenantSuspended, name)
		})
		require.NoError(t, ask(ctx), name)
		require.ErrorIs(t, ask(ctx), jobs.ErrTenantSuspended, name)
	}
}

// The choices are checked.
func TestMemoryChecks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for want, memory := range map[string]catalog.Memory{
		`catalog.Memory.Answers "-1": give 1 to 1000000`:    {Answers: -1},
		`catalog.Memory.TTL "100ms": give 500ms to 1h`:      {TTL: 100 * time.Millisecond},
		`catalog.Memory.UnknownFor "2h0m0s": give up to 1h`: {UnknownFor: 2 * time.Hour},
		`catalog.Memory.StaleFor "25h0m0s": give up to 24h`: {StaleFor: 25 * time.Hour},
	} {
		_, err := catalog.NewWithConfig(catalog.Config{Pool: b.pool, Memory: memory})
		require.EqualError(t, err, want)
	}
	_, err := catalog.NewWithConfig(catalog.Config{})
	require.ErrorContains(t, err, "Config.Pool is missing")
}

// What an answer costs: 10,000 of them are less than 10 MB and no goroutine.
func TestMemoryOfTheMemory(t *testing.T) {
	ctx := t.Context()
	b := setup(t)
	b.addServer(t)
	tenants := b.addMany(t, 2_000)
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	for _, tenant := range tenants {
		_, _, err := b.ResolveTenant(ctx, tenant.ID, jobs.LoginJob)
		require.NoError(t, err)
	}
	grown := heap() - before
	require.Equal(t, 2_000, b.Remembered())
	t.Logf("%d bytes an answer, %d goroutines more", grown/2_000, runtime.NumGoroutine()-goroutines)
	require.Less(t, grown, int64(2_000*1024), "a kilobyte each")
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines+2)
	runtime.KeepAlive(tenants)
}

// setupCountedBy is a counted catalog whose connections are made in some way.
func setupCountedBy(t *testing.T, memory catalog.Memory, change func(*pgx.ConnConfig)) *counted {
	t.Helper()
	c := &counted{}
	now := time.Unix(1e9, 0)
	c.now.Store(&now)
	cfg, err := pgxpool.ParseConfig(jobstest.Central(t))
	require.NoError(t, err)
	cfg.ConnConfig.Tracer = c
	change(cfg.ConnConfig)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	made, err := catalog.NewWithConfig(catalog.Config{Pool: pool, Ring: ringOf(t, "k1"), Memory: memory})
	require.NoError(t, err)
	c.bundle = bundle{Catalog: made, pool: pool}
	c.At(func() time.Time { return *c.now.Load() })
	c.addServer(t)
	return c
}
