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
			read := func() {
				_, err := socket.Read(make([]byte, 1))
				require.NoError(t, err)
			}
			say()
			passed(mostAwake) // the server takes its time: nobody idles
			read()
			for _, d := range c.ticks {
				passed(d)
			}
			at = at.Add(c.since)
			said := w.clock
			unasked := &wire{clock: &clock{now: said.now, awake: said.awake, at: said.at}, heard: w.heard, reads: 2}
			unasked.hear(nil, fatalError(idleInTransaction))
			require.Equal(t, c.idled, (&Conn{wire: unasked}).Idled(limit), "the server's word is read before anything is sent")
			say()
			read()
			w.hear(nil, fatalError(idleInTransaction))
			say() // goodbye
			require.Equal(t, c.idled, (&Conn{wire: w}).Idled(limit))
			w.lend()
			require.False(t, (&Conn{wire: w}).Idled(limit), "the next user has done nothing yet")
		})
	}
}

// Only the server says that it was idleness which has ended a session, and only the last
// pause counts. Who reads an answer slowly leaves the server idle too.
func TestIdlenessIsTheServersWord(t *testing.T) {
	t.Parallel()
	const limit = time.Minute
	for name, c := range map[string]struct {
		code   string
		before []time.Duration // a pause before the last statement
		reads  []time.Duration // between the parts of the last answer
		idled  bool
	}{
		"idle":                    {idleInTransaction, nil, ticks(limit), true},
		"ended by somebody":       {"57P01", nil, ticks(limit), false},
		"the connection was lost": {"", nil, ticks(limit), false},
		"a pause before":          {idleInTransaction, ticks(limit), ticks(limit / 3), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := time.Now()
			w := &wire{clock: &clock{now: func() time.Time { return at }}}
			socket := &watched{Conn: nothing{}, wire: w}
			w.clock.tick()
			w.lend()
			for _, pauses := range [][]time.Duration{c.before, c.reads} {
				_, _ = socket.Write([]byte("Q"))
				_, _ = socket.Read(make([]byte, 1))
				for _, d := range pauses {
					at = at.Add(d)
					w.clock.tick()
					_, _ = socket.Read(make([]byte, 1))
				}
			}
			if c.code != "" {
				w.hear(nil, fatalError(c.code))
			}
			require.Equal(t, c.idled, (&Conn{wire: w}).Idled(limit))
		})
	}
}

// What the server has said before it closed the connection is found by who cannot send
// any more, behind whatever was not read.
func TestTheServersLastWords(t *testing.T) {
	t.Parallel()
	for _, read := range []int{0, 20, 200} { // bytes of it, before
		folder := t.TempDir()
		listener, err := net.Listen("unix", folder+"/s")
		require.NoError(t, err)
		conn, err := net.Dial("unix", folder+"/s")
		require.NoError(t, err)
		server, err := listener.Accept()
		require.NoError(t, err)
		_, err = server.Write([]byte("D\x00\x00\x00\x08rows" + "E\x00\x00\x00\x40SFATAL\x00VFATAL\x00C25P03\x00Mterminating connection\x00\x00"))
		require.NoError(t, err)
		require.NoError(t, server.Close())
		w := &wire{clock: &clock{now: time.Now}}
		socket := &watched{Conn: conn, wire: w}
		if read > 0 {
			_, err = socket.Read(make([]byte, read))
			require.NoError(t, err)
		}
		_, err = socket.Write([]byte("Q"))
		require.Error(t, err)
		require.Equal(t, idleInTransaction, w.ended, read)
		require.NoError(t, conn.Close())
		require.NoError(t, listener.Close())
	}
}

func fatalError(code string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code}
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
	require.False(t, w.forgot)
	for range MostErrors {
		w.hear(nil, &pgconn.PgError{Code: "22012"})
	}
	require.False(t, w.said(said))
	require.Len(t, w.errors, MostErrors)
	require.True(t, w.forgot)
	w.lend()
	require.Empty(t, w.errors)
	require.False(t, w.forgot)
}
