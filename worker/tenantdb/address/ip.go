package address

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// metadata are the addresses at which clouds hand credentials to whoever asks
// from inside the machine, as far as they lie outside the link-local ranges.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // most clouds; link-local too, named for the error's sake
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	reserved    = netip.MustParsePrefix("240.0.0.0/4") // broadcast is in it

	// IPv6 forms that carry an IPv4 address in them besides the mapped one, the byte it
	// begins at, and what its bytes are masked with. A NAT64 gateway may also have a
	// prefix of its network's own, which nobody else can know.
	carriers = []struct {
		prefix netip.Prefix
		at     int
		mask   byte
	}{
		{netip.MustParsePrefix("::/96"), 12, 0},           // IPv4-compatible
		{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, 0}, // IPv4-translated (SIIT)
		{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},    // NAT64
		{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0},  // NAT64 of a network of its own, with a prefix of 96 bits
		{netip.MustParsePrefix("2002::/16"), 2, 0},        // 6to4
		{netip.MustParsePrefix("2001::/32"), 12, 0xff},    // Teredo
	}
)

// CheckIP says whether a connection may go to ip, which a host's name has just
// been resolved to; it is asked for every address that is dialled, so that a
// name which changes its mind gains nothing. Link-local, metadata, unspecified,
// reserved and multicast addresses are refused for every transport, loopback
// for all but PlainLoopback, and everything else than loopback for
// PlainLoopback. An IPv4 address inside an IPv6 one is judged as itself. With
// Socket nothing is dialled, so nothing is allowed.
func (t Transport) CheckIP(ip netip.Addr) error {
	plain := ip.WithZone("")
	if err := t.checkIP(plain); err != nil {
		return err
	}
	if inner, ok := carried(plain); ok {
		return t.checkIP(inner)
	}
	return nil
}

func (t Transport) checkIP(ip netip.Addr) error {
	ip = ip.Unmap()
	switch {
	case !ip.IsValid():
		return errors.New("the host's address is not an IP address")
	case slices.Contains(metadata, ip):
		return fmt.Errorf("address %s is refused: it is a cloud's metadata service", ip)
	case ip.IsUnspecified(), thisNetwork.Contains(ip):
		return fmt.Errorf("address %s is refused: it is unspecified", ip)
	case ip.IsLinkLocalUnicast():
		return fmt.Errorf("address %s is refused: it is link-local", ip)
	case ip.IsMulticast(), reserved.Contains(ip):
		return fmt.Errorf("address %s is refused: it is multicast, broadcast or reserved", ip)
	}
	return t.checkReach(ip)
}

// checkReach holds an otherwise harmless address to what the transport is for.
func (t Transport) checkReach(ip netip.Addr) error {
	switch t {
	case TLS:
		if ip.IsLoopback() {
			return fmt.Errorf("address %s is refused: it is loopback, which only a server with transport plain-loopback may use", ip)
		}
		return nil
	case PlainLoopback:
		if !ip.IsLoopback() {
			return fmt.Errorf("address %s is refused: transport plain-loopback reaches this machine only", ip)
		}
		return nil
	}
	return fmt.Errorf("address %s is refused: transport %s dials no address", ip, shown(string(t)))
}

// carried returns the IPv4 address inside ip. ::1 and :: carry none, though
// they look as if.
func carried(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() || ip.Is4In6() || ip.IsLoopback() || ip.IsUnspecified() {
		return netip.Addr{}, false
	}
	bytes := ip.As16()
	for _, c := range carriers {
		if c.prefix.Contains(ip) {
			inner := [4]byte(bytes[c.at : c.at+4])
			for i := range inner {
				inner[i] ^= c.mask
			}
			return netip.AddrFrom4(inner), true
		}
	}
	return netip.Addr{}, false
}
