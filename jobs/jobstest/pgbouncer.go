package jobstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// EnvPgBouncer names the environment variable that puts a PgBouncer in
// transaction mode before the test server when it is "1": the tests' central
// pool and all tenants' logins go through it, what looks at databases from
// outside does not. The server must listen on 127.0.0.1 too, on the port of its
// socket (`headgate dev --bare --tcp`).
const EnvPgBouncer = "HEADGATE_TEST_PGBOUNCER"

// Bouncer is a PgBouncer before one server, in transaction mode unless it says so. Every login of
// the server may log in at it, with the same password; databases have the names
// that they have on the server.
type Bouncer struct {
	Port int            // of 127.0.0.1
	Mode address.Pooler // what its pool_mode is to the catalog

	dir   string
	args  []string // its command line
	ask   string   // a connection string through it
	cmd   *exec.Cmd
	leash io.WriteCloser
}

// bouncer is the one that this process has put before the test server.
var bouncer struct {
	sync.Mutex
	b *Bouncer
}

// throughBouncer is p as tests reach it if they are to go through PgBouncer.
func throughBouncer(t testing.TB, p *Postgres) *Postgres {
	t.Helper()
	if !Bounced() {
		return p
	}
	bouncer.Lock()
	defer bouncer.Unlock()
	if bouncer.b == nil {
		b, err := startBouncer(p.URL("postgres"), address.TransactionPooler)
		if err != nil {
			t.Fatalf("starting a PgBouncer for the tests: %v", err)
		}
		bouncer.b = b
	}
	p.Bouncer = bouncer.b
	return p
}

// Bounced says that tests go through PgBouncer (EnvPgBouncer).
func Bounced() bool { return os.Getenv(EnvPgBouncer) == "1" }

// TestBouncer is the one before the test server; nil without EnvPgBouncer.
func TestBouncer(t testing.TB) *Bouncer {
	t.Helper()
	return testServer(t).Bouncer
}

// NewBouncer puts a PgBouncer in transaction mode before a server, until the test
// ends. It fails the test if the program is not there.
func NewBouncer(t testing.TB, p *Postgres) *Bouncer {
	t.Helper()
	return NewBouncerIn(t, p, address.TransactionPooler)
}

// NewBouncerIn is NewBouncer in a mode.
func NewBouncerIn(t testing.TB, p *Postgres, mode address.Pooler) *Bouncer {
	t.Helper()
	b, err := startBouncer(p.URL("postgres"), mode)
	if err != nil {
		t.Fatalf("starting a PgBouncer: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("stopping PgBouncer: %v", err)
		}
	})
	return b
}

// bouncerConfig: clients log in with the passwords that the server itself keeps,
// so that nothing has to be said about logins that do not exist yet. Idle
// sessions end soon: each of hundreds of test databases has its own.
const bouncerConfig = `[databases]
* = host=127.0.0.1 port=%d auth_user=%s

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
pool_mode = %s
auth_type = scram-sha-256
auth_file = %s
auth_query = SELECT usename, passwd FROM pg_shadow WHERE usename = $1
default_pool_size = 20
max_client_conn = 2000
server_idle_timeout = 3
server_lifetime = 600
server_login_retry = 1
server_check_delay = 1
autodb_idle_timeout = 3600
log_connections = 0
log_disconnections = 0
log_stats = 0
`

func startBouncer(server string, mode address.Pooler) (*Bouncer, error) {
	program, err := FindBouncer()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, errors.New("the server's address is not a URL")
	}
	upstream := tcpPort(u)
	password, _ := u.User.Password()
	if password == "" {
		return nil, errors.New("the server's superuser has no password, which PgBouncer needs to ask for others'")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", upstream))
	if err != nil {
		return nil, fmt.Errorf("the server does not listen on 127.0.0.1 (start it with `headgate dev --bare --tcp`): %w", err)
	}
	_ = conn.Close() // it was a question only
	b := &Bouncer{Mode: mode}
	if b.dir, err = os.MkdirTemp("", "headgate-bouncer-"); err != nil {
		return nil, err
	}
	for range 5 { // the free port may be taken by somebody else
		if err = b.start(program, upstream, u.User.Username(), password); err == nil {
			return b, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(b.dir))
}

// FindBouncer returns the path of the program, which Debian keeps out of most
// users' way.
func FindBouncer() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("missing: pgbouncer (apt-get install pgbouncer, brew install pgbouncer)")
}

