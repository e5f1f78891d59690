package pages_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/pages"
	"github.com/headgate/headgate/orchestrator/admission"
)

// listed is what the tests ask for, and its answer is larger than what the sockets hold.
const listed = "/river/api/jobs?state=available&limit=200"

// large serves a queue whose list has 12 MiB.
func large(t *testing.T, change func(cfg *pages.Config)) *site {
	t.Helper()
	s := open(t, func(cfg *pages.Config) {
		cfg.Detail, cfg.Within, cfg.Read = pages.DetailFull, time.Minute, time.Hour
		if change != nil {
			change(cfg)
		}
	})
	_, err := s.env.Pool.Exec(t.Context(), `
INSERT INTO river_job (kind, args, max_attempts, state) SELECT 'theirs', jsonb_build_object('text', repeat('x', 62 * 1024)), 1, 'available' FROM generate_series(1, 200)`)
	require.NoError(t, err)
	return s
}

// freeze asks for the list and reads its first line only, which is when the answer is made.
func freeze(t *testing.T, s *site) (rest io.Reader) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.server.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	_, err = io.WriteString(conn, "GET "+listed+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	read := bufio.NewReaderSize(conn, 16)
	line, err := read.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 200 OK\r\n", line)
	return read
}

// Browsers that ask and never read keep no page from others.
func TestFrozenReadersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	s := large(t, nil)
	for range 5 { // one more than are made at once
		freeze(t, s)
	}
	for _, one := range []string{path("/queues"), path("/version"), path("/states")} {
		got := s.get(one)
		require.Equal(t, http.StatusOK, got.code, "%s: %s", one, got.body)
	}
}

// Unread answers have a bound together: for one more, the oldest is broken off. Who reads has
// the whole.
func TestUnreadAnswersAreBounded(t *testing.T) {
	t.Parallel()
	s := large(t, func(cfg *pages.Config) { cfg.Unread = 50 << 20 }) // four of them
	first := freeze(t, s)
	var others []io.Reader
	for range 4 {
		others = append(others, freeze(t, s))
	}
	got, err := io.Copy(io.Discard, first)
	require.NoError(t, err, "it is closed")
	require.Less(t, got, int64(12<<20))
	whole, err := io.CopyN(io.Discard, others[3], 12<<20)
	require.NoError(t, err)
	require.EqualValues(t, 12<<20, whole)
}

// Who has not read an answer in time is left.
func TestAnUnreadAnswerEnds(t *testing.T) {
	t.Parallel()
	s := large(t, func(cfg *pages.Config) { cfg.Read = time.Nanosecond })
	got := raw(t, s, "GET "+listed+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.Less(t, len(got), 12<<20)
}

// An answer that is too large is refused with a sentence, and a smaller one is given.
func TestAnAnswerIsTooLarge(t *testing.T) {
	t.Parallel()
	s := large(t, func(cfg *pages.Config) { cfg.Unread = 40 << 20 })
	got := s.get(listed)
	require.Equal(t, http.StatusUnprocessableEntity, got.code)
	require.Equal(t, "this answer has 12 MiB, and these pages give at most 10 at once: look for fewer jobs, or at one; headgate job show prints any", s.says(got))
	require.Equal(t, http.StatusOK, s.get(path("/jobs?state=available&limit=20")).code)
}

// A pause is shown however many younger ones there are.
func TestAnOldPauseIsShown(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.work()
	require.Eventually(t, func() bool { return strings.Contains(s.get(path("/queues")).body, `"name":"default"`) }, time.Minute, 20*time.Millisecond)
	_, err := s.env.Admission.Pause(t.Context(), admission.OfQueue, "default", nil)
	require.NoError(t, err)
	_, err = s.env.Pool.Exec(t.Context(), `
INSERT INTO headgate.pauses (scope, target, paused_by, note, since) SELECT 'kind', 'kind-' || n, 'ana', '', now() + n * interval '1 us' FROM generate_series(1, 1100) n`)
	require.NoError(t, err)
	for _, one := range []string{"/queues", "/queues/default"} {
		got := s.get(path(one))
		require.Equal(t, http.StatusOK, got.code, got.body)
		require.Contains(t, got.body, `"paused_at":"`, one)
	}
}
