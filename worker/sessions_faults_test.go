//go:build faults

package worker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Behind a PgBouncer in either mode, whose sessions begin with the worst settings of
// the login, all kinds do and say the same as on a connection of their own.
func TestFaultsSettingsBehindPoolers(t *testing.T) {
	b := newSessionsBed(t)
	want := b.run(t, "plain", b.database("plain", nil))
	server := startPostgres(t, localpg.Config{TCP: true})
	for _, mode := range []address.Pooler{address.TransactionPooler, address.SessionPooler} {
		p := &jobstest.Postgres{Name: "behind-" + string(mode), URL: server.URL}
		p.Bouncer = jobstest.NewBouncerIn(t, p, mode)
		db := b.database(string(mode), p)
		b.set(db, "ROLE "+db.Job.User, behindPoolers())
		b.set(db, "ROLE "+db.Owner.User, behindPoolers())
		require.Equal(t, want, b.run(t, string(mode), db))
		again := b.env.Run(string(mode), allKinds()[3]) // on a session that was reset
		require.Equal(t, want["the file"], b.reports(again.Result.Output))
	}
}

// Each setting at its worst alone. All at once are tried in make test.
func TestFaultsEachSettingOfOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("the smoke of it is TestSettingsOfOthersChangeNoResult, in make test")
	}
	tryWorst(t, true)
}