func (b *Bouncer) start(program string, upstream int, superuser, password string) error {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.Port = listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close() // PgBouncer takes the port
	users, config := filepath.Join(b.dir, "users"), filepath.Join(b.dir, "ini")
	err = errors.Join(
		os.WriteFile(users, []byte(fmt.Sprintf("%q %q\n", superuser, password)), 0o600),
		os.WriteFile(config, []byte(fmt.Sprintf(bouncerConfig, upstream, superuser, b.Port, b.Mode, users)), 0o600))
	if err != nil {
		return err
	}
	b.args, b.ask = []string{program, config}, b.url(superuser, password, "postgres")
	if os.Geteuid() == 0 { // PgBouncer refuses root
		account, err := lend(b.dir, users, config)
		if err != nil {
			return err
		}
		b.args = []string{program, "-u", account, config}
	}
	return b.run()
}

func (b *Bouncer) run() error {
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	// The shell ends PgBouncer when this process ends, however: then its standard
	// input does.
	b.cmd = exec.CommandContext(context.Background(), "/bin/sh", append([]string{"-c", `"$0" "$@" & read -r _; kill -KILL $!; wait`}, b.args...)...) //nolint:gosec // the words are ours
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = b.dir, log, log
	if b.leash, err = b.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	if err := b.ready(); err != nil {
		said, _ := os.ReadFile(log.Name())
		b.end()
		return fmt.Errorf("%w; it said: %s", err, said)
	}
	return nil
}

// lend gives the files to an account that PgBouncer may run as.
func lend(paths ...string) (string, error) {
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(found.Uid)
		gid, _ := strconv.Atoi(found.Gid)
		for _, path := range paths {
			if err := os.Chown(path, uid, gid); err != nil {
				return "", err
			}
		}
		return name, nil
	}
	return "", errors.New("PgBouncer refuses to run as root and none of the accounts postgres and nobody exists")
}

func (b *Bouncer) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, b.ask)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *Bouncer) url(user, password, dbname string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: fmt.Sprintf("127.0.0.1:%d", b.Port), Path: "/" + dbname,
		RawQuery: "sslmode=disable&default_query_exec_mode=cache_describe",
	}
	return u.String()
}

// URL is a superuser's connection string through PgBouncer to what server, a
// URL, leads to. pgx prepares nothing on it.
func (b *Bouncer) URL(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	password, _ := u.User.Password()
	return b.url(u.User.Username(), password, strings.TrimPrefix(u.Path, "/"))
}

// Restart kills PgBouncer and starts another on the same port.
func (b *Bouncer) Restart() error {
	b.end()
	return b.run()
}

// Stop ends PgBouncer and all connections through it.
func (b *Bouncer) Stop() error {
	b.end()
	return os.RemoveAll(b.dir)
}

func (b *Bouncer) end() {
	if b.cmd == nil {
		return
	}
	_ = b.leash.Close()
	_ = b.cmd.Wait() // says how the shell ended, which is no matter
	b.cmd = nil
}

// tcpPort is the port on 127.0.0.1 of a server of package localpg: the number of
// its socket.
func tcpPort(u *url.URL) int {
	for _, text := range []string{u.Query().Get("port"), u.Port()} {
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	}
	return 5432
}

// centralPool opens the pool that a test's Headgate works with.
func (p *Postgres) centralPool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	if p.Bouncer != nil {
		url = p.Bouncer.URL(url)
	}
	return pgxpool.New(ctx, url)
}
