package catalog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// apiLogin is a session that has the rights of role headgate_api and no others.
func apiLogin(t *testing.T, url string) func(sql string, args ...any) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return func(sql string, args ...any) error {
		_, err := conn.Exec(t.Context(), sql, args...)
		return err
	}
}

// An UPDATE that archived or removed a tenant left its waiting jobs on hold for ever, unlike
// the commands, and a removed tenant kept its domains and schedules.
func TestAStatusSetBySQLBringsAlongWhatTheCommandDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bySQL  string
		by     func(e catalog.TenantEditor) error
		cancel bool
	}{
		"archived": {`UPDATE headgate.tenants SET status = 'archived' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.SetStatus(t.Context(), []string{"brick"}, catalog.StatusChange{To: catalog.Archived})
			return err
		}, true},
		"archived, and held": {`UPDATE headgate.tenants SET status = 'archived', waiting = 'hold' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.SetStatus(t.Context(), []string{"brick"}, catalog.StatusChange{To: catalog.Archived, Waiting: catalog.HoldWaiting})
			return err
		}, false},
		"suspended": {`UPDATE headgate.tenants SET status = 'suspended' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.SetStatus(t.Context(), []string{"brick"}, catalog.StatusChange{To: catalog.Suspended})
			return err
		}, false},
		"suspended, and cancelled": {`UPDATE headgate.tenants SET status = 'suspended', waiting = 'cancel' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.SetStatus(t.Context(), []string{"brick"}, catalog.StatusChange{To: catalog.Suspended, Waiting: catalog.CancelWaiting})
			return err
		}, true},
		"removed": {`UPDATE headgate.tenants SET status = 'removed' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.Remove(t.Context(), []string{"brick"}, nil)
			return err
		}, true},
		"removed, and held": {`UPDATE headgate.tenants SET status = 'removed', waiting = 'hold' WHERE slug = 'acme'`, func(e catalog.TenantEditor) error {
			_, err := e.Remove(t.Context(), []string{"brick"}, nil)
			return err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := roomtest.SetupDirect(t)
			ctx := t.Context()
			_, url := env.RoleLogin("api")
			exec := apiLogin(t, url)
			var uids []string
			for _, slug := range []string{"acme", "brick"} {
				result, err := env.Client.Enqueue(ctx, slug, roomtest.Note{Text: "x"}, nil)
				require.NoError(t, err)
				uids = append(uids, result.UID)
				require.NoError(t, exec(`INSERT INTO headgate.tenant_domains (domain, tenant_id, kind) SELECT slug || '.example.com', id, 'custom' FROM headgate.tenants WHERE slug = $1`, slug))
				require.NoError(t, exec(`INSERT INTO headgate.tenant_limits (tenant_id, max_running) SELECT id, 3 FROM headgate.tenants WHERE slug = $1`, slug))
				require.NoError(t, exec(`INSERT INTO headgate.pauses (scope, target) SELECT 'tenant', id::text FROM headgate.tenants WHERE slug = $1`, slug))
			}
			require.NoError(t, exec(c.bySQL))
			require.NoError(t, c.by(env.Catalog.Editor()))
			const left = `SELECT format('%s %s %s %s %s %s %s', t.status, t.waiting, t.slug = t.id::text, t.status_since > t.created_at, (SELECT count(*) FROM headgate.tenant_domains x WHERE x.tenant_id = t.id),
				(SELECT count(*) FROM headgate.tenant_limits x WHERE x.tenant_id = t.id), (SELECT count(*) FROM headgate.pauses x WHERE x.target = t.id::text)) FROM headgate.tenants t WHERE t.name = $1`
			var one, other string
			require.NoError(t, env.Pool.QueryRow(ctx, left, "acme").Scan(&one))
			require.NoError(t, env.Pool.QueryRow(ctx, left, "brick").Scan(&other))
			require.Equal(t, other, one)
			cancelled := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Cancelled
			for _, uid := range uids {
				want := jobs.Waiting
				if c.cancel {
					want = jobs.Cancelled
				}
				require.Equal(t, want, roomtest.JobOf(t, env, uid).State)
			}
			require.Equal(t, map[bool]int{true: 2, false: 0}[c.cancel], cancelled)
		})
	}
}

// The control of the test before: without the trigger the jobs of a tenant that an UPDATE
// archived wait for ever.
func TestWithoutTheTriggerJobsOfAnArchivedTenantWait(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	roomtest.Enqueue(t, env)
	roomtest.Do(t, env, `ALTER TABLE headgate.tenants DISABLE TRIGGER a_note_status`)
	roomtest.Do(t, env, `UPDATE headgate.tenants SET status = 'archived' WHERE slug = 'acme'`)
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})).Cancelled)
}

// A writer who set back since when a tenant was moving changed its database at once, while
// workers remembered the old one.
func TestNobodySetsSinceWhenAStatusIs(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	env.Database("other", jobstest.DatabaseOpts{})
	_, url := env.RoleLogin("api")
	exec := apiLogin(t, url)
	const move = `UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'other') WHERE slug = 'acme'`
	for _, sql := range []string{
		`UPDATE headgate.tenants SET status = 'moving', status_since = now() - interval '1 minute' WHERE slug = 'acme'`,
		`UPDATE headgate.tenants SET status_since = now() - interval '1 minute' WHERE slug = 'acme'`,
		`UPDATE headgate.tenants SET status = 'active' WHERE slug = 'acme'; UPDATE headgate.tenants SET status = 'moving', status_since = '2020-01-01' WHERE slug = 'acme'`,
	} {
		require.NoError(t, exec(sql))
		require.ErrorContains(t, exec(move), "a worker may remember for ten seconds", sql)
	}
	require.ErrorContains(t, exec(`UPDATE headgate.tenants SET status = 'removed' WHERE slug = 'acme'`), "is moving, and is not removed meanwhile")
	require.NoError(t, exec(`INSERT INTO headgate.tenants (id, org_id, slug, name, status, status_since, database_id, database_kind)
		SELECT gen_random_uuid(), 77, 'early', 'early', 'moving', now() - interval '1 minute', database_id, database_kind FROM headgate.tenants WHERE slug = 'brick'`))
	require.ErrorContains(t, exec(`UPDATE headgate.tenants SET database_id = (SELECT id FROM headgate.databases WHERE name = 'other') WHERE slug = 'early'`), "a worker may remember")

	// The control: without the trigger the tenant leaves at once.
	roomtest.Do(t, env, `ALTER TABLE headgate.tenants DISABLE TRIGGER a_note_status`)
	require.NoError(t, exec(`UPDATE headgate.tenants SET status_since = now() - interval '1 minute' WHERE slug = 'acme'`))
	require.NoError(t, exec(move))
}

// The number by which a tenant's rows, jobs and history know it changed by an UPDATE of one
// login, and the tenant saw another's rows.
func TestATenantKeepsItsNumbers(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	_, url := env.RoleLogin("api")
	exec := apiLogin(t, url)
	for _, set := range []string{`id = gen_random_uuid()`, `org_id = 500`, `org_id = 500, slug = 'other'`, `id = gen_random_uuid(), status = 'removed'`} {
		require.ErrorContains(t, exec(`UPDATE headgate.tenants SET `+set+` WHERE slug = 'acme'`), "keeps its id and its org_id", set)
	}
	require.NoError(t, exec(`UPDATE headgate.tenants SET org_key = 'k', id = id, org_id = org_id WHERE slug = 'acme'`), "`tenant set --org-key` does so")

	roomtest.Do(t, env, `ALTER TABLE headgate.tenants DISABLE TRIGGER tenant_stays_itself`)
	require.NoError(t, exec(`UPDATE headgate.tenants SET org_id = 500, id = gen_random_uuid() WHERE slug = 'acme'`), "the control")
}
