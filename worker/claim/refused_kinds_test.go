package claim_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// Jobs of a kind that a tenant may not have are not claimed, whoever decides that and how:
// from the next claim on, and until it is over. Nothing reads the jobs themselves.
func TestRefusedKindsAreHeld(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.exec(addJobs, 20_000, "a", 1, 2)
	p := f.process(20, "a")
	ctx := context.Background()
	first, second := f.tenant(1), f.tenant(2)
	claimed := func() map[string]int {
		of := map[string]int{}
		jobs := p.claim(ctx, 20)
		for _, job := range jobs {
			of[tenantOf(job)]++
		}
		p.finish(jobs...)
		return of
	}
	f.exec(`INSERT INTO headgate.features (name, type) VALUES ('reports', 'boolean')`)
	for _, step := range []struct {
		sql     string
		allowed []string
	}{
		{`SELECT`, []string{first, second}},
		{`UPDATE headgate.tenants SET kinds = '{other}' WHERE org_id = 1`, []string{second}},
		{`UPDATE headgate.tenants SET kinds = NULL`, []string{first, second}},
		{`UPDATE headgate.plans SET kinds = '{}'`, nil},
		{`UPDATE headgate.tenants SET kinds = '{a}' WHERE org_id = 1`, []string{first}}, // its own list goes before the plan's
		{`UPDATE headgate.plans SET kinds = NULL`, []string{first, second}},
		{`INSERT INTO headgate.feature_gates (feature, kind) VALUES ('reports', 'a')`, nil},
		{`UPDATE headgate.tenants SET features = '{"reports": true}' WHERE org_id = 1`, []string{first}},
		{`UPDATE headgate.plans SET features = '{"reports": true}'`, []string{first, second}},
		{`UPDATE headgate.tenants SET features = '{"reports": false}' WHERE org_id = 1`, []string{second}},
		{`UPDATE headgate.tenants SET features = '{}'`, []string{first, second}},
		{`UPDATE headgate.plans SET features = '{}'`, nil},
		{`UPDATE headgate.features SET default_value = 'true'`, []string{first, second}},
		{`UPDATE headgate.features SET default_value = NULL`, nil},
		{`DELETE FROM headgate.feature_gates`, []string{first, second}},
	} {
		f.exec(step.sql)
		got := map[string]int{}
		for n := 0; n == 0 || n < 100 && len(got) < len(step.allowed); n++ { // whose virtual time is low has more turns
			for tenant, jobs := range claimed() {
				got[tenant] += jobs
			}
		}
		require.Len(t, got, len(step.allowed), step.sql)
		for _, tenant := range step.allowed {
			require.Positive(t, got[tenant], step.sql)
		}
	}
	require.Zero(t, f.number(`SELECT count(*) FROM river_job WHERE state = 'available' AND attempt > 0`))
}
