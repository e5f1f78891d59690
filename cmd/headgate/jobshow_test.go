package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// shown are the lines of `job show` by their names, and what it says beside them. No line of
// data is wider than a terminal; sentences are paragraphs, which a terminal wraps.
func (r *restored) shown(uid string) (lines map[string]string, said string) {
	r.t.Helper()
	got := r.run("job", "show", uid)
	require.Zero(r.t, got.code, got.err)
	lines = map[string]string{}
	above, _, _ := strings.Cut(got.out, "\n\n")
	for line := range strings.SplitSeq(above, "\n") {
		if name := strings.TrimSpace(line[:min(len(line), 10)]); name != "" {
			require.NotContains(r.t, lines, name)
			lines[name] = strings.TrimSpace(line[min(len(line), 10):])
		}
	}
	for line := range strings.SplitSeq(got.out, "\n") {
		sentence := strings.HasPrefix(line, "attempt 1: ") || strings.HasPrefix(line, "args ") || strings.HasPrefix(line, "stopped ") || strings.Contains(line, " UTC  INFO   ")
		require.True(r.t, sentence || len(line) <= 80, line)
	}
	return lines, got.out + got.err
}

// Each line of `job show` fits the state that the job is in.
func TestJobShowFitsTheState(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	for _, slug := range []string{"acme", "beta", "arch", "gone"} {
		r.env.Tenant(slug, "shop")
	}
	waiting := r.enqueue("acme", bill{1})
	lines, said := r.shown(waiting)
	require.Equal(t, "waiting", lines["state"])
	require.Equal(t, "none yet of 25", lines["attempt"])
	for _, name := range []string{"finished", "ended", "cancel", "stopped", "held", "rerun of", "brand"} {
		require.NotContains(t, lines, name)
	}
	require.Contains(t, said, "no attempt has ended: `headgate job explain "+waiting+"` says what the job waits for")

	later, err := r.env.Client.Enqueue(t.Context(), "acme", bill{2}, &jobs.EnqueueOpts{RunAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	lines, _ = r.shown(later.UID)
	require.Equal(t, "scheduled", lines["state"])
	require.NotEmpty(t, lines["due"])
	r.ok("job", "cancel", later.UID, "--reason", "a slip")
	lines, said = r.shown(later.UID)
	require.Equal(t, "cancelled", lines["state"])
	require.Equal(t, "none was made", lines["attempt"])
	require.Equal(t, "cancelled by tester: a slip", lines["ended"])
	require.NotContains(t, lines, "due", "it will not run")
	require.NotContains(t, lines, "cancel", "that was said")
	require.NotContains(t, said, "ATTEMPT")
	require.Contains(t, said, "no attempt was made")
	lines, _ = r.shown(enqueued(t, r.ok("job", "rerun", later.UID, "-o", "json")))
	require.Equal(t, later.UID, lines["rerun of"])

	held, slow := make(chan struct{}), ""
	r.while(func() {
		require.Equal(t, jobs.Succeeded, r.env.Wait(r.enqueue("acme", order{3})).State)
		slow = r.enqueue("acme", bill{4})
		is := func(state jobs.State) {
			require.Eventually(t, func() bool {
				job, err := r.env.Client.Job(t.Context(), slow)
				return err == nil && job.State == state
			}, time.Minute, 10*time.Millisecond)
		}
		is(jobs.Running)
		lines, said = r.shown(slow)
		require.Equal(t, []string{"running", "1 of 25"}, []string{lines["state"], lines["attempt"]})
		require.Contains(t, said, "attempt 1 is under way: `headgate job explain "+slow+"` says where")
		r.ok("job", "cancel", slow, "--reason", "too long")
		is(jobs.Cancelling)
		lines, said = r.shown(slow)
		require.Equal(t, "asked for by tester: too long", lines["cancel"])
		require.Contains(t, said, "it is being cancelled: `headgate job explain "+slow+"` says how far that is")
		close(held)
		is(jobs.Cancelled)
	}, held)
	lines, said = r.shown(slow)
	require.Equal(t, []string{"cancelled", "1 of 25", "asked for by tester: too long"}, []string{lines["state"], lines["attempt"], lines["cancel"]})
	require.NotContains(t, lines, "due")
	require.Contains(t, said, "\nattempt 1: cancelled while it ran\n")

	r.ok("tenant", "rename", "acme", "acme-two")
	lines, _ = r.shown(slow)
	require.Equal(t, "acme-two", lines["tenant"])

	beta, arch, gone := r.enqueue("beta", bill{5}), r.enqueue("arch", bill{6}), r.enqueue("gone", bill{7})
	require.NoError(t, r.env.Catalog.SetStatus(t.Context(), "beta", catalog.Suspended))
	r.ok("tenant", "archive", "arch", "--yes")
	r.ok("tenant", "archive", "gone", "--yes")
	r.ok("tenant", "remove", "gone", "--yes")
	lines, _ = r.shown(beta)
	require.Equal(t, "tenant beta is suspended; its work waits", lines["stopped"])
	lines, _ = r.shown(arch)
	require.Equal(t, "tenant arch is archived; its waiting jobs are being cancelled", lines["stopped"])
	lines, _ = r.shown(gone)
	require.Equal(t, "tenant "+lines["tenant"]+" is removed; its waiting jobs are being cancelled", lines["stopped"])
	require.NoError(t, r.env.Catalog.SetStatus(t.Context(), "beta", catalog.Active))
	lines, _ = r.shown(beta)
	require.NotContains(t, lines, "stopped")
	r.ok("database", "detach", "shop", "--reason", "a move")
	lines, _ = r.shown(beta)
	require.Contains(t, lines["stopped"], "database shop is detached")
}

// An attempt's message and a log's line are wider than a terminal: they stand below and beside
// the tables, so that the tables fit.
func TestJobShowHasRoomForMessages(t *testing.T) {
	t.Parallel()
	r := newRestored(t)
	r.env.Tenant("acme", "shop")
	uid := r.enqueue("acme", bill{1})
	long := strings.TrimSpace(strings.Repeat("a long word ", 20))
	_, err := r.env.Pool.Exec(t.Context(), `
INSERT INTO headgate.outcomes (id, job_uid, job_id, kind, attempt, state, class, message, started_at, ended_at)
SELECT gen_random_uuid(), (metadata->>'job_uid')::uuid, id, kind, 1, 'failed', 'statement_timeout', $1, now(), now() + interval '1 minute' FROM river_job`, long)
	require.NoError(t, err)
	_, err = r.env.Pool.Exec(t.Context(), `INSERT INTO headgate.job_logs (id, job_uid, attempt, ended_at, lines)
VALUES (gen_random_uuid(), $1, 1, now(), format('{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"%s","attrs":{}}', $2::text))`, uid, long)
	require.NoError(t, err)
	_, said := r.shown(uid)
	require.Regexp(t, `(?m)^ATTEMPT  STATE   CLASS              STARTED AT               TOOK  ROWS$`, said)
	require.Contains(t, said, "\nattempt 1: "+long+"\n")
	require.Contains(t, said, "\nATTEMPT  AT                       LEVEL  LINE\n1        2026-01-01 00:00:00 UTC  INFO   "+long)
	require.Contains(t, r.ok("job", "attempts", uid), "\nattempt 1: "+long+"\n")
	require.Contains(t, r.ok("job", "attempts", uid, "-o", "csv"), long)
}
