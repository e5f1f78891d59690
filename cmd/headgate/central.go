package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// centralString returns the central database's connection string, and the name
// of what gave it.
func (p *program) centralString() (text, from string, err error) {
	if p.databaseURL != "" {
		return p.databaseURL, "--database-url", nil
	}
	text, from, err = p.secretFromEnv("DATABASE_URL")
	if text != "" || err != nil {
		return text, from, err
	}
	for _, name := range []string{"PGHOST", "PGSERVICE", "PGDATABASE", "PGUSER", "PGPORT"} {
		if p.env(name) != "" {
			return "", name, nil // pgx reads them all
		}
	}
	return "", "", usagef("no central database is given: set DATABASE_URL, or try `headgate dev`, which brings its own")
}

// plausible tells a connection string from a slip: pgx would take nearly any
// text with = in it, and connect to wherever the defaults lead.
var plausible = regexp.MustCompile(`^postgres(ql)?://|(^|\s)(host|hostaddr|port|dbname|user|service)\s*=`)

// poolers are what may stand before a server.
var poolers = []string{string(address.NoPooler), string(address.TransactionPooler), string(address.SessionPooler)}

// pooled says that sessions of the central database belong to nobody.
func (p *program) pooled() bool { return p.pooler == string(address.TransactionPooler) }

func (p *program) centralConfig() (*pgxpool.Config, error) {
	text, from, err := p.centralString()
	if err != nil {
		return nil, err
	}
	cfg, err := p.configOf(text, from)
	if err != nil {
		return nil, err
	}
	switch {
	case p.pooled():
		// Nothing may be prepared under a name; arguments are encoded as ever.
		cfg.ConnConfig.DefaultQueryExecMode, cfg.ConnConfig.StatementCacheCapacity = pgx.QueryExecModeCacheDescribe, 0
		session.PinPooled(cfg.ConnConfig.RuntimeParams)
	case p.pooler == string(address.SessionPooler):
		session.PinPooled(cfg.ConnConfig.RuntimeParams)
		cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			inUTC(conn)
			_, err := conn.Exec(ctx, session.Whole(session.Central))
			return err
		}
	default:
		session.Pin(cfg.ConnConfig.RuntimeParams, session.Central)
	}
	return cfg, nil
}

// directConfig is the way past the pooler, nil where none is given.
func (p *program) directConfig() (*pgxpool.Config, error) {
	text, from, err := p.secretFromEnv("DATABASE_DIRECT_URL")
	if text == "" || err != nil {
		return nil, err
	}
	cfg, err := p.configOf(text, from)
	if err == nil {
		session.Pin(cfg.ConnConfig.RuntimeParams, session.Central)
	}
	return cfg, err
}

// sessionConfig is for connections that have a session of their own.
func (p *program) sessionConfig() (*pgxpool.Config, error) {
	cfg, err := p.directConfig()
	switch {
	case cfg != nil || err != nil:
		return cfg, err
	case p.pooled():
		return nil, usagef("this needs a session of its own (migrations hold a lock in it), which a pooler in transaction mode does not give: set DATABASE_DIRECT_URL to the central database's address past it")
	}
	return p.centralConfig()
}

// configOf reads a connection string to the central database; from names what gave
// it.
func (p *program) configOf(text, from string) (*pgxpool.Config, error) {
	if text != "" && !plausible.MatchString(text) {
		return nil, notAConnectionString(from, nil)
	}
	cfg, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, notAConnectionString(from, err)
	}
	conn := cfg.ConnConfig
	if !strings.Contains(text, "connect_timeout") && p.env("PGCONNECT_TIMEOUT") == "" {
		conn.ConnectTimeout = 10 * time.Second
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "headgate"
	}
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		inUTC(conn)
		return nil
	}
	return cfg, nil
}

// causes are pgx's own words for what it cannot read. The rest of its message
// may hold a password.
var causes = []string{
	"failed to parse as URL", "failed to parse as keyword/value", "invalid port", "invalid connect_timeout",
	"failed to configure TLS", "cannot parse pool_max_conns", "pool_max_conns too small",
}

func notAConnectionString(from string, err error) error {
	cause := ""
	for _, known := range causes {
		if err != nil && strings.Contains(err.Error(), known) {
			cause = " (" + known + ")"
		}
	}
	return usagef("%s is not a PostgreSQL connection string%s: write postgres://USER:PASSWORD@HOST:5432/DATABASE, with special characters in the password percent-encoded", from, cause)
}

