package pages_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/pages"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/jobstest"
	"github.com/headgate/headgate/orchestrator/admission"
)

// raw sends a text as it is.
func raw(t *testing.T, s *site, request string) string {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.server.Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, strings.Replace(request, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
	require.NoError(t, err)
	answer, _ := io.ReadAll(conn) // the server may cut a request off that is too long
	return string(answer)
}

// Cancel and retry are Headgate's own: River's never see them.
func TestActions(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	s.enter()
	s.work()
	runs := s.enqueue(Note{Waits: true})
	require.Equal(t, runs, receive(t, s.began))
	got := s.send(http.MethodPost, path("/jobs/cancel"), s.ids(runs), nil)
	require.Equal(t, http.StatusOK, got.code, got.body)
	require.Equal(t, jobs.Cancelled, s.env.Wait(runs).State)
	after, err := s.env.Client.Job(t.Context(), runs)
	require.NoError(t, err)
	require.Equal(t, "ana", after.Cancel.By)
	require.Equal(t, "asked for in River's UI", after.Cancel.Reason)
	var effects int
	require.NoError(t, s.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&effects))
	require.Zero(t, effects)

	fails := s.enqueue(Note{Fails: true})
	s.until(fails, jobs.Discarded)
	got = s.send(http.MethodPost, path("/jobs/retry"), s.ids(fails), nil)
	require.Equal(t, http.StatusOK, got.code, got.body)
	s.env.WaitFor(fails, func(o jobs.Outcome) bool { return o.Attempt == 2 })
	s.until(fails, jobs.Discarded)

	// What cannot be done is said, and the rest is done.
	done := s.enqueue(Note{})
	s.until(done, jobs.Succeeded)
	got = s.send(http.MethodPost, path("/jobs/retry"), s.ids(done), nil)
	require.Equal(t, http.StatusConflict, got.code)
	require.Contains(t, s.says(got), "its effect is done")
	waits := s.enqueue(Note{Waits: true})
	require.Equal(t, waits, receive(t, s.began))
	got = s.send(http.MethodPost, path("/jobs/cancel"), s.ids(done, waits), nil)
	require.Equal(t, http.StatusConflict, got.code)
	require.Contains(t, s.says(got), "1 of 2 jobs were cancelled; ")
	require.Contains(t, s.says(got), "there is nothing left to cancel")
	require.Equal(t, jobs.Cancelled, s.env.Wait(waits).State)
	got = s.send(http.MethodPost, path("/jobs/cancel"), `{"ids": [12345678]}`, nil)
	require.Equal(t, http.StatusNotFound, got.code)
	require.Contains(t, s.says(got), "no job has the number 12345678")
	victim := s.enqueue(Note{Waits: true})
	require.Equal(t, victim, receive(t, s.began))
	one := fmt.Sprintf(`"%d"`, s.env.RowOf(victim))
	for _, body := range []string{`{"ids": [` + one + `]} {"ids": ["1"]}`, `{"ids": [` + one + `]} x`, `{"ids": [], "ids": [` + one + `]}`, `{"ids": [` + one + `], "ids": []}`, `{"IDs": [` + one + `]}`, `{"ids": [` + one + `], "all": true}`, `{"ids": null}`,
		`{}`, `{"ids": []}`, `{"ids": ["x"]}`, `[]`, `{"ids": [1` + strings.Repeat(", 1", 1000) + `]}`} {
		require.Equal(t, http.StatusBadRequest, s.send(http.MethodPost, path("/jobs/cancel"), body, nil).code, body)
	}
	require.Equal(t, jobs.Running, s.state(victim), "nothing has reached it")
	require.Equal(t, http.StatusOK, s.send(http.MethodPost, path("/jobs/cancel"), s.ids(victim), nil).code)

	got = s.send(http.MethodPost, path("/jobs/delete"), s.ids(done), nil)
	require.Equal(t, http.StatusForbidden, got.code)
	require.Contains(t, s.says(got), "jobs are not deleted by hand")
	require.Equal(t, jobs.Succeeded, s.state(done))
}

