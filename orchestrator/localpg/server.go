//go:build unix

package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// socketPort is the number in the socket's name where there is no TCP port.
const socketPort = 5432

// Server is a running private Postgres. Its methods may be called from several
// goroutines.
type Server struct {
	cfg      Config
	bin      string
	port     int
	password string
	dir      *directory

	proc atomic.Pointer[process] // the present one; Restart changes it

	mu      sync.Mutex // one Stop or Restart at a time
	stopped bool
	stopErr error
}

// Start runs a private Postgres and returns when it answers. It needs half a
// second to a second, or as long as fetching takes on a machine without
// Postgres. ctx bounds the start only; the server lives until Stop, or until
// this process dies.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Dir != "" {
		if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
			return nil, fmt.Errorf("localpg: finding %s: %w", cfg.Dir, err)
		}
	}
	a, err := chooseAccount(cfg.Dir)
	if err != nil {
		return nil, err
	}
	bin, err := newFinder(cfg, a, cmp.Or(clusterMajor(cfg.Dir), cfg.Major)).find(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.StartTimeout, fmt.Errorf("not ready after %s", cfg.StartTimeout))
	defer cancel()
	dir, err := openDirectory(ctx, cfg.Dir, cfg.Memory, a)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, bin: bin, dir: dir}
	if err := s.bringUp(ctx); err != nil {
		return nil, errors.Join(err, dir.close())
	}
	return s, nil
}

// bringUp makes the cluster if need be and launches it. A free port can be taken
// by somebody else before Postgres has it: then another one is tried.
func (s *Server) bringUp(ctx context.Context) (err error) {
	if s.password, err = openCluster(ctx, s.dir, s.bin); err != nil {
		return err
	}
	for range 5 {
		if s.port, err = s.choosePort(ctx); err != nil {
			return err
		}
		if err = s.launch(ctx); err == nil || !s.portTaken(err) {
			break
		}
	}
	return err
}

func (s *Server) choosePort(ctx context.Context) (int, error) {
	if !s.cfg.TCP {
		return socketPort, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("localpg: looking for a free port: %w", err)
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

func (s *Server) portTaken(err error) bool {
	return s.cfg.TCP && errors.Is(err, errServerDied) && strings.Contains(err.Error(), "Address already in use")
}

// launch starts postgres and waits until it answers. When it does not, no
// process is left.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.dir.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("localpg: opening the server's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the server has its own copy
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), s.args()...)
	cmd.Dir, cmd.Env = s.dir.path, childEnv()
	cmd.Stdout, cmd.Stderr = log, log
	p, err := startProcess(s.dir.account, cmd)
	if err != nil {
		return fmt.Errorf("localpg: %w", err)
	}
	if err := awaitReady(ctx, p, s.URL(""), s.dir.log()); err != nil {
		return errors.Join(err, p.stop("immediate"))
	}
	s.proc.Store(p)
	return nil
}

// args are the server's. synchronous_commit stays on everywhere: without it rows
// that were acknowledged are gone after an immediate stop, and every test of
// faults would prove nothing.
func (s *Server) args() []string {
	listen := ""
	if s.cfg.TCP {
		listen = "127.0.0.1"
	}
	settings := []string{
		"listen_addresses=" + listen,
		"max_connections=" + strconv.Itoa(s.cfg.MaxConnections),
	}
	if !s.cfg.Durable {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Settings)) {
		settings = append(settings, name+"="+s.cfg.Settings[name])
	}
	args := []string{"-D", s.dir.data(), "-k", s.dir.socketDir, "-p", strconv.Itoa(s.port)}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	return args
}

// URL is the superuser's connection string to a database over the unix socket,
// "" being the database postgres. It holds the password: never log it.
func (s *Server) URL(dbname string) string {
	if dbname == "" {
		dbname = "postgres"
	}
	address := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(superuser, s.password),
		Path:     "/" + dbname,
		RawQuery: url.Values{"host": {s.dir.socketDir}, "port": {strconv.Itoa(s.port)}}.Encode(),
	}
	return address.String()
}

// SocketDir is the directory of the unix socket: the host of a connection.
func (s *Server) SocketDir() string { return s.dir.socketDir }

// Port is the number in the socket's name, and the TCP port if there is one.
func (s *Server) Port() int { return s.port }

// BinDir is the directory of the binaries that run.
func (s *Server) BinDir() string { return s.bin }

// PID is the server's process, another one after Restart.
func (s *Server) PID() int { return s.proc.Load().pid }