// inUTC makes times come out of the database in UTC, as JSON shows them.
func inUTC(conn *pgx.Conn) {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
}

// central opens the central database with at least so many connections, after a
// look whether its schema fits this program. The caller closes it.
func (p *program) central(ctx context.Context, conns int32) (*pgxpool.Pool, error) {
	cfg, err := p.centralConfig()
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = max(cfg.MaxConns, conns)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the central database: %w", err)
	}
	if err := migrations.Check(ctx, pool); err != nil {
		pool.Close()
		return nil, unreachable(cfg.ConnConfig, err)
	}
	return pool, nil
}

// centralConn opens one connection with a session of its own, for migrations:
// past the pooler if there is one.
func (p *program) centralConn(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := p.sessionConfig()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err == nil && cfg.AfterConnect != nil {
		err = cfg.AfterConnect(ctx, conn)
	}
	if err != nil {
		return nil, unreachable(cfg.ConnConfig, err)
	}
	return conn, nil
}

// ear is a pool past the pooler, for the connection that listens; nil where the
// central pool can do it, or where no way past is known.
func (p *program) ear(ctx context.Context) (*pgxpool.Pool, error) {
	cfg, err := p.directConfig()
	if cfg == nil || err != nil || !p.pooled() {
		return nil, err
	}
	cfg.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening the central database past its pooler: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("DATABASE_DIRECT_URL: %w", unreachable(cfg.ConnConfig, err))
	}
	return pool, nil
}

// unreachable says of an error that may be one of connecting where it was and
// what to do. It leaves others as they are.
func unreachable(cfg *pgx.ConnConfig, err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	at := fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
	var pgErr *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "3D000":
		return centralError{err, fmt.Sprintf("there is no database %q at %s; create it and run `headgate migrate up`", cfg.Database, at)}
	case errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "28"):
		return centralError{err, fmt.Sprintf("the central database at %s refuses user %q (%s); check DATABASE_URL", at, cfg.User, pgErr.Message)}
	case unknownParameter(err) && errors.As(err, &pgErr):
		return centralError{err, fmt.Sprintf("a PgBouncer stands before the central database at %s (%s): say so with --central-pooler session or transaction (HEADGATE_CENTRAL_POOLER), as its pool_mode is", at, pgErr.Message)}
	case errors.As(err, &pgErr):
		return centralError{err, fmt.Sprintf("the central database at %s takes no connection (%s); try again later", at, pgErr.Message)}
	case errors.As(err, &network):
		return centralError{err, fmt.Sprintf("the central database at %s does not answer (%v); is it running, and is DATABASE_URL right?", at, network.Err)}
	}
	return centralError{err, fmt.Sprintf("the central database at %s cannot be reached (%v); is it running, and is DATABASE_URL right?", at, connect.Unwrap())}
}

// unknownParameter says that PgBouncer has refused the settings of a session.
func unknownParameter(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && strings.Contains(pgErr.Message, "unsupported startup parameter")
}

// centralError is a sentence for people with its cause for errors.As.
type centralError struct {
	cause    error
	sentence string
}

func (e centralError) Error() string { return e.sentence }
func (e centralError) Unwrap() error { return e.cause }

// rooms are the central side as most commands need it.
type rooms struct {
	pool    *pgxpool.Pool
	catalog *catalog.Catalog
	client  *orchestrator.Client
}

// open connects to the central database, and hands work what stands on it. ring
// may be nil where nothing is sealed or opened.
func (p *program) open(ctx context.Context, ring *catalog.KeyRing, work func(rooms) error) error {
	pool, err := p.central(ctx, 4)
	if err != nil {
		return err
	}
	defer pool.Close()
	r, err := p.roomsOn(pool, ring)
	if err != nil {
		return err
	}
	return work(r)
}

func (p *program) roomsOn(pool *pgxpool.Pool, ring *catalog.KeyRing) (rooms, error) {
	cat := catalog.New(pool, ring)
	client, err := orchestrator.New(orchestrator.Config{Pool: pool, Catalog: cat, Logger: p.log})
	return rooms{pool: pool, catalog: cat, client: client}, err
}

// keys reads the ring from the environment.
func (p *program) keys() (*catalog.KeyRing, error) {
	ring, err := catalog.LoadKeyRing(p.env)
	if err != nil {
		return nil, &usageError{err}
	}
	return ring, nil
}
