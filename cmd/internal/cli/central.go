package cli

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// centralString returns the central database's connection string, and the name
// of what gave it.
func (app *App) centralString() (text, from string, err error) {
	if app.DatabaseURL != "" {
		return app.DatabaseURL, "--database-url", nil
	}
	text, from, err = app.secretFromEnv("DATABASE_URL")
	if text != "" || err != nil {
		return text, from, err
	}
	for _, name := range []string{"PGHOST", "PGSERVICE", "PGDATABASE", "PGUSER", "PGPORT"} {
		if app.Env(name) != "" {
			return "", name, nil // pgx reads them all
		}
	}
	return "", "", Usagef("no central database is given: set DATABASE_URL, or try `headgate dev`, which brings its own")
}

// plausible tells a connection string from a slip: pgx would take nearly any
// text with = in it, and connect to wherever the defaults lead.
var plausible = regexp.MustCompile(`^postgres(ql)?://|(^|\s)(host|hostaddr|port|dbname|user|service)\s*=`)

// Poolers are what may stand before a server.
var Poolers = []string{string(address.NoPooler), string(address.TransactionPooler), string(address.SessionPooler)}

// Pooled says that sessions of the central database belong to nobody.
func (app *App) Pooled() bool { return app.Pooler == string(address.TransactionPooler) }

// Config is how pools connect to the central database.
func (app *App) Config() (*pgxpool.Config, error) {
	text, from, err := app.centralString()
	if err != nil {
		return nil, err
	}
	cfg, err := app.configOf(text, from)
	if err != nil {
		return nil, err
	}
	switch {
	case app.Pooled():
		// Nothing may be prepared under a name; arguments are encoded as ever.
		cfg.ConnConfig.DefaultQueryExecMode, cfg.ConnConfig.StatementCacheCapacity = pgx.QueryExecModeCacheDescribe, 0
		session.PinPooled(cfg.ConnConfig.RuntimeParams)
	case app.Pooler == string(address.SessionPooler):
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

// DirectConfig is the way past the pooler; nil where none is given.
func (app *App) DirectConfig() (*pgxpool.Config, error) {
	text, from, err := app.secretFromEnv("DATABASE_DIRECT_URL")
	if text == "" || err != nil {
		return nil, err
	}
	cfg, err := app.configOf(text, from)
	if err == nil {
		session.Pin(cfg.ConnConfig.RuntimeParams, session.Central)
	}
	return cfg, err
}

// SessionConfig is for connections that have a session of their own.
func (app *App) SessionConfig() (*pgxpool.Config, error) {
	cfg, err := app.DirectConfig()
	switch {
	case cfg != nil || err != nil:
		return cfg, err
	case app.Pooled():
		return nil, Usagef("this needs a session of its own (a lock is held in it), which a pooler in transaction mode does not give: set DATABASE_DIRECT_URL to the central database's address past it")
	}
	return app.Config()
}

// configOf reads a connection string to the central database; from names what gave
// it.
func (app *App) configOf(text, from string) (*pgxpool.Config, error) {
	if text != "" && !plausible.MatchString(text) {
		return nil, notAConnectionString(from, nil)
	}
	cfg, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, notAConnectionString(from, err)
	}
	conn := cfg.ConnConfig
	if !strings.HasPrefix(conn.Host, "/") && strings.ContainsAny(conn.Host, "@?# ") { // it may be the end of the password
		return nil, Usagef("%s: the host is none: in a URL the special characters of a password are percent-encoded (an @ is %%40)", from)
	}
	for _, option := range []string{"pgbouncer", "connection_limit", "pool_timeout", "schema", "supa"} {
		if _, given := conn.RuntimeParams[option]; given {
			return nil, Usagef("%s: Postgres has no option %q: delete it from the connection string (what stands before the database is said with --central-pooler)", from, option)
		}
	}
	if !strings.Contains(text, "connect_timeout") && app.Env("PGCONNECT_TIMEOUT") == "" {
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
	return Usagef("%s is not a PostgreSQL connection string%s: write postgres://USER:PASSWORD@HOST:5432/DATABASE, with special characters in the password percent-encoded", from, cause)
}

// inUTC makes times come out of the database in UTC, as JSON shows them.
func inUTC(conn *pgx.Conn) {
	conn.TypeMap().RegisterType(&pgtype.Type{
		Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC},
	})
}
