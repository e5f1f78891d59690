package explain_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/explain"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// The load of a server is the sum over the hands of living workers; its breaker is
// the row that all go by, or the worst of what workers know.
func TestServerLoadsOfHands(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	ctx := context.Background()
	load := func() explain.ServerLoad {
		t.Helper()
		loads, err := env.Explain.ServerLoads(ctx)
		require.NoError(t, err)
		for _, l := range loads {
			return l
		}
		return explain.ServerLoad{}
	}
	require.Zero(t, load())
	roomtest.Holds(t, env, `{"servers": {"S": {"jobs": 2, "conns": 5}}}`)
	roomtest.Holds(t, env, `{"servers": {"S": {"jobs": 3, "conns": 1}}}`)
	require.Equal(t, explain.ServerLoad{Running: 5, InUse: 8, Breaker: "closed"}, load())
	roomtest.Do(t, env, `UPDATE headgate.workers w SET servers = json_build_object(s.id, json_build_object('open', 4, 'waiting', 1, 'breaker', 'half-open')) FROM headgate.servers s
WHERE w.incarnation = (SELECT min(incarnation::text)::uuid FROM headgate.workers)`)
	require.Equal(t, explain.ServerLoad{Running: 5, InUse: 8, Workers: 1, Open: 4, Waiting: 1, Breaker: "half-open"}, load())
	roomtest.Do(t, env, `INSERT INTO headgate.breakers (scope, id, until, cause) SELECT 'server', id, '2099-01-01Z', 'no route' FROM headgate.servers`)
	tripped := load()
	require.Equal(t, "open", tripped.Breaker)
	require.Equal(t, "no route", tripped.BreakerCause)
	require.NotNil(t, tripped.BreakerSince)
	require.Zero(t, tripped.BrokenDatabases)
	roomtest.Do(t, env, `INSERT INTO headgate.breakers (scope, id, until, cause, class) SELECT 'database', id, '2099-01-01Z', 'no room', 'disk_full' FROM headgate.databases`)
	require.Equal(t, 1, load().BrokenDatabases)
	breakers, err := env.Explain.DatabaseBreakers(ctx)
	require.NoError(t, err)
	require.Len(t, breakers, 1)
	for _, b := range breakers {
		require.Equal(t, []string{"open", "disk_full", "no room"}, []string{b.Breaker, b.BreakerClass, b.BreakerCause})
	}
	roomtest.Do(t, env, `UPDATE headgate.workers SET reaped_at = now()`)
	roomtest.Do(t, env, `UPDATE headgate.breakers SET until = now()`)
	quiet := load()
	require.Equal(t, "half-open", quiet.Breaker)
	require.Zero(t, quiet.Running+quiet.InUse+quiet.Workers)
}
