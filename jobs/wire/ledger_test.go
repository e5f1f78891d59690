package wire_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/wire"
)

// The two tombstones carry the same arguments, and differ in whom they are for.
func TestTombstones(t *testing.T) {
	t.Parallel()
	one, err := json.Marshal(wire.Tombstone{UID: "u"})
	require.NoError(t, err)
	other, err := json.Marshal(wire.DatabaseTombstone{Tombstone: wire.Tombstone{UID: "u"}})
	require.NoError(t, err)
	require.JSONEq(t, `{"uid": "u"}`, string(one))
	require.JSONEq(t, string(one), string(other))
	require.Equal(t, jobs.ScopeTenant, jobs.KindOptsOf(wire.Tombstone{}).Scope)
	require.Equal(t, jobs.ScopeDatabase, jobs.KindOptsOf(wire.DatabaseTombstone{}).Scope)
}
