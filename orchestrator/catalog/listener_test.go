package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// process stands for one: a catalog on a pool of its own, and a listener.
type process struct {
	bundle
	listener *catalog.Listener
}

// processes share one central database with a server and tenant acme, which has
// a domain.
func processes(t *testing.T, n int, listen func(*pgxpool.Pool) catalog.ListenerConfig) (all []process, acme catalog.Tenant) {
	t.Helper()
	url, ring := jobstest.Central(t), ringOf(t, "k1")
	for i := range n {
		pool, err := pgxpool.New(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		p := process{bundle: bundle{Catalog: catalog.New(pool, ring), pool: pool}}
		if i == 0 {
			p.addServer(t)
			acme = p.addTenant(t, "acme")
			require.NoError(t, p.Domains().Add(t.Context(), "acme", "acme.example.com", catalog.DomainSubdomain))
		}
		cfg := catalog.ListenerConfig{}
		if listen != nil {
			cfg = listen(pool)
		}
		cfg.Logger = slog.New(slog.DiscardHandler)
		p.listener = catalog.NewListener(p.Catalog, cfg)
		require.NoError(t, p.listener.Start(t.Context()))
		t.Cleanup(func() { require.NoError(t, p.listener.Stop(context.Background())) })
		all = append(all, p)
	}
	return all, acme
}

func eventually(t *testing.T, what string, within time.Duration, ok func() bool) (took time.Duration) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > within {
			t.Fatalf("not after %s: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

func (p process) listens(t *testing.T) {
	t.Helper()
	eventually(t, "listening", 10*time.Second, p.listener.Listening)
}

// works says whether a process's answers are those of a tenant that works, as the
// job login's user.
func (p process) works(t *testing.T, acme catalog.Tenant) (user string) {
	t.Helper()
	_, place, err := p.ResolveTenant(t.Context(), acme.ID, jobs.LoginJob)
	_, hostErr := p.ResolveHost(t.Context(), "acme.example.com")
	if err := errors.Join(err, hostErr); err != nil { // two answers, remembered at two times: one may know earlier
		require.ErrorIs(t, err, jobs.ErrTenantSuspended)
		return ""
	}
	a, err := place.Open(t.Context())
	require.NoError(t, err)
	return a.User
}

// changes are made in one process, and must be seen in all.
var changes = []struct {
	name string
	make func(t *testing.T, b bundle)
	user string // afterwards
}{
	{"password and address", func(t *testing.T, b bundle) {
		a := login("rotated", "acme")
		a.Host, a.Port = "db1-standby.example.com", 6432
		require.NoError(t, b.Logins().Set(t.Context(), "acme", jobs.LoginJob, a))
	}, "rotated"},
	{"suspended", func(t *testing.T, b bundle) {
		require.NoError(t, b.SetStatus(t.Context(), "acme", catalog.Suspended))
	}, ""},
	{"active, by psql", func(t *testing.T, b bundle) {
		_, err := b.pool.Exec(t.Context(), `UPDATE headgate.tenants SET status = 'active'`)
		require.NoError(t, err)
	}, "rotated"},
}

// A change counts in every process within 2 seconds: by notification, although
// the answers are believed for 10 seconds.
func TestEveryProcessSeesAChange(t *testing.T) {
	t.Parallel()
	all, acme := processes(t, 2, nil)
	for _, p := range all {
		p.listens(t)
		require.Equal(t, "acme_job", p.works(t, acme))
	}
	for _, change := range changes {
		change.make(t, all[0].bundle)
		for _, p := range all {
			took := eventually(t, change.name, 2*time.Second, func() bool { return p.works(t, acme) == change.user })
			t.Logf("%s: seen after %s", change.name, took)
		}
	}
}

// With the listeners cut off a change counts within FreshFor, and within the TTL
// where nobody knows that notifications are lost; a new listener hears again.
func TestEveryProcessSeesAChangeWithoutNotifications(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	all, acme := processes(t, 2, nil)
	for _, p := range all {
		p.listens(t)
		require.Equal(t, "acme_job", p.works(t, acme))
	}
	_, err := all[0].pool.Exec(ctx, `ALTER TABLE headgate.tenants DISABLE TRIGGER USER; ALTER TABLE headgate.databases DISABLE TRIGGER USER`)
	require.NoError(t, err)
	cut := func() {
		_, err := all[0].pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`)
		require.NoError(t, err)
	}
	for _, change := range changes {
		cut()
		for _, p := range all {
			eventually(t, "the listener is cut off", 5*time.Second, func() bool { return !p.listener.Listening() })
		}
		change.make(t, all[0].bundle)
		for _, p := range all {
			took := eventually(t, change.name, 2*time.Second, func() bool { return p.works(t, acme) == change.user })
			t.Logf("%s: seen after %s", change.name, took)
		}
		for _, p := range all {
			p.listens(t)
		}
	}
}

// A lost notification costs the TTL at most, by the memory's own clock.
func TestALostNotificationCostsTheTTL(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := setupCounted(t, catalog.Memory{TTL: 7 * time.Second})
	acme := c.addTenant(t, "acme")
	l := catalog.NewListener(c.Catalog, catalog.ListenerConfig{})
	require.NoError(t, l.Start(ctx))
	t.Cleanup(func() { require.NoError(t, l.Stop(context.Background())) })
	process{c.bundle, l}.listens(t)
	works := func() bool {
		_, _, err := c.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
		return err == nil
	}
	require.True(t, works())
	_, err := c.pool.Exec(ctx, `ALTER TABLE headgate.tenants DISABLE TRIGGER USER; UPDATE headgate.tenants SET status = 'suspended'`)
	require.NoError(t, err)
	before := c.queries.Load()
	c.later(3 * time.Second) // no half yet
	require.True(t, works())
	require.Equal(t, before, c.queries.Load(), "a listening process asks nothing before half the TTL")
	c.later(4 * time.Second)
	require.False(t, works())
}

// What is new is known at once, although it was unknown before.
func TestWhatIsNewIsNotified(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	all, _ := processes(t, 2, nil)
	for _, p := range all {
		p.listens(t)
	}
	there := all[1]
	unknown := func() bool {
		_, err := there.ResolveHost(ctx, "new.example.com")
		_, mailErr := there.ResolveEmail(ctx, "ines@new.example.com")
		_, nameErr := there.ResolveName(ctx, "new")
		return err != nil && mailErr != nil && nameErr != nil
	}
	require.True(t, unknown())
	all[0].addTenant(t, "new")
	require.NoError(t, all[0].Domains().Add(ctx, "new", "new.example.com", catalog.DomainCustom))
	require.NoError(t, all[0].Domains().AddEmail(ctx, "new", "new.example.com"))
	took := eventually(t, "all three are known", time.Second, func() bool {
		_, err := there.ResolveHost(ctx, "new.example.com")
		_, mailErr := there.ResolveEmail(ctx, "ines@new.example.com")
		_, nameErr := there.ResolveName(ctx, "new")
		return err == nil && mailErr == nil && nameErr == nil
	})
	t.Logf("known after %s", took)

	for _, sql := range []string{
		`UPDATE headgate.tenants SET slug = 'newer' WHERE slug = 'new'`,
		`DELETE FROM headgate.tenant_domains WHERE domain = 'new.example.com'`,
		`TRUNCATE headgate.tenant_emails`,
	} {
		_, err := all[0].pool.Exec(ctx, sql)
		require.NoError(t, err)
	}
	eventually(t, "all three are gone", time.Second, unknown)
	eventually(t, "the new name is known", time.Second, func() bool {
		_, err := there.ResolveName(ctx, "newer")
		return err == nil
	})
}

// More rows than fit into a notification flush everything.
func TestManyChangesInOneStatement(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	all, acme := processes(t, 1, nil)
	p := all[0]
	p.addMany(t, 1000)
	p.listens(t)
	require.NotEmpty(t, p.works(t, acme))
	_, err := p.pool.Exec(ctx, `UPDATE headgate.tenants SET status = 'suspended'`)
	require.NoError(t, err)
	eventually(t, "suspended", 2*time.Second, func() bool { return p.works(t, acme) == "" })
}

// A notification names 200 tenants at most. Of more it names none, because who is not
// named would be believed to be as before.
func TestANotificationNamesAllOrNone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	all, _ := processes(t, 1, nil)
	p := all[0]
	p.listens(t) // its greeting has been sent
	p.addMany(t, 201)
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, `LISTEN headgate_catalog`)
	require.NoError(t, err)
	for changed, want := range map[int]int{200: 200, 201: 0} {
		_, err = p.pool.Exec(ctx, `UPDATE headgate.tenants SET name = $2 WHERE slug ~ '^t[0-9]+$' AND substr(slug, 2)::int < $1`, changed, fmt.Sprint(changed))
		require.NoError(t, err)
		told, err := conn.WaitForNotification(ctx)
		require.NoError(t, err)
		if want == 0 {
			require.Equal(t, "*", told.Payload)
			continue
		}
		require.Len(t, strings.Split(told.Payload, ","), want)
	}
}

// A listener whose notifications go astray, as behind a pooler in transaction
// mode, does not believe that it listens, and answers stay fresh.
func TestADeafListenerKnowsIt(t *testing.T) {
	t.Parallel()
	other := jobstest.EmptyDatabase(t)
	all, acme := processes(t, 1, func(*pgxpool.Pool) catalog.ListenerConfig {
		elsewhere, err := pgx.ParseConfig(jobstest.ServerURL(t, other))
		require.NoError(t, err)
		return catalog.ListenerConfig{Conn: elsewhere}
	})
	p := all[0]
	require.NotEmpty(t, p.works(t, acme))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := catalog.ListenOnce(ctx, p.listener)
	require.ErrorContains(t, err, "notifications do not arrive; is there a pooler in transaction mode between?")
	require.False(t, p.listener.Listening())
}

// It stops while it waits, while it cannot connect, twice, and without a start.
func TestAListenerStops(t *testing.T) {
	t.Parallel()
	all, _ := processes(t, 1, nil)
	all[0].listens(t)
	require.NoError(t, all[0].listener.Stop(t.Context()))
	require.NoError(t, all[0].listener.Stop(t.Context()))
	require.False(t, all[0].listener.Listening())
	require.NoError(t, catalog.NewListener(all[0].Catalog, catalog.ListenerConfig{}).Stop(t.Context()))

	nowhere, err := pgx.ParseConfig("postgres://nobody@127.0.0.1:1/nothing")
	require.NoError(t, err)
	l := catalog.NewListener(all[0].Catalog, catalog.ListenerConfig{Conn: nowhere, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, l.Start(t.Context()))
	require.ErrorContains(t, l.Start(t.Context()), "the catalog's listener: it runs already")
	require.NoError(t, l.Stop(t.Context()))

	require.NoError(t, all[0].listener.Start(t.Context()))
	all[0].listens(t) // again
}

// Each change of a table that answers are made of is notified by the id that they are
// remembered under; what is new, by none, because nothing is remembered of it.
func TestEveryChangeOfTheCatalogIsNotified(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := setup(t)
	server := b.addServer(t)
	acme := b.addTenant(t, "acme")
	require.NoError(t, b.Domains().AddEmail(ctx, "acme", "acme.example.com"))
	require.NoError(t, b.Domains().Add(ctx, "acme", "acme.example.com", catalog.DomainSubdomain))
	conn, err := b.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, `LISTEN headgate_catalog`)
	require.NoError(t, err)
	for _, c := range []struct{ sql, want string }{
		{`UPDATE headgate.servers SET state = 'down'`, server.ID},
		{`UPDATE headgate.databases SET name = name`, "database"},
		{`UPDATE headgate.tenants SET plan = 'pro'`, acme.ID},
		{`UPDATE headgate.tenant_domains SET domain = 'x.example.com'`, acme.ID},
		{`UPDATE headgate.tenant_emails SET domain = 'x.example.com'`, acme.ID},
		{`DELETE FROM headgate.tenant_domains`, acme.ID},
		{`DELETE FROM headgate.tenant_emails`, acme.ID},
		{`INSERT INTO headgate.tenant_domains (domain, tenant_id, kind) SELECT 'y.example.com', id, 'custom' FROM headgate.tenants`, ""},
		{`INSERT INTO headgate.tenant_emails (domain, tenant_id) SELECT 'y.example.com', id FROM headgate.tenants`, ""},
		{`TRUNCATE headgate.tenant_domains`, "*"},
		{`TRUNCATE headgate.tenant_emails`, "*"},
	} {
		_, err := b.pool.Exec(ctx, c.sql)
		require.NoError(t, err, c.sql)
		if c.want == "database" {
			require.NoError(t, b.pool.QueryRow(ctx, `SELECT id::text FROM headgate.databases`).Scan(&c.want))
		}
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		n, err := conn.Conn().WaitForNotification(wait)
		cancel()
		require.NoError(t, err, c.sql)
		require.Equal(t, c.want, n.Payload, c.sql)
	}
}

// So many ids fit into a notification, and one more flushes everything: no id is left
// out.
func TestAsManyIdsAsFitAreNotified(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	b := setup(t)
	b.addServer(t)
	b.addDatabase(t, "shared", catalog.KindShared)
	params := make([]catalog.TenantParams, 201)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: "shared"}
	}
	_, err := b.AddTenants(ctx, params)
	require.NoError(t, err)
	conn, err := b.pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(ctx, `LISTEN headgate_catalog`)
	require.NoError(t, err)
	for sql, ids := range map[string]int{
		`UPDATE headgate.tenants SET plan = 'a' WHERE slug <> 't0'`: 200,
		`UPDATE headgate.tenants SET plan = 'b'`:                    0,
	} {
		_, err := b.pool.Exec(ctx, sql)
		require.NoError(t, err)
		wait, cancel := context.WithTimeout(ctx, 20*time.Second)
		n, err := conn.Conn().WaitForNotification(wait)
		cancel()
		require.NoError(t, err)
		if ids == 0 {
			require.Equal(t, "*", n.Payload)
		} else {
			require.Len(t, strings.Split(n.Payload, ","), ids)
		}
	}
}
