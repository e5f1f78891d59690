package address

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckIP(t *testing.T) {
	t.Parallel()
	for text, allowed := range map[string][]Transport{
		"10.0.0.1":        {TLS},
		"192.168.1.1":     {TLS},
		"203.0.113.5":     {TLS},
		"fd00::1":         {TLS},
		"2001:db8::1":     {TLS},
		"::ffff:10.0.0.1": {TLS},

		"127.0.0.1":        {PlainLoopback},
		"127.255.0.1":      {PlainLoopback},
		"::1":              {PlainLoopback},
		"::ffff:127.0.0.1": {PlainLoopback},

		"0.0.0.0":                  nil,
		"0.1.2.3":                  nil,
		"::":                       nil,
		"::ffff:0.0.0.0":           nil,
		"169.254.169.254":          nil,
		"::ffff:169.254.169.254":   nil,
		"169.254.0.1":              nil,
		"fe80::1":                  nil,
		"fe80::1%eth0":             nil,
		"fd00:ec2::254":            nil,
		"fd00:ec2::254%eth0":       nil,
		"fd20:ce::254":             nil,
		"100.100.100.200":          nil,
		"168.63.129.16":            nil,
		"224.0.0.1":                nil,
		"ff02::1":                  nil,
		"255.255.255.255":          nil,
		"64:ff9b::169.254.169.254": nil,
		"64:ff9b::127.0.0.1":       nil,
		"2002:a9fe:a9fe::1":        nil,
		"2002:7f00:1::":            nil,
		"::127.0.0.1":              nil,
		"::169.254.169.254":        nil,
		"240.0.0.1":                nil,
		"::ffff:240.0.0.1":         nil,
		"::ffff:0:169.254.169.254": nil,
		"::ffff:0:127.0.0.1":       nil,
		"64:ff9b:1::127.0.0.1":     nil,
		"64:ff9b:1::a9fe:a9fe":     nil,
		"64:ff9b::10.0.0.1":        {TLS},
		"2002:a00:1::1":            {TLS},

		"2001:0:5ef5:79fd:0:5ef5:5601:5601": nil,   // Teredo of 169.254.169.254
		"2001:0:5ef5:79fd:0:5ef5:80ff:fffe": nil,   // Teredo of 127.0.0.1
		"2001:0:5ef5:79fd:0:5ef5:f5ff:fffe": {TLS}, // Teredo of 10.0.0.1
		"fd00:ec2::fe":                      {TLS},
		"64:ff9b::100.100.100.200":          nil,
		"ff0e::1":                           nil,
		"::ffff:224.0.0.1":                  nil,
	} {
		for _, transport := range []Transport{TLS, PlainLoopback, Socket, ""} {
			err := transport.CheckIP(netip.MustParseAddr(text))
			if slices.Contains(allowed, transport) {
				require.NoError(t, err, "%s %s", transport, text)
			} else {
				require.Error(t, err, "%s %s", transport, text)
			}
		}
	}
	require.EqualError(t, TLS.CheckIP(netip.Addr{}), "the host's address is not an IP address")
}
