package protection_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/worker/tenantdb/protection"
)

const manyThings = `
DO $$ BEGIN
    FOR i IN 1..300 LOOP
        EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, org_id bigint NOT NULL, a text, b text, c int, d timestamptz, e jsonb, f numeric, g text, h text)', i);
        EXECUTE format('ALTER TABLE t%s ENABLE ROW LEVEL SECURITY', i);
        EXECUTE format('CREATE POLICY headgate_others ON t%s USING (true)', i);
        EXECUTE format('CREATE POLICY headgate_org ON t%s AS RESTRICTIVE TO headgate_job USING (org_id = (SELECT headgate.current_org()))', i);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON t%s TO headgate_job', i);
    END LOOP;
    FOR i IN 1..2000 LOOP
        EXECUTE format('CREATE FUNCTION f%s (int) RETURNS int LANGUAGE sql AS ''SELECT 1''', i);
    END LOOP;
END $$`

// At 300 tables and 2,000 functions the check says nothing is open, and what it costs is told.
// The bound is loose, because the machine may be busy; docs/measurements.md has figures.
func TestTheCheckAtSize(t *testing.T) {
	t.Parallel()
	h := newHouse(t, manyThings)
	h.root(`ANALYZE`)
	best := func(what func()) time.Duration {
		least := time.Hour
		for range 30 {
			began := time.Now()
			what()
			least = min(least, time.Since(began))
		}
		return least
	}
	report := h.inspect()
	require.Empty(t, report.Open())
	require.Equal(t, 300, report.Relations)
	fingerprint := best(func() { h.fingerprint() })
	full := best(func() {
		_, err := protection.Inspect(context.Background(), h.job, protection.Options{})
		require.NoError(t, err)
	})
	t.Logf("fingerprint %s, full check %s (best of 30)", fingerprint, full)
	require.Less(t, fingerprint, 100*time.Millisecond)
	require.Less(t, full, 5*time.Second)
}
