//go:build faults

package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// A context that a job has read on the primary server is worth nothing on its standby, and
// the other way round. A ticket opens reading jobs on both.
func TestFaultsAContextOnAReplica(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	server := central(t)
	env := jobstest.New(t)
	db := env.Database("acme", jobstest.DatabaseOpts{Schema: whispers, On: onServer("primary", server)})
	acme := env.Tenant("acme", "acme")
	_, err := db.Pool.Exec(ctx, `INSERT INTO notes VALUES ($1, $2)`, acme.OrgID, whisper)
	require.NoError(t, err)
	standby := startPostgres(t, localpg.Config{Dir: jobstest.BaseBackup(t, server, "--write-recovery-conf"), Settings: replicates})

	begin := func(on *localpg.Server) pgx.Tx {
		cfg, err := pgx.ParseConfig(on.URL(db.Job.Database))
		require.NoError(t, err)
		cfg.User, cfg.Password = db.Job.User, db.Job.Password.Reveal()
		conn, err := pgx.ConnectConfig(ctx, cfg)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(ctx) })
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		return tx
	}
	read := func(tx pgx.Tx) (text string, err error) {
		err = tx.QueryRow(ctx, `SELECT string_agg(body, ',') FROM notes`).Scan(&text)
		return text, err
	}
	behind := begin(standby)
	require.Eventually(t, func() bool {
		var streams bool
		require.NoError(t, db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= pg_current_wal_lsn())`).Scan(&streams))
		return streams
	}, 30*time.Second, 10*time.Millisecond)
	var recovers bool
	require.NoError(t, behind.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&recovers))
	require.True(t, recovers)

	for name, c := range map[string]struct{ from, to *localpg.Server }{
		"from the primary to the standby": {server, standby},
		"from the standby to the primary": {standby, server},
		"on the standby":                  {standby, standby},
	} {
		first := begin(c.from)
		require.NoError(t, db.ActFor(ctx, first, acme.OrgID), name)
		text, err := read(first)
		require.NoError(t, err, name)
		require.Equal(t, whisper, text, "%s: a ticket opens the job there", name)
		var kept string
		require.NoError(t, first.QueryRow(ctx, `SELECT current_setting('headgate.context')`).Scan(&kept))

		second := begin(c.to) // while the first still lives
		_, err = second.Exec(ctx, `SELECT set_config('headgate.context', $1, true)`, kept)
		require.NoError(t, err)
		_, err = read(second)
		require.ErrorContains(t, err, "is not the one that Headgate has set", name)
	}
}
