package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/headgate/headgate/jobs"
)

const maxDomain = 253

// CanonicalDomain returns a host, as it stands in a Host header, in the form in which
// domains are stored and compared: no port, no trailing dot, lower case, punycode. The
// error of a text that is no domain says why.
func CanonicalDomain(host string) (string, error) {
	name, err := canonicalDomain(host)
	if err != nil {
		return "", jobs.Inputf("host", host, "it %v", err)
	}
	return name, nil
}

// canonicalDomain returns a host, as it stands in a Host header, in the form in
// which domains are stored and compared: no port, no trailing dot, lower case,
// punycode. One that has this form already is returned without a copy.
func canonicalDomain(host string) (string, error) {
	name := strings.TrimSuffix(cutPort(host), ".")
	if len(name) > maxDomain {
		return "", tooLong()
	}
	if !isASCII(name) {
		if !utf8.ValidString(name) { // idna would put U+FFFD in
			return "", errors.New("is not a domain name: it is not valid UTF-8")
		}
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", errors.New("is not a domain name: its letters beyond ASCII cannot stand in one")
		}
		name = ascii
	}
	name = strings.ToLower(name)
	switch {
	case name == "":
		return "", errors.New("is empty")
	case len(name) > maxDomain:
		return "", tooLong()
	case isAddress(name):
		return "", errors.New("is an IP address, not a domain name")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isDomainLabel(label) {
			return "", errors.New("is not a domain name")
		}
	}
	return name, nil
}

func tooLong() error {
	return fmt.Errorf("is too long; at most %d characters are allowed", maxDomain)
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isAddress parses only what could be one: names are looked at for each request.
func isAddress(name string) bool {
	last := name[len(name)-1]
	if !strings.Contains(name, ":") && (last < '0' || last > '9') {
		return false
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

func isDomainLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// cutPort takes :8443 off the end. A colon that no port follows stays, and is
// refused as part of the name.
func cutPort(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || i+1 == len(host) || strings.Trim(host[i+1:], "0123456789") != "" || len(host)-i > len(":65535") {
		return host
	}
	return host[:i]
}
