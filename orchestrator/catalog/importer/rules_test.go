package importer_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// The plan promised what the write refused with a raw error of Postgres.
func TestAPlanKnowsWhatADatabaseTakes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `UPDATE headgate.databases SET max_tenants = 2, plans = '{pro}' WHERE name = 'shared-1'`)
	wrong := b.refused(t, "slug,plan\naa,pro\nbb,free\ncc,pro\n", importer.Options{Database: "shared-1", DryRun: true})
	require.Equal(t, []importer.RowError{
		{Line: 3, Says: `plan: database "shared-1" takes no tenant of plan "free"; ` + "`headgate database set shared-1 --plan pro --plan free` lets the plan in, or give another database"},
		{Line: 4, Says: `database: "shared-1" takes 2 tenants, and this would be its tenant number 3; ` + "`headgate database set shared-1 --max-tenants N` raises that, or give another"},
	}, wrong)
	require.Equal(t, 2, b.imports(t, "slug,plan\naa,pro\nbb,pro\n").Added)
}

// A slug that a grant names is another tenant's tomorrow, with the grant.
func TestAPlanKnowsTheSlugsThatGrantsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.imports(t, "slug,org_id\naa,5\nbb,6\n")
	b.exec(t, `INSERT INTO headgate.enqueue_grants (role, kind, selector, selection.tenants, selection.path) VALUES ('app', 'note', 'aa', '{aa}', '$')`)
	wrong := b.refused(t, "slug,org_id\ncc,5\ndd,6\n", importer.Options{Database: "shared-1", DryRun: true})
	require.Len(t, wrong, 1)
	require.Equal(t, 2, wrong[0].Line)
	require.Contains(t, wrong[0].Says, "`headgate enqueue-grant remove app note` takes the grant out first")
}

// One row of a removed tenant stopped the sync of all.
func TestARemovedTenantInTheSourceIsLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.syncs(t, "slug,org_id\ngone,5\nstays,6\n")
	b.exec(t, `UPDATE headgate.tenants SET status = 'removed', slug = id::text WHERE slug = 'gone'`)
	plan := b.syncs(t, "slug,org_id\ngone,5\nstays,6\nnew,7\n")
	require.Equal(t, 1, plan.Removed)
	require.Equal(t, 1, plan.Added)
	require.Contains(t, plan.Summary(false), "; removed tenants in the source, left out: 1")
	require.Equal(t, "removed", one[string](t, b, `SELECT status FROM headgate.tenants WHERE org_id = 5`))
}

// An import that archived left the waiting jobs, unlike the command; and who was resumed with
// SQL lost jobs with the next suspension.
func TestWhatBecomesOfWaitingJobsFollowsTheStatus(t *testing.T) {
	t.Parallel()
	b := setup(t)
	waiting := func() string { return one[string](t, b, `SELECT status || ' ' || waiting FROM headgate.tenants`) }
	b.syncs(t, "slug,status\naa,active\n")
	b.syncs(t, "slug,status\naa,archived\n")
	require.Equal(t, "archived cancel", waiting())
	b.exec(t, `UPDATE headgate.tenants SET status = 'active', status_reason = ''`)
	require.Equal(t, "active hold", waiting())
	b.exec(t, `UPDATE headgate.tenants SET waiting = 'cancel'`)
	b.syncs(t, "slug,status\naa,suspended\n")
	require.Equal(t, "suspended hold", waiting())
}
