package tenantdb

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Config is what a Pools needs. The zero value works.
type Config struct {
	// MaxConns bounds the connections of this process to one server, over all
	// its databases and logins, idle ones included. The server's own budget in
	// the catalog bounds it further. 0 means that only the budget does, or 20 where
	// there is none.
	MaxConns int

	// IdleTimeout is how long a connection is kept without work. 0 means 4
	// seconds.
	IdleTimeout time.Duration

	// SessionTimeout is after how long the server itself ends a session without work:
	// a process that is frozen cannot close its connections, and the others may need
	// their places. It is the server's idle_session_timeout while a connection is idle,
	// and does not concern jobs. Behind a pooler in session mode it is not set. 0 means
	// half as long again as IdleTimeout; less than that is taken for 0, because a
	// connection is to be closed by its process first.
	SessionTimeout time.Duration

	// ShareFor is how long after a claim this process keeps connections above those of
	// its running jobs. Each claim, and each poll, renews it. 0 means 2 seconds. Other
	// processes count such connections of a frozen process for SessionTimeout and
	// ShareFor together.
	ShareFor time.Duration

	// ConnectTimeout bounds one connection attempt, name look-up, TLS and login
	// included, where the address does not say. 0 means 5 seconds.
	ConnectTimeout time.Duration

	// CancelWait is how long a statement whose context has ended may take to obey
	// the request to cancel it, before the connection is given up. A server that
	// does not answer even that is out of reach, which is no fault of the job's. 0
	// means 3 seconds.
	CancelWait time.Duration

	// AuthPause is how long a login that was refused is not tried again unless
	// the catalog has a new address. 0 means 5 minutes.
	AuthPause time.Duration

	// AffinityWait is how long a job waits for one of its own database's connections,
	// all in use, before it closes another database's idle one for a new one of
	// its own; where connecting takes long, twice as long as that, 20 times this at
	// most. 0 means 50 milliseconds.
	AffinityWait time.Duration

	// Heard is told how each connection attempt ended, by the goroutine that made it:
	// nil, if it succeeded or the server at least answered, else why the server, or
	// the database, is taken not to answer. opened says that a breaker has opened by
	// it. nil means that nobody is told but the Logger.
	Heard func(ctx context.Context, place address.Place, silence error, opened Opened)

	// Centre is the central database that the connections work for; tenant databases
	// that belong to another one are refused. nil means that nobody looks.
	Centre Centre

	// CentreFor is how long a kept connection's database is believed to be Centre's
	// without another look, if Centre's token stays the same. 0 means 1 minute.
	CentreFor time.Duration

	// ProtectedFor is how long a shared database is believed to keep its tenants apart, or
	// not to, without another look. 0 means 10 seconds.
	ProtectedFor time.Duration

	// Tracer records a span of each statement, where the attempt is traced. nil means
	// OpenTelemetry's global provider. The span has the statement's first word; TraceSQL
	// adds the statement, without its parameters. A statement may itself have values.
	Tracer   trace.TracerProvider
	TraceSQL bool

	// Logger is told of servers that stop and begin to answer. nil means
	// slog.Default().
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 4*time.Second)
	c.SessionTimeout = max(c.SessionTimeout, c.IdleTimeout*3/2)
	c.ShareFor = cmp.Or(c.ShareFor, 2*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 5*time.Second)
	c.CancelWait = cmp.Or(c.CancelWait, 3*time.Second)
	c.AffinityWait = cmp.Or(c.AffinityWait, 50*time.Millisecond)
	c.CentreFor = cmp.Or(c.CentreFor, time.Minute)
	c.ProtectedFor = cmp.Or(c.ProtectedFor, 10*time.Second)
	c.AuthPause = cmp.Or(c.AuthPause, 5*time.Minute)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}
