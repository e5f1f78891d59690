package catalog_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// counted is a catalog whose queries are counted and whose time stands still
// until it is moved.
type counted struct {
	bundle
	queries    atomic.Int64
	now        atomic.Pointer[time.Time]
	afterQuery atomic.Value // func(): run once, when the next query has its answer
}

func (c *counted) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}

func (c *counted) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	if after, _ := c.afterQuery.Swap(func() {}).(func()); after != nil {
		after()
	}
}

func (c *counted) later(d time.Duration) {
	now := c.now.Load().Add(d)
	c.now.Store(&now)
}

func setupCounted(t *testing.T, memory catalog.Memory) *counted {
	t.Helper()
	return setupCountedBy(t, memory, func(*pgx.ConnConfig) {})
}

// A change by somebody else counts after FreshFor at the latest, whether or not
// the answers were confirmed meanwhile; until then there is no query.
func TestResolvingIsFreshEnough(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"status":  `UPDATE headgate.tenants SET status = 'suspended'`,
		"address": `UPDATE headgate.databases SET job_version = job_version + 1`,
		"rules":   `UPDATE headgate.servers SET hosts = '{db9.example.com}'`,
		"gone":    `WITH d AS (DELETE FROM headgate.tenant_domains), e AS (DELETE FROM headgate.tenant_emails) DELETE FROM headgate.tenants`,
		"domain":  `UPDATE headgate.tenant_domains SET tenant_id = (SELECT id FROM headgate.tenants WHERE slug = 'other')`,
		"mail":    `DELETE FROM headgate.tenant_emails`,
	} {
		for _, step := range []time.Duration{catalog.FreshFor, catalog.FreshFor / 2, catalog.FreshFor / 3} {
			t.Run(fmt.Sprintf("%s/%s", name, step), func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				c := setupCounted(t, catalog.Memory{})
				acme := c.addTenant(t, "acme")
				c.addTenant(t, "other")
				require.NoError(t, c.Domains().Add(ctx, "acme", "acme.example.com", catalog.DomainCustom))
				require.NoError(t, c.Domains().AddEmail(ctx, "acme", "acme.example.com"))
				works := func() bool {
					_, place, err := c.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
					if err == nil {
						_, err = place.Open(ctx)
					}
					byHost, errHost := c.ResolveHost(ctx, "acme.example.com")
					_, errMail := c.ResolveEmail(ctx, "ines@acme.example.com")
					return err == nil && errHost == nil && errMail == nil && byHost.ID == acme.ID
				}
				require.True(t, works())
				before := c.queries.Load()
				require.True(t, works())
				require.Equal(t, before, c.queries.Load(), "asked from memory")
				_, err := c.pool.Exec(ctx, change)
				require.NoError(t, err)
				for spent := time.Duration(0); spent < catalog.FreshFor; spent += step {
					c.later(step)
					works()
				}
				require.False(t, works())
			})
		}
	}
}

// What this catalog changes counts at once.
func TestResolvingSeesItsOwnChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := setupCounted(t, catalog.Memory{})
	acme := c.addTenant(t, "acme")
	_, old, err := c.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	require.NoError(t, c.Logins().Set(ctx, "acme", jobs.LoginJob, login("rotated", "acme")))
	_, place, err := c.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.NoError(t, err)
	was, err := old.Open(ctx)
	require.NoError(t, err)
	is, err := place.Open(ctx)
	require.NoError(t, err)
	require.NotEqual(t, was.User, is.User)
	require.NoError(t, c.SetStatus(ctx, "acme", catalog.Suspended))
	_, _, err = c.ResolveTenant(ctx, acme.ID, jobs.LoginJob)
	require.ErrorIs(t, err, jobs.ErrTenantSuspended)
}

// A busy worker of many tenants asks about all of them with one query; those
// that nobody asks for are forgotten.
func TestResolvingManyAsksOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := setupCounted(t, catalog.Memory{})
	c.addDatabase(t, "shared", catalog.KindShared)
	params := make([]catalog.TenantParams, 50)
	for i := range params {
		params[i] = catalog.TenantParams{Slug: fmt.Sprintf("t%d", i), Database: "shared", Labels: map[string]string{"tier": "one"}}
	}
	tenants, err := c.AddTenants(ctx, params)
	require.NoError(t, err)
	all := func() {
		var group sync.WaitGroup
		for _, tenant := range tenants {
			group.Go(func() {
				found, _, err := c.ResolveTenant(ctx, tenant.ID, jobs.LoginJob)
				if err != nil || found.Labels["tier"] != "one" {
					t.Errorf("resolving %s: %v, labels %v", tenant.Slug, err, found.Labels)
				}
				found.Labels["tier"] = "mine" // a handler's own copy
			})
		}
		group.Wait()
	}
	all()
	before := c.queries.Load()
	const passes = 20
	for range passes {
		c.later(catalog.FreshFor / 2)
		all()
	}
	require.LessOrEqual(t, c.queries.Load()-before, int64(passes))
	require.Equal(t, 50, c.Remembered())

	c.later(time.Hour)
	_, _, err = c.ResolveTenant(ctx, tenants[0].ID, jobs.LoginJob)
	require.NoError(t, err)
	c.later(catalog.FreshFor / 2)
	_, _, err = c.ResolveTenant(ctx, tenants[0].ID, jobs.LoginJob)
	require.NoError(t, err)
	require.Equal(t, 1, c.Remembered())
}
