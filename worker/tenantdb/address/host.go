package address

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	maxHost  = 253
	maxLabel = 63
)

var errSeveralHosts = errors.New("host: one address with several hosts is not supported yet; " +
	"give the host that takes writes, or a name that follows it")

// canonicalHost returns a host name or IP address in the form that is compared,
// and the directory of a socket as it is.
func canonicalHost(host string) (string, error) {
	if err := checkText("host", host, maxHost); err != nil {
		return "", err
	}
	if isSocketDir(host) {
		return host, nil
	}
	if strings.Contains(host, ",") {
		return "", errSeveralHosts
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return canonicalIP(ip)
	}
	if !isHostName(host) {
		return "", fmt.Errorf("host: %s is neither a host name nor an IP address", shown(host))
	}
	return host, nil
}

func canonicalIP(ip netip.Addr) (string, error) {
	if ip.Zone() != "" {
		return "", errors.New("host: an IPv6 address with a zone is not allowed")
	}
	return ip.Unmap().String(), nil
}

// isHostName says whether host, in lower case, is a name of labels. A last
// label of digits is refused: some resolvers read 127.1 as an address.
func isHostName(host string) bool {
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !isLabel(label) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}

func isLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
