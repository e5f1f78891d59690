package jobstest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headgate/headgate/orchestrator/localpg"
)

// EnvServer names the environment variable with the test server's address.
const EnvServer = "HEADGATE_TEST_SERVER"

// own is the server that this process started, if it did.
var own struct {
	sync.Mutex
	server *localpg.Server
}

// Main runs a package's tests, stops the server that they started, and fails if
// a goroutine is left. A package without it works too: the server ends with the
// process.
//
//	func TestMain(m *testing.M) { jobstest.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	if err := finish(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func finish() error {
	own.Lock()
	defer own.Unlock()
	bouncer.Lock()
	defer bouncer.Unlock()
	if bouncer.b != nil {
		if err := bouncer.b.Stop(); err != nil {
			return fmt.Errorf("stopping PgBouncer: %w", err)
		}
	}
	if own.server != nil {
		if err := own.server.Stop(); err != nil {
			return fmt.Errorf("stopping the test server: %w", err)
		}
	}
	return goleak.Find()
}

// ServerURL is the superuser's connection string to a database of the test
// server, which is started if need be.
func ServerURL(t testing.TB, dbname string) string {
	t.Helper()
	if given := os.Getenv(EnvServer); given != "" {
		u, err := url.Parse(given)
		if err != nil {
			t.Fatalf("%s is not a connection URL", EnvServer)
		}
		u.Path = "/" + dbname
		return u.String()
	}
	own.Lock()
	defer own.Unlock()
	if own.server == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		server, err := localpg.Start(ctx, localpg.Config{TCP: Bounced()})
		if err != nil {
			t.Fatalf("starting a Postgres for the tests: %v", err)
		}
		own.server = server
	}
	return own.server.URL(dbname)
}

// deadline bounds what the kit itself does; a test's own waits are its own.
func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute)
}

// random returns n bytes as hex.
func random(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}
