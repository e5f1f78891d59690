package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest"
)

// wired is a builder whose connections, to the server and to the central database, lead
// through a wire.
func wired(t *testing.T) (*builder, *wire) {
	t.Helper()
	b, w := newBuilder(t), newWire(t)
	b.server.host, b.server.port = w.host, w.port
	b.commandLine = b.with("HEADGATE_ADMIN_URL", b.server.address(b.admin, adminPassword, "postgres"))
	if !jobstest.Bounced() {
		u, err := url.Parse(b.env.URL)
		require.NoError(t, err)
		query := u.Query()
		if w.network == "unix" {
			query.Set("host", w.host)
		} else {
			u.Host = fmt.Sprintf("%s:%d", w.host, w.port)
		}
		u.RawQuery = query.Encode()
		b.set("DATABASE_URL", u.String())
	}
	if w.network == "unix" {
		b.ok("server", "add", "wire", "--socket", w.host)
	} else {
		b.ok("server", "add", "wire", "--plain-loopback")
	}
	return b, w
}

// killing kills the command at a message and looks at what is left.
type killingCreate struct {
	every int // each of so many messages
}

// A create that is killed at any moment goes on when it is run again, or leaves nothing when
// it is abandoned. The full size is TestFaultsKilledDatabaseCreate.
func TestDatabaseCreateKilledGoesOnOrIsAbandoned(t *testing.T) {
	t.Parallel()
	killingCreate{every: 23}.run(t)
}

func (k killingCreate) run(t *testing.T) {
	b, w := wired(t)
	folder := t.TempDir()
	args := []string{"database", "create", b.name, "--server", "wire", "--kind", "dedicated", "--app-url-file"}
	w.arm(0, false, nil)
	first := filepath.Join(folder, "0")
	b.ok(append(args, first)...)
	messages := w.seen()
	b.complete(first)
	b.forget()
	killed := map[string]int{}
	for at := 1; at <= messages; at += k.every {
		for _, answered := range []bool{false, true} {
			n := at + k.every/2*btoi(answered)
			file := filepath.Join(folder, fmt.Sprintf("%d-%t", n, answered))
			cmd, out := b.process(append(args, file)...)
			started := make(chan struct{})
			w.arm(n, answered, func() {
				<-started
				_ = cmd.Process.Kill() // it may have ended
			})
			require.NoError(t, cmd.Start())
			close(started)
			err := cmd.Wait()
			w.arm(0, false, nil)
			rows := b.rows()
			killed[rows]++
			switch {
			case err == nil: // a run has a few messages more or less than another
				require.Greater(t, n, messages*9/10, "it was not killed: %s", out.String())
				b.complete(file)
			case rows == "1 in the catalog, 0 unfinished":
				b.complete(file)
			case rows == "0 in the catalog, 0 unfinished":
				require.Empty(t, b.here(), "message %d, answered %t", n, answered)
			case n%2 == 0:
				require.Equal(t, cli.ExitOK, b.run(append(args, file)...).code, "message %d, answered %t", n, answered)
				b.complete(file)
			default:
				b.ok(b.abandon()...)
				require.Empty(t, b.here(), "message %d, answered %t", n, answered)
				require.Equal(t, "0 in the catalog, 0 unfinished", b.rows())
			}
			b.forget()
		}
	}
	t.Logf("%d messages; killed at each %dth, before and after the answer: %v", messages, k.every, killed)
	require.Positive(t, killed["0 in the catalog, 1 unfinished"])
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// forget makes the server and the catalog as they were.
func (b *builder) forget() {
	b.t.Helper()
	admin(b.t, b.central(), `DELETE FROM headgate.databases`)
	admin(b.t, "postgres", fmt.Sprintf(`DROP DATABASE IF EXISTS "%s" WITH (FORCE)`, b.name))
	for _, role := range []string{b.job(), b.owner(), b.app()} {
		admin(b.t, "postgres", fmt.Sprintf(`DROP ROLE IF EXISTS "%s"`, role))
	}
}
