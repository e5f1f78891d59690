//go:build faults

package pages_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// millionSQL makes a queue of a million rows: half of them ended, most of the others waiting.
const millionSQL = `
INSERT INTO river_job (kind, args, state, queue, max_attempts, priority, attempt, attempted_by, attempted_at, created_at, scheduled_at, finalized_at, tags, metadata)
SELECT 'kind-' || n % 40, jsonb_build_object('member', md5(n::text), 'points', n), s.state::river_job_state, 'queue-' || n % 8, 25, 1 + n % 4, s.attempt,
       CASE WHEN s.attempt > 0 THEN ARRAY[gen_random_uuid() || ':' || n] END, CASE WHEN s.attempt > 0 THEN at END, at, at,
       CASE WHEN s.ended THEN at + interval '1 second' END, CASE WHEN n % 1000 = 0 THEN ARRAY['rare']::varchar[] ELSE ARRAY['often']::varchar[] END,
       jsonb_build_object('job_uid', gen_random_uuid(), 'tenant', gen_random_uuid())
FROM generate_series(1, 1000000) n
CROSS JOIN LATERAL (SELECT now() - interval '1 day' + n * interval '80 ms' AS at) t
CROSS JOIN LATERAL (SELECT CASE WHEN n % 100 < 40 THEN 'available' WHEN n % 100 < 45 THEN 'scheduled' WHEN n % 100 < 48 THEN 'retryable'
                                WHEN n % 10000 = 48 THEN 'running' WHEN n % 100 < 90 THEN 'completed' WHEN n % 100 < 95 THEN 'discarded' ELSE 'cancelled' END AS state) k
CROSS JOIN LATERAL (SELECT k.state, k.state IN ('completed', 'discarded', 'cancelled') AS ended, CASE WHEN k.state IN ('available', 'scheduled') THEN 0 ELSE 1 END AS attempt) s`

// Each list and search of River's UI on a million rows is answered within the limit, or ends
// there with a sentence. docs/measurements.md has the figures.
func TestFaultsPagesAtAMillionRows(t *testing.T) {
	s := open(t, nil)
	for _, sql := range []string{millionSQL, `VACUUM (ANALYZE) river_job`, `INSERT INTO river_queue (name, updated_at) SELECT 'queue-' || n, now() FROM generate_series(0, 7) n`} {
		_, err := s.env.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, one := range []string{
		"/states", "/queues", "/queues/queue-1", "/jobs", "/jobs?state=available", "/jobs?state=available&limit=200", "/jobs?state=completed", "/jobs?state=completed&limit=200", "/jobs?state=discarded",
		"/jobs?state=cancelled", "/jobs?state=retryable", "/jobs?state=scheduled", "/jobs?state=completed&kinds=kind-7", "/jobs?state=completed&kinds=none",
		"/jobs?state=available&queues=queue-1", "/jobs?state=available&queues=none", "/jobs?state=available&priorities=3", "/jobs?state=completed&tags=rare", "/jobs?state=completed&tags=none",
		"/jobs?state=completed&ids=500060", "/jobs/500060", "/autocomplete?facet=job_kind", "/autocomplete?facet=job_kind&match=9", "/autocomplete?facet=job_kind&match=none", "/autocomplete?facet=queue_name",
	} {
		var took []time.Duration
		code := 0
		for range 5 {
			began := time.Now()
			got := s.get(path(one))
			took = append(took, time.Since(began))
			code = got.code
			switch code {
			case http.StatusOK:
			case http.StatusServiceUnavailable:
				require.Contains(t, s.says(got), "which is the limit of these pages")
			default:
				t.Errorf("%s: %d %s", one, code, got.body)
			}
			require.Less(t, took[len(took)-1], 5*time.Second)
		}
		slices.Sort(took)
		t.Logf("%-50s %d, median %5d ms, worst %5d ms", one, code, took[2].Milliseconds(), took[4].Milliseconds())
	}
}
