package catalog

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/headgate/headgate/jobs"
)

// domainForm says what a domain of a tenant looks like.
const domainForm = "give a name of two or more parts of letters, digits and hyphens, as in acme.example"

// CheckDomain returns the domain of a kind that a tenant is to have in the form in which
// domains are stored: lower case, without trailing dot, letters beyond ASCII in punycode.
// Refused are a name of one part, an IP address, a port, and a public suffix such as co.uk,
// which nobody has alone; of DomainEmail also the domains of the largest public mail
// providers. The error is a *jobs.InputError about field.
//
// All ways in which a tenant gets a domain go this one. Who looks a host up, lists or removes
// needs no more than the stored form (see CanonicalDomain).
func CheckDomain(field, domain, kind string) (string, error) {
	canonical, err := newDomain(domain)
	if err == nil && kind == DomainEmail && slices.Contains(publicMail, canonical) {
		return "", jobs.Inputf(field, domain, "anybody can have an address there: give a domain that only the tenant's people have addresses at")
	}
	if err != nil {
		return "", jobs.Inputf(field, domain, "it %v", err)
	}
	return canonical, nil
}

func newDomain(domain string) (string, error) {
	refuse := func(why string) (string, error) { return "", fmt.Errorf("%s: %s", why, domainForm) }
	switch {
	case strings.Contains(domain, "://") || strings.Contains(domain, "/"):
		return refuse("is a URL")
	case strings.Contains(domain, "@"):
		return refuse("is an e-mail address or has a user")
	case strings.Contains(domain, "*"):
		return refuse("is a pattern, and a domain means one tenant by itself only")
	}
	canonical, err := canonicalDomain(domain)
	if err != nil {
		return refuse(err.Error())
	}
	last := canonical[strings.LastIndexByte(canonical, '.')+1:]
	switch suffix, known := publicsuffix.PublicSuffix(canonical); {
	case strings.Contains(domain, ":"):
		return refuse("has a port")
	case last == canonical:
		return refuse("has one part only")
	case isNumber(last):
		return refuse("ends with a number, as IP addresses do")
	case known && suffix == canonical:
		return refuse("is a public suffix, below which anybody can have a domain")
	case strings.Contains("."+canonical, ".xn--") && !isPunycode(canonical):
		return refuse("has a part in punycode that stands for no letters")
	}
	return canonical, nil
}

// isNumber is true of what a browser reads as the last number of an IP address.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// isPunycode is true of a domain whose letters beyond ASCII are written in the one way that a
// browser writes them.
func isPunycode(domain string) bool {
	letters, err := idna.Lookup.ToUnicode(domain)
	if err != nil {
		return false
	}
	again, err := idna.Lookup.ToASCII(letters)
	return err == nil && again == domain
}
