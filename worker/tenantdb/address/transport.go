package address

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
)

// Transport is how a server may be reached. It belongs to the server's row in
// the catalog, so that an address cannot weaken it.
type Transport string

const (
	// TLS is the ordinary case: TCP to a host whose certificate is checked.
	TLS Transport = "tls"

	// PlainLoopback is TCP without TLS to this machine only: tests, the demo, or
	// a local proxy that does the TLS.
	PlainLoopback Transport = "plain-loopback"

	// Socket is a Unix socket of this machine. The host of an address is then
	// the absolute directory of the socket, its port the number in the name.
	Socket Transport = "socket"
)

// maxSocketDir leaves room for /.s.PGSQL.65535 in the 104 bytes that the
// meanest system allows for the path of a socket.
const maxSocketDir = 104 - 1 - len("/.s.PGSQL.65535")

// ParseTransport returns the transport of that name.
func ParseTransport(name string) (Transport, error) {
	switch t := Transport(name); t {
	case TLS, PlainLoopback, Socket:
		return t, nil
	}
	return "", fmt.Errorf("transport %s is unknown: use tls, plain-loopback or socket", shown(name))
}

// CheckHost returns host in the one form that is stored and compared (lower
// case, no trailing dot, IP addresses in their shortest form), or says why a
// server with this transport may not have it.
func (t Transport) CheckHost(host string) (string, error) {
	if _, err := ParseTransport(string(t)); err != nil {
		return "", err
	}
	canonical, err := canonicalHost(host)
	switch {
	case err != nil:
		return "", err
	case t == Socket:
		return canonical, checkSocketDir(canonical)
	case isSocketDir(canonical):
		return "", fmt.Errorf("host: %s is the directory of a socket, which transport %s does not allow", shown(canonical), t)
	}
	return canonical, t.checkNetworkHost(canonical)
}

// checkNetworkHost judges a host in canonical form before it is resolved.
func (t Transport) checkNetworkHost(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		if err := t.CheckIP(ip); err != nil {
			return fmt.Errorf("host: %w", err)
		}
		return nil
	}
	switch isLocal := host == "localhost"; {
	case t == PlainLoopback && !isLocal:
		return fmt.Errorf("host: transport plain-loopback allows localhost, 127.0.0.0/8 and ::1 only (got %q)", host)
	case t == TLS && isLocal:
		return errors.New("host: localhost is not allowed with transport tls; use a server with transport plain-loopback or socket")
	}
	return nil
}

func checkSocketDir(dir string) error {
	switch {
	case !isSocketDir(dir):
		return fmt.Errorf("host: transport socket wants the absolute directory of the socket (got %s)", shown(dir))
	case path.Clean(dir) != dir:
		return fmt.Errorf("host: write the directory of the socket as %s", shown(path.Clean(dir)))
	case len(dir) > maxSocketDir:
		return fmt.Errorf("host: the directory of the socket is %d bytes long; the system allows %d", len(dir), maxSocketDir)
	}
	return nil
}

func isSocketDir(host string) bool { return len(host) > 0 && host[0] == '/' }
