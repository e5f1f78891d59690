package schedule_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/central"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/schedule"
)

// A new tenant has its schedules within five seconds of a running scheduler, also
// beside one that has stopped while it held the lock of selectors.
func TestANewTenantHasItsSchedulesInSeconds(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	setTemplate(t, env, schedule.TemplateParams{Name: "nightly", Select: selecting(t, "plan=pro"), Spec: schedule.Spec{Cron: "0 7 * * *"}})
	s := schedule.NewScheduler(env.Schedules, schedule.SchedulerConfig{})
	require.NoError(t, s.Start(ctx))
	defer func() { require.NoError(t, s.Stop(ctx)) }()
	add := func(slug string, within time.Duration) {
		_, err := env.Catalog.AddTenant(ctx, catalog.TenantParams{Slug: slug, Name: slug, Database: "shared", Plan: "pro"})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			got, err := env.Schedules.Get(ctx, of(slug, "nightly"))
			return err == nil && got.Nominal != nil && got.Nominal.After(time.Now())
		}, within, 10*time.Millisecond, slug)
	}
	add("first", 5*time.Second)
	stopped, err := central.Begin(ctx, env.Pool, schedule.SelectorLimits)
	require.NoError(t, err)
	defer func() { _ = stopped.Rollback(ctx) }()
	_, err = stopped.Exec(ctx, schedule.LockTemplates)
	require.NoError(t, err)
	add("second", 10*time.Second)
}

// An INSERT of a tenant costs the same whether there are selectors or not, and to
// give it its schedules reads its own rows, not those of ten thousand others.
func TestSelectorsCostANewTenantNothing(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	crowd(t, env, 10_000, 2)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET plan = 'p' || org_id % 100`)
	roomtest.Do(t, env, `DELETE FROM headgate.selector_changes`)
	roomtest.Do(t, env, `VACUUM ANALYZE headgate.tenants`)
	roomtest.Do(t, env, `
CREATE FUNCTION add_one(p_org bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO headgate.tenants (id, org_id, slug, name, plan, database_id, database_kind)
    SELECT gen_random_uuid(), p_org, 'n' || p_org, 'n', 'p7', id, kind FROM headgate.databases WHERE name = 'shared';
END $$`)
	buffers := func(sql string, args ...any) int {
		var plan []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		require.NoError(t, env.Pool.QueryRow(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+sql, args...).Scan(&plan))
		return plan[0].Plan.Hit + plan[0].Plan.Read
	}
	_ = buffers(`SELECT add_one(900000)`) // the session's own caches
	_ = buffers(`SELECT add_one(900001)`)
	none := buffers(`SELECT add_one(900002)`)
	for i := range 50 {
		setTemplate(t, env, schedule.TemplateParams{Name: fmt.Sprint("template-", i), Select: selecting(t, fmt.Sprint("plan=p", i)), Spec: schedule.Spec{Cron: "@daily"}})
	}
	roomtest.Do(t, env, `ANALYZE headgate.schedules`)
	_ = buffers(`SELECT add_one(900003)`)
	fifty := buffers(`SELECT add_one(900004)`)
	t.Logf("buffers of an INSERT: %d without selectors, %d with 50", none, fifty)
	require.LessOrEqual(t, fifty, none+10)

	_ = buffers(`SELECT headgate.sync_fleets(NULL, ARRAY(SELECT id FROM headgate.tenants WHERE slug = 'n900003'))`)
	given := buffers(`SELECT headgate.sync_fleets(NULL, ARRAY(SELECT id FROM headgate.tenants WHERE slug = 'n900004'))`)
	var pages int
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT pg_relation_size('headgate.tenants') / 8192`).Scan(&pages))
	t.Logf("buffers of giving it its schedules: %d; the tenants' table has %d", given, pages)
	require.Less(t, given, 50*10, "a few for each selector")
	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.schedules s JOIN headgate.tenants t ON t.id = s.tenant_id WHERE t.slug = 'n900004'`))
	require.Greater(t, 50*pages, 50*10, "a scan for each would be seen")

	// The statement that reads given tenants, as its function has it.
	var body string
	require.NoError(t, env.Pool.QueryRow(ctx, `SELECT prosrc FROM pg_proc WHERE oid = 'headgate.selections'::regproc`).Scan(&body))
	_, statement, found := strings.Cut(body, "WITH given AS")
	require.True(t, found)
	statement, _, found = strings.Cut(statement, ";")
	require.True(t, found)
	statement = strings.NewReplacer("p_fleets", "NULL::uuid[]", "p_tenants", "ARRAY(SELECT id FROM headgate.tenants WHERE slug = 'n900004')").Replace(statement)
	rows, err := env.Pool.Query(ctx, `EXPLAIN WITH given AS`+statement)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	text := strings.Join(plan, "\n")
	require.Contains(t, text, "Index Cond: (id = x.id)", "by the key, whichever index has it")
	require.NotContains(t, text, "Seq Scan on tenants", text)
}
