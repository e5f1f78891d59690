package tenantdb

import (
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// A connection that is left alone is told from one whose process was stopped: a
// stopped process hears of the time that went by in one piece.
func TestAPauseIsTheHandlersOnlyWhileTheProcessIsAwake(t *testing.T) {
	t.Parallel()
	const limit = time.Minute
	for name, c := range map[string]struct {
		ticks []time.Duration
		idled bool
	}{
		"worked on":              {nil, false},
		"left alone":             {ticks(limit), true},
		"left alone, but not so": {ticks(limit / 2), false},
		"stopped for an hour":    {[]time.Duration{time.Hour}, false},
		"stopped twice":          {append(ticks(limit/2), time.Hour, time.Hour), false},
		"a busy machine":         {[]time.Duration{mostAwake, mostAwake}, false},
		"left alone and stopped": {append(ticks(limit), time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &wire{clock: &clock{}}
			w.lend()
			socket := &watched{Conn: nothing{}, wire: w}
			say := func() {
				_, err := socket.Write([]byte("Q"))
				require.NoError(t, err)
			}
			say()
			w.clock.passed(mostAwake) // the server takes its time: nobody idles
			_, err := socket.Read(make([]byte, 1))
			require.NoError(t, err)
			for _, d := range c.ticks {
				w.clock.passed(d)
			}
			say()
			require.Equal(t, c.idled, (&Conn{wire: w}).Idled(limit))
			w.lend()
			require.False(t, (&Conn{wire: w}).Idled(limit), "the next user has done nothing yet")
		})
	}
}

func ticks(of time.Duration) (list []time.Duration) {
	for ; of > 0; of -= tick {
		list = append(list, tick)
	}
	return list
}

// nothing is a socket that takes and gives what it is asked.
type nothing struct{ net.Conn }

func (nothing) Read(b []byte) (int, error)  { return len(b), nil }
func (nothing) Write(b []byte) (int, error) { return len(b), nil }

// An error counts as a connection's own if the server has sent it there, word for
// word; what is remembered of it is bounded and ends with its user.
func TestWhatTheServerSaidIsKnown(t *testing.T) {
	t.Parallel()
	w := &wire{clock: &clock{}}
	said := &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "42501", Message: "keine Berechtigung"}
	require.True(t, w.hear(nil, said))
	again := *said
	require.True(t, w.said(&again))
	require.False(t, w.said(&pgconn.PgError{Code: "42501"}))
	require.False(t, w.hear(nil, &pgconn.PgError{Severity: "ВАЖНО", SeverityUnlocalized: "FATAL", Code: "57P01"}), "the session is over, in any language")
	for range mostErrors {
		w.hear(nil, &pgconn.PgError{Code: "22012"})
	}
	require.False(t, w.said(said))
	require.Len(t, w.errors, mostErrors)
	w.lend()
	require.Empty(t, w.errors)
}
