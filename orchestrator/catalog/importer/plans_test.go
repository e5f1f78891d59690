package importer_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/catalog/importer"
)

// A slip of the pen in a column of plans made a plan without defaults, and nothing said so.
func TestAnImportTellsThePlansThatBeginWithIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.exec(t, `INSERT INTO headgate.plans (name) VALUES ('pro'), ('enterprise')`)
	for _, dry := range []bool{true, false} {
		plan, err := b.Import(context.Background(), readCSV(t, "slug,plan\naa,pro\nbb,Pro\ncc,entreprise\ndd,\nee,entreprise\n"), importer.Options{Database: "shared-1", DryRun: dry})
		require.NoError(t, err)
		require.Equal(t, []importer.NewPlan{{Name: "Pro", Line: 3, Tenants: 1, Near: "pro"}, {Name: "entreprise", Line: 4, Tenants: 2, Near: "enterprise"}}, plan.NewPlans)
		require.Contains(t, plan.Summary(dry), "; plans: 2 new")
	}
	again := b.imports(t, "slug,plan\naa,pro\nbb,Pro\ncc,free\ndd,\n")
	require.Equal(t, []importer.NewPlan{{Name: "free", Line: 4, Tenants: 1}}, again.NewPlans, "a change of a tenant counts, and a plan is new once")
	again = b.imports(t, "slug,plan\naa,pro\nbb,Pro\ncc,free\ndd,\n")
	require.Equal(t, []importer.NewPlan{}, again.NewPlans)
	require.NotContains(t, again.Summary(false), "plans:")
}

// Each row may name a plan of its own: the list is bounded, and so is the search of near names.
func TestManyNewPlansAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var text strings.Builder
	text.WriteString("slug,plan\n")
	for i := range 10_000 {
		fmt.Fprintf(&text, "t%d,plan-%d\n", i, i)
	}
	plan := b.imports(t, text.String())
	require.Equal(t, 10_000, plan.Plans)
	require.Len(t, plan.NewPlans, 20)
	require.Equal(t, "plan-0", plan.NewPlans[0].Name)
}

// A cell too few puts a password into the column of plans.
func TestANewPlanOfAnInputWithLoginsIsNotNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	plan, err := b.Import(context.Background(), readCSV(t, "slug,plan,database,db_password\naa,S3cret,shared-1,\n"), importer.Options{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, []importer.NewPlan{{Line: 2, Tenants: 1}}, plan.NewPlans)
}
