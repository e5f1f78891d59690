package pages

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// Address completes an address of this machine's loopback: a port alone, with or without its
// colon, is of 127.0.0.1. Any other host is refused.
func Address(text string) (string, error) {
	whole := text
	if !strings.Contains(whole, ":") {
		whole = ":" + whole
	}
	host, port, err := net.SplitHostPort(whole)
	if err != nil {
		return "", cli.Usagef("--listen: %s is no address: give a port of 127.0.0.1, as in 9190, or HOST:PORT with 127.0.0.1, [::1] or localhost", cli.Quote(text))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", cli.Usagef("--listen: %s has no port of 0 to 65535: give a port of 127.0.0.1, as in 9190", cli.Quote(text))
	}
	switch at, err := netip.ParseAddr(host); {
	case host == "", host == "localhost":
		host = "127.0.0.1"
	case err != nil || !at.IsLoopback():
		return "", cli.Usagef("--listen: %s can be reached from other machines, and the pages ask nobody for a password yet: give 127.0.0.1, [::1] or localhost, and come from elsewhere by ssh -L %s:127.0.0.1:%s HOST", cli.Quote(text), port, port)
	}
	return net.JoinHostPort(host, port), nil
}

// name is a name that --listen-name gives: a host's, without a port.
func name(text string) (string, error) {
	if text == "" || strings.ContainsAny(text, ":/@?#[] \t") || text == "*" {
		return "", cli.Usagef("--listen-name: %s is no host's name: give the name alone, as in jobs.internal", cli.Quote(text))
	}
	return strings.ToLower(text), nil
}
