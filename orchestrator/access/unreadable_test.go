package access_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/access"
	"github.com/headgate/headgate/orchestrator/internal/roomtest"
)

// One entry whose changes are of another shape, which the owner of the table may write, hides
// no other entry.
func TestAnEntryOfAnotherShapeIsShown(t *testing.T) {
	t.Parallel()
	env := roomtest.SetupDirect(t)
	before := len(audit(t, env, access.AuditFilter{}))
	for _, changes := range []string{`{"a": 1}`, `[1]`, `"text"`, `[{"field": 5}]`} {
		roomtest.Do(t, env, `INSERT INTO headgate.audit (operation, object, action, key, name, login, actor, surface, reason, changes)
VALUES (gen_random_uuid(), 'region', 'add', 'bad', 'bad', '', '', '', '', $1::jsonb)`, changes)
		bad := audit(t, env, access.AuditFilter{})[0]
		require.Equal(t, "unreadable", bad.Changes[0].Field)
		require.JSONEq(t, changes, string(bad.Changes[0].After))
	}
	require.Len(t, audit(t, env, access.AuditFilter{}), before+4)
}
