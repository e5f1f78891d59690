package tenantdb

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/headgate/headgate/jobs/session"
	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// neutral names every setting that pgx would otherwise take from this
// process's PG* variables, home directory or password file. The placeholders
// are replaced by address before each connection.
const neutral = `host=/nowhere port=5432 dbname=none user=none password=none passfile='' ` +
	`sslmode=disable sslkey='' sslcert='' sslcertmode=allow sslrootcert='' sslpassword='' sslsni=1 sslnegotiation=postgres ` +
	`target_session_attrs=any application_name=headgate timezone=UTC options='' connect_timeout=5 ` +
	`min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=prefer require_auth=''`

// neutralConfig is parsed once: the parser looks at the environment and at files,
// for nothing, since all of it is overruled.
func neutralConfig() (*pgx.ConnConfig, error) {
	cfg, err := parsedNeutral()
	if err != nil {
		return nil, err
	}
	return cfg.Copy(), nil
}

var parsedNeutral = sync.OnceValues(func() (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(neutral)
	if err != nil {
		return nil, fmt.Errorf("the environment names a Postgres service that cannot be read (unset PGSERVICE and PGSERVICEFILE): %w", err)
	}
	clear(cfg.RuntimeParams)
	cfg.RuntimeParams["application_name"] = "headgate"
	session.Pin(cfg.RuntimeParams, session.Tenant)
	return cfg, nil
})

