package address

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"
)

// DefaultPort is what Port 0 means.
const DefaultPort = 5432

// Address is how one login reaches one database. Its parts are the only ones
// there are: what a connection string may say besides is refused by Parse. It
// prints without its password.
type Address struct {
	Host     string // a host name or IP address; for transport socket the socket's directory
	Port     int    // 1 to 65535; 0 means DefaultPort
	Database string
	User     string
	Password Secret

	// SSLMode is verify-full or verify-ca over TLS, disable otherwise. "" means
	// verify-full or disable, as the transport says.
	SSLMode string

	// RootCert names a certificate authority of the catalog; it is never a path.
	// "" means the system's roots.
	RootCert string

	// Roots is that authority's certificates in PEM form, as the catalog gives them with
	// the address. They are no part of what is sealed.
	Roots string

	// ConnectTimeout bounds one attempt to connect, 1 second to 5 minutes. 0
	// leaves it to whoever connects.
	ConnectTimeout time.Duration

	// TargetSessionAttrs is any, read-write, read-only, primary, standby or
	// prefer-standby. "" means any.
	TargetSessionAttrs string
}

// Canonical returns the address with its host in canonical form and the
// defaults of t filled in. It does not check: an address that Check refuses is
// still refused afterwards.
func (a Address) Canonical(t Transport) Address {
	if host, err := canonicalHost(a.Host); err == nil {
		a.Host = host
	}
	a.Port = cmp.Or(a.Port, DefaultPort)
	a.SSLMode = cmp.Or(a.SSLMode, defaultSSLMode(t))
	return a
}

func defaultSSLMode(t Transport) string {
	if t == TLS {
		return "verify-full"
	}
	return "disable"
}

// String returns user@host:port/database.
func (a Address) String() string {
	port := strconv.Itoa(cmp.Or(a.Port, DefaultPort))
	return fmt.Sprintf("%s@%s/%s", a.User, net.JoinHostPort(a.Host, port), a.Database)
}

// LogValue returns the parts of the address except the password.
func (a Address) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("host", a.Host),
		slog.Int("port", cmp.Or(a.Port, DefaultPort)),
		slog.String("database", a.Database),
		slog.String("user", a.User),
		slog.String("sslmode", a.SSLMode),
	)
}
