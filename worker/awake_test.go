package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
)

// A worker process that stops in the middle of a job for longer than the kind's
// IdleTimeout, and wakes before anybody takes it for dead, has not let the
// handler idle: the attempt is interrupted, and not used. The control is
// TestAHandlerThatIdlesTooLong, whose worker is awake.
func TestAStoppedProcessIsNoIdleHandler(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	env, tenants := newBank(t)
	flag := filepath.Join(t.TempDir(), "freeze")
	require.NoError(t, os.WriteFile(flag, nil, 0o600))
	v := newVictim(t, env, "sleeper", 20*time.Second)
	r, err := env.Client.Enqueue(ctx, tenants[0].tenant.Slug, Freeze{Transfer: Transfer{From: 1, To: 2, Amount: 1}, Flag: flag}, enqueueTo(victimQueue))
	require.NoError(t, err)
	require.Equal(t, r.UID, receive(t, v.began))
	session := `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'headgate/freeze/%' AND datname = current_database()`
	require.Eventually(t, func() bool { // the server has ended the session of who does not answer
		var n int
		return tenants[0].db.Pool.QueryRow(ctx, session).Scan(&n) == nil && n == 0
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, v.cmd.Process.Signal(syscall.SIGCONT))
	first := env.WaitFor(r.UID, func(jobs.Outcome) bool { return true })
	require.Equal(t, jobs.ClassInterrupted, first.Class, first.Message)
	require.Equal(t, jobs.Snoozed, first.State)
	done := env.Wait(r.UID)
	require.Equal(t, jobs.Succeeded, done.State, done.Message)
	require.Equal(t, 1, done.Attempt)
}