// Connect opens one connection to an address outside any pool, under the same
// policy: for installing the tenant schema and for a server's administrator,
// where there is no identity to compare yet. The caller closes it.
//
// Names without a schema mean Postgres's own ([session.OwnPath]), except through a pooler in
// transaction mode, where each transaction says so.
func Connect(ctx context.Context, cfg Config, transport address.Transport, pooler address.Pooler, a address.Address) (*pgx.Conn, error) {
	c, err := ConnectNaming(ctx, cfg, transport, pooler, a)
	if err != nil || pooler == address.TransactionPooler {
		return c, err
	}
	if _, err := c.Exec(ctx, session.OwnPathForSession); err != nil {
		return nil, errors.Join(connectError(ctx, address.Place{Database: a.Database, Login: a.User}, err), c.Close(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// ConnectNaming is [Connect] where names that people give mean what they mean to the login,
// by its own search_path. Each transaction on it sets a path of its own for all else.
func ConnectNaming(ctx context.Context, cfg Config, transport address.Transport, pooler address.Pooler, a address.Address) (*pgx.Conn, error) {
	cfg = cfg.withDefaults()
	conn, err := neutralConfig()
	if err != nil {
		return nil, err
	}
	if err := apply(cfg, transport, a, conn); err != nil {
		return nil, err
	}
	behind(pooler, conn)
	c, err := pgx.ConnectConfig(ctx, conn)
	err = mayNotConnect(conn, err)
	if err == nil {
		_, err = c.PgConn().Exec(ctx, pins(pooler, c)).ReadAll()
	}
	if err != nil {
		return nil, connectError(ctx, address.Place{Database: a.Database, Login: a.User}, err)
	}
	return c, nil
}

// address opens the sealed address and puts it into conn.
func (p *Pools) address(ctx context.Context, place address.Place, conn *pgx.ConnConfig) error {
	a, err := place.Open(ctx)
	if err != nil {
		return err
	}
	return apply(p.cfg, place.Transport, a, conn)
}

func apply(cfg Config, transport address.Transport, a address.Address, conn *pgx.ConnConfig) error {
	a = a.Canonical(transport)
	conn.Host, conn.Port = a.Host, uint16(a.Port)
	conn.Database, conn.User, conn.Password = a.Database, a.User, a.Password.Reveal()
	conn.Fallbacks = nil
	conn.ConnectTimeout = cmp.Or(a.ConnectTimeout, cfg.ConnectTimeout)
	conn.DialFunc = dialer(transport, conn.ConnectTimeout)
	conn.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		return &canceller{conn: pg, wait: cfg.CancelWait}
	}
	conn.TLSConfig, conn.ValidateConnect = nil, sessionAttrs[a.TargetSessionAttrs]
	if transport != address.TLS {
		return nil
	}
	var err error
	conn.TLSConfig, err = tlsConfig(a)
	return err
}

// sessionAttrs are the checks behind target_session_attrs; none for "any".
var sessionAttrs = map[string]pgconn.ValidateConnectFunc{
	"read-write":     pgconn.ValidateConnectTargetSessionAttrsReadWrite,
	"read-only":      pgconn.ValidateConnectTargetSessionAttrsReadOnly,
	"primary":        pgconn.ValidateConnectTargetSessionAttrsPrimary,
	"standby":        pgconn.ValidateConnectTargetSessionAttrsStandby,
	"prefer-standby": pgconn.ValidateConnectTargetSessionAttrsPreferStandby,
}

// dialer refuses, at the moment of connecting, an IP that the server's
// transport does not allow: what a name resolves to can change after the
// address was accepted.
func dialer(transport address.Transport, timeout time.Duration) pgconn.DialFunc {
	d := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	d.Control = func(network, addr string, socket syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		if err := giveUpUnanswered(socket); err != nil {
			return err
		}
		ip, err := netip.ParseAddrPort(addr)
		if err != nil {
			return fmt.Errorf("reading the resolved address: %w", err)
		}
		return transport.CheckIP(ip.Addr())
	}
	return d.DialContext
}

// rootCertError: the catalog lacks the authority that an address names.
type rootCertError struct{ error }

func (e *rootCertError) Unwrap() error { return e.error }

// tlsConfig verifies the server's certificate: its chain always, its name
// unless the address says verify-ca.
func tlsConfig(a address.Address) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: a.Host}
	if a.RootCert != "" {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM([]byte(a.Roots)) {
			return nil, &rootCertError{fmt.Errorf("the catalog has no certificate authority %q", a.RootCert)}
		}
	}
	if a.SSLMode == "verify-ca" {
		roots := cfg.RootCAs
		cfg.InsecureSkipVerify = true // the chain is verified below; only the name is not
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	}
	return cfg, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

const whoami = `SELECT database_id::pg_catalog.text, version, serves FROM headgate.whoami()`

// readIdentity is whoami for a session that has just begun, which pays for each
// table, type and function that it meets for the first time. COPY needs neither
// planner nor executor: a tenth of the cost.
const readIdentity = `COPY headgate.identity (database_id, version, serves, centre, token) TO STDOUT`

// readClock is the server's, in microseconds since 1970.
const readClock = `COPY (SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) '1000000'::pg_catalog.float8)::pg_catalog.int8) TO STDOUT`

// identity asks a connection whose database it reached, in one round trip. A
// dropped and re-created database, or an address that was swapped, answers
// differently. A schema of before 11 does not let the row be read so, and is asked
// the older way.
func identity(ctx context.Context, place address.Place, conn *pgx.Conn) (who, error) {
	first := pins(place.Pooler, conn)
	ask := readClock + ";" + readIdentity
	if first != "" {
		ask = first + ";" + ask
	}
	found, err := copyWho(ctx, conn, ask)
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && (pgErr.Code == "42501" || pgErr.Code == "42703") {
		if _, err := conn.PgConn().Exec(ctx, first).ReadAll(); err != nil {
			return found, err
		}
		found, err = readWho(conn.QueryRow(ctx, whoami, pgx.QueryExecModeExec))
	}
	return found, identify(place, conn, found, err)
}

// pins is what a session of our own must run first, because its startup packet
// could not say it: all of the settings behind a pooler that takes few parameters,
// and what servers of before 17 would refuse.
func pins(pooler address.Pooler, conn *pgx.Conn) string {
	switch {
	case pooler == address.SessionPooler:
		return wholeSQL
	case pooler != address.TransactionPooler && session.KnowsTransactionTimeout(conn.PgConn().ParameterStatus("server_version")):
		return session.NoTransactionTimeout
	}
	return ""
}

// who is the answer to whoami and readIdentity.
type who struct {
	database        string
	version, serves int
	mark            Mark      // the centre's
	marked          bool      // the schema has a place for it
	clock           time.Time // the server's, when it answered
}

func copyWho(ctx context.Context, conn *pgx.Conn, ask string) (found who, err error) {
	var line bytes.Buffer
	if _, err := conn.PgConn().CopyTo(ctx, &line, ask); err != nil {
		return found, err
	}
	var clock int64
	if _, err := fmt.Fscanln(&line, &clock); err != nil {
		return found, err
	}
	if line.Len() == 0 {
		return found, pgx.ErrNoRows
	}
	_, err = fmt.Fscan(&line, &found.database, &found.version, &found.serves, &found.mark.Centre, &found.mark.Token)
	found.clock = time.UnixMicro(clock)
	for _, text := range []*string{&found.mark.Centre, &found.mark.Token} {
		if *text == `\N` { // NULL
			*text = ""
		}
	}
	found.marked = true
	return found, err
}

func readWho(row pgx.Row) (found who, err error) {
	err = row.Scan(&found.database, &found.version, &found.serves)
	return found, err
}

// noSchema is what Postgres says where Headgate's schema is not, or not all of
// it, or is another's: no such function, schema, table or column.
var noSchema = []string{"42883", "3F000", "42P01", "42703"}

// identify judges the answer that came on a connection.
func identify(place address.Place, conn *pgx.Conn, found who, err error) error {
	switch pgErr := (*pgconn.PgError)(nil); {
	case errors.As(err, &pgErr) && pgErr.Code == "42501":
		return mayNotUse(place.Login, conn.Config().User, err)
	case errors.As(err, &pgErr) && slices.Contains(noSchema, pgErr.Code):
		return fmt.Errorf("%w: it has no Headgate schema", ErrWrongDatabase)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%w: it has no identity", ErrWrongDatabase)
	case pgErr != nil && (pgErr.Code == "42P05" || pgErr.Code == "26000"):
		return fmt.Errorf("%w: `headgate server set %s --pooler transaction` (%w)", ErrUnknownPooler, place.Server, err)
	case err != nil:
		return fmt.Errorf("asking the database whose it is: %w", err)
	case found.database != place.DatabaseID:
		return fmt.Errorf("%w: it says that it is %s, the catalog expects %s", ErrWrongDatabase, found.database, place.DatabaseID)
	}
	err = migrations.CheckTenant(place.Database, found.version, found.serves)
	var unfit *migrations.VersionError
	if place.Upgrading && errors.As(err, &unfit) && !unfit.Newer() {
		return nil
	}
	return err
}
