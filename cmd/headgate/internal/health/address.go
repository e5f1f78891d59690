package health

import (
	"net"
	"strconv"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// Address completes an address to listen at: a port alone, with or without its colon, is
// of 127.0.0.1.
func Address(text string) (string, error) {
	whole := text
	if !strings.Contains(whole, ":") {
		whole = ":" + whole
	}
	host, port, err := net.SplitHostPort(whole)
	if err != nil {
		return "", cli.Usagef("--health: %s is no address: give HOST:PORT, or a port of 127.0.0.1, as in 9180", cli.Quote(text))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", cli.Usagef("--health: %s has no port of 0 to 65535: give HOST:PORT, or a port of 127.0.0.1, as in 9180", cli.Quote(text))
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
