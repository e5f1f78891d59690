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
		since time.Duration // the last tick
		idled bool
	}{
		"worked on":                     {nil, 0, false},
		"left alone":                    {ticks(limit), 0, true},
		"left alone, but not so":        {ticks(limit/2 - tick), 0, false},
		"left alone, in pieces":         {append(ticks(limit/2), 2*mostAwake, 2*mostAwake), 0, true},
		"left alone, a tick is late":    {ticks(limit - 3*tick), 3 * tick, true},
		"stopped for an hour":           {[]time.Duration{time.Hour}, 0, false},
		"stopped, and the tick is late": {nil, time.Hour, false},
		"stopped twice":                 {append(ticks(limit/3), time.Hour, time.Hour), 0, false},
		"a busy machine":                {[]time.Duration{mostAwake, mostAwake}, 0, false},
		"left alone and stopped":        {append(ticks(limit), time.Hour), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := time.Now()
			w := &wire{clock: &clock{now: func() time.Time { return at }}}
			passed := func(d time.Duration) { at = at.Add(d); w.clock.tick() }
			w.clock.tick()
			w.lend()
			socket := &watched{Conn: nothing{}, wire: w}
			say := func() {
				_, err := socket.Write([]byte("Q"))
				require.NoError(t, err)
			}
			say()
			passed(mostAwake) // the server takes its time: nobody idles
			_, err := socket.Read(make([]byte, 1))
			require.NoError(t, err)
			for _, d := range c.ticks {
				passed(d)
			}
			at = at.Add(c.since)
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
	w := &wire{clock: &clock{now: time.Now}}
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
