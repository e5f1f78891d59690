package retention_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/internal/roomtest"
	"github.com/headgate/headgate/orchestrator/retention"
)

// The audit's coming months are made before they begin, and the old ones are dropped whole,
// with their entries, when the last of a month is old enough.
func TestJanitorKeepsTheMonthsOfTheAudit(t *testing.T) {
	t.Parallel()
	env := roomtest.Setup(t)
	month := func(at time.Time) string { return at.UTC().Format("audit_2006_01") }
	for n := -16; n < 0; n++ {
		roomtest.Do(t, env, `SELECT headgate.add_audit_part($1)`, roomtest.InMonth(n))
		roomtest.Do(t, env, `
INSERT INTO headgate.audit (at, operation, object, action, key, name, login, actor, surface, reason, changes)
VALUES ($1, gen_random_uuid(), 'region', 'add', 'old', 'old', '', '', '', '', '[]')`, roomtest.InMonth(n))
	}
	roomtest.Do(t, env, `INSERT INTO headgate.regions (name) VALUES ('new')`)
	for n := 1; n <= monthsAhead; n++ {
		roomtest.Do(t, env, `DROP TABLE IF EXISTS headgate.`+month(roomtest.InMonth(n)))
	}
	swept := roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{}))
	require.Equal(t, []string{month(roomtest.InMonth(1)), month(roomtest.InMonth(2))}, swept.MadeAudit)
	require.Equal(t, month(roomtest.InMonth(-16)), swept.DroppedAudit[0])
	require.Contains(t, swept.DroppedAudit, month(roomtest.InMonth(-15)))
	require.NotContains(t, swept.DroppedAudit, month(roomtest.InMonth(-13)), "it ended less than 13 months ago")
	require.Equal(t, 16-len(swept.DroppedAudit), roomtest.Count(t, env, `SELECT count(*) FROM headgate.audit WHERE key = 'old'`))
	require.Zero(t, roomtest.Sweep(t, roomtest.Janitor(t, env, retention.Config{})), "a second pass has nothing to do")

	require.Equal(t, 1, roomtest.Count(t, env, `SELECT count(*) FROM headgate.audit WHERE key = 'new'`), "this month stays")
}