// A queue that is paused in River's UI starts nothing, and explain knows; a pause of headgate
// pause is shown there, and ended.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Write = true })
	s.enter()
	s.work()
	s.until(s.enqueue(Note{}), jobs.Succeeded)
	paused := func() bool {
		var queue struct {
			PausedAt *time.Time `json:"paused_at"`
		}
		got := s.get(path("/queues/default"))
		require.Equal(t, http.StatusOK, got.code, got.body)
		require.NoError(t, json.Unmarshal([]byte(got.body), &queue))
		require.Equal(t, queue.PausedAt != nil, strings.Contains(s.get(path("/queues")).body, `"paused_at":"`))
		return queue.PausedAt != nil
	}
	put := func(what string) {
		t.Helper()
		got := s.send(http.MethodPut, path("/queues/default/", what), "", nil)
		require.Equal(t, http.StatusOK, got.code, got.body)
	}
	require.False(t, paused())
	for _, pause := range []func(){
		func() { put("pause") },
		func() {
			_, err := s.env.Admission.Pause(t.Context(), admission.OfQueue, "default", nil)
			require.NoError(t, err)
		},
	} {
		pause()
		require.True(t, paused())
		uid := s.enqueue(Note{})
		why, err := s.env.Explain.Explain(t.Context(), uid)
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(why), "paused")
		put("resume")
		require.False(t, paused())
		s.until(uid, jobs.Succeeded)
	}
}

// Workers hear of a pause and of its end at once, also where the pages' login has a schema of its
// own name: a login that is called headgate has.
func TestPauseIsHeard(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) {
		cfg.Write = true
		if !cfg.Pooled { // a pooler takes no such parameter
			cfg.Database.ConnConfig.RuntimeParams["search_path"] = "headgate, public"
		}
	})
	s.enter()
	s.work()
	s.until(s.enqueue(Note{}), jobs.Succeeded)
	worker, err := pgx.Connect(t.Context(), jobstest.ServerURL(t, s.env.Pool.Config().ConnConfig.Database))
	require.NoError(t, err)
	defer func() { _ = worker.Close(context.WithoutCancel(t.Context())) }()
	_, err = worker.Exec(t.Context(), `LISTEN "public.river_control"`)
	require.NoError(t, err)
	for _, what := range []string{"pause", "resume"} {
		got := s.send(http.MethodPut, path("/queues/default/", what), "", nil)
		require.Equal(t, http.StatusOK, got.code, got.body)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		heard, err := worker.WaitForNotification(ctx)
		cancel()
		require.NoError(t, err)
		require.JSONEq(t, `{"action": "`+what+`", "queue": "default"}`, heard.Payload)
	}
}

// A secret in an argument or in an error, the tokens of leases and the context of traces are
// in no answer.
func TestNothingSecretIsShown(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.work()
	const secret = "planted-secret-4711"
	fails := s.enqueue(Note{Text: secret, Fails: true})
	s.until(fails, jobs.Discarded)
	done := s.enqueue(Note{Text: secret})
	s.until(done, jobs.Succeeded)
	// Another River client's row, with whatever it likes in it.
	_, err := s.env.Pool.Exec(t.Context(), `UPDATE river_job SET metadata = metadata || '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "traced_as": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}' WHERE id = $1`, s.env.RowOf(done))
	require.NoError(t, err)
	var foreign int64
	require.NoError(t, s.env.Pool.QueryRow(t.Context(), `
INSERT INTO river_job (kind, args, max_attempts, attempt, state, finalized_at, attempted_at, attempted_by, metadata, errors)
VALUES ('theirs', $1, 1, 1, 'discarded', now(), now(), ARRAY['their client'], $2, ARRAY[$3]::jsonb[]) RETURNING id`,
		`["`+secret+`"]`, `{"output": "`+secret+`", "river:log": [{"attempt": 1, "log": "`+secret+`"}], "tenant": "`+secret+`", "snoozes": "`+secret+`"}`,
		`{"at": "2026-01-02T03:04:05Z", "attempt": 1, "error": "`+secret+`", "trace": "`+secret+`"}`).Scan(&foreign))
	var token, trace string
	require.NoError(t, s.env.Pool.QueryRow(t.Context(), `SELECT headgate.claim_token(attempted_by), metadata->>'traceparent' FROM river_job WHERE id = $1`, s.env.RowOf(done)).Scan(&token, &trace))
	require.Regexp(t, `^[0-9a-f-]{36}:\d+$`, token)
	require.NotEmpty(t, trace)
	stones := make([]int64, 2) // they hold the token of a claim
	for i, kind := range []string{"headgate.tombstone", "headgate.tombstone-database"} {
		require.NoError(t, s.env.Pool.QueryRow(t.Context(), `
INSERT INTO river_job (kind, args, max_attempts, state, finalized_at) VALUES ($1, $2, 1, 'discarded', now()) RETURNING id`,
			kind, `{"uid": "`+done+`", "token": "`+token+`"}`).Scan(&stones[i]))
	}
	var all []string
	ask := func() string {
		all = nil
		for _, one := range []string{
			path("/jobs/", s.env.RowOf(fails)), path("/jobs/", s.env.RowOf(done)), path("/jobs/", foreign), path("/jobs?state=discarded&limit=100000"), path("/jobs?state=completed"),
			path("/jobs?ids=", foreign), path("/jobs/", stones[0]), path("/jobs/", stones[1]), path("/queues"), path("/states"), path("/autocomplete?facet=job_kind"), path("/autocomplete?facet=queue_name"),
		} {
			got := s.get(one)
			require.Equal(t, http.StatusOK, got.code, "%s: %s", one, got.body)
			all = append(all, got.body)
		}
		return strings.Join(all, "\n")
	}
	shown := ask()
	for _, hidden := range []string{secret, token, trace, "traceparent", "traced_as", "4bf92f3577b34da6a3ce929d0e0e4736", "river:log", "their output"} {
		require.NotContains(t, shown, hidden)
	}
	require.Contains(t, all[0], `"args":"{\"fails\":\"…\",\"text\":\"…\",\"waits\":\"…\"}"`)
	require.Contains(t, all[0], `job_error: headgate job show `+fails+` prints the text`)
	require.Contains(t, all[0], `"job_uid":"`+fails+`"`)
	require.Contains(t, all[0], `"attempted_by":["worker `+token[:8])
	require.Contains(t, all[2], `"error":"not shown here: headgate job show `)
	require.NotContains(t, s.log.String(), secret)

	// Control, and what --ui-detail full is for.
	s.serve(func(cfg *pages.Config) { cfg.Detail = pages.DetailFull })
	shown = ask()
	require.Contains(t, all[0], `\"text\": \"`+secret)
	require.Contains(t, all[0], "the mailer refuses "+secret)
	require.Contains(t, all[6], `"args":"{\"token\":\"…\",\"uid\":\"…\"}"`)
	for _, hidden := range []string{token, trace, "traceparent", "traced_as", "4bf92f3577b34da6a3ce929d0e0e4736", "river:log"} {
		require.NotContains(t, shown, hidden)
	}
}

// What takes too long ends with a sentence.
func TestAnAnswerHasALimit(t *testing.T) {
	t.Parallel()
	s := open(t, func(cfg *pages.Config) { cfg.Within = 200 * time.Millisecond })
	require.Equal(t, http.StatusOK, s.get(path("/jobs?state=available")).code)
	tx, err := s.env.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `LOCK TABLE river_job, river_queue`)
	require.NoError(t, err)
	for _, one := range []string{"/jobs?state=available", "/jobs/1", "/queues", "/states", "/autocomplete?facet=job_kind"} {
		got := s.get(path(one))
		require.Equal(t, http.StatusServiceUnavailable, got.code, "%s: %s", one, got.body)
		require.Contains(t, s.says(got), "the central database has not answered within 200ms, which is the limit of these pages")
	}
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, http.StatusOK, s.get(path("/jobs?state=available")).code, "the connections are there again")
}

// known are the routes of River's API, and what these pages do about each.
var known = []string{
	"GET /api/autocomplete", "GET /api/features", "GET /api/health-checks/{name}", "GET /api/jobs", "GET /api/jobs/{job_id}", "GET /api/queues", "GET /api/queues/{name}",
	"GET /api/states", "GET /api/version", "PATCH /api/queues/{name}", "POST /api/jobs/cancel", "POST /api/jobs/delete", "POST /api/jobs/retry",
	"PUT /api/queues/{name}/pause", "PUT /api/queues/{name}/resume",
}

// A route that River's UI gets in another version is thought about before it is answered.
func TestRoutesOfRiver(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "riverqueue.com/riverui").Output()
	require.NoError(t, err)
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "handler_api_endpoint.go"))
	require.NoError(t, err)
	var found []string
	for _, pattern := range regexp.MustCompile(`Pattern:\s+"([A-Z]+ /api/[^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		found = append(found, pattern[1])
	}
	slices.Sort(found)
	require.Equal(t, known, found)
}
