package address

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxName     = 63 // bytes that Postgres keeps of an identifier
	maxPassword = 1024
	maxTimeout  = 5 * time.Minute
)

var (
	sslModes     = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	sessionAttrs = []string{"any", "read-write", "read-only", "primary", "standby", "prefer-standby"}
)

// Check says whether the address may be used for a server with transport t and
// these hosts, and if not which part is wrong and what is allowed instead. The
// host must be one of hosts, compared in canonical form. It resolves no names:
// see CheckIP for what happens when dialling.
func (a Address) Check(t Transport, hosts []string) error {
	if _, err := ParseTransport(string(t)); err != nil {
		return err
	}
	if err := a.checkParts(); err != nil {
		return err
	}
	host, err := t.CheckHost(a.Host)
	if err != nil {
		return err
	}
	if !containsHost(hosts, host) {
		return fmt.Errorf("host: %q is not one of the server's hosts (%s)", host, strings.Join(hosts, ", "))
	}
	return a.checkTLS(t)
}

func containsHost(hosts []string, host string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool {
		canonical, err := canonicalHost(h)
		return err == nil && canonical == host
	})
}

func (a Address) checkTLS(t Transport) error {
	if t == TLS {
		switch a.SSLMode {
		case "", "verify-full", "verify-ca":
			return nil
		}
		return fmt.Errorf("sslmode must be verify-full (got %s); verify-ca is the only other choice for a server with transport tls", a.SSLMode)
	}
	switch {
	case a.SSLMode != "" && a.SSLMode != "disable":
		return fmt.Errorf("sslmode must be disable or left out for a server with transport %s (got %s)", t, a.SSLMode)
	case a.RootCert != "":
		return fmt.Errorf("sslrootcert has no meaning for a server with transport %s; leave it out", t)
	}
	return nil
}

// checkParts holds for every transport: nothing is missing, too long or able to
// confuse a later reader.
func (a Address) checkParts() error {
	if _, err := canonicalHost(a.Host); err != nil {
		return err
	}
	return cmp.Or(
		checkText("user", a.User, maxName),
		checkText("password", a.Password.Reveal(), maxPassword),
		checkDatabase(a.Database),
		checkPort(a.Port),
		checkRootCert(a.RootCert),
		checkTimeout(a.ConnectTimeout),
		checkOneOf("sslmode", a.SSLMode, sslModes),
		checkOneOf("target_session_attrs", a.TargetSessionAttrs, sessionAttrs),
	)
}

// checkText refuses the empty, the overlong and the unprintable. It never
// repeats the value, so it may be asked about a password.
func checkText(field, value string, limit int) error {
	switch {
	case value == "":
		return fmt.Errorf("%s missing", field)
	case len(value) > limit:
		return fmt.Errorf("%s: %d bytes is too long; at most %d are allowed", field, len(value), limit)
	case !isPrintable(value):
		return fmt.Errorf("%s: control characters and invalid UTF-8 are not allowed", field)
	}
	return nil
}

func isPrintable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// checkDatabase also refuses names that libpq's tools would take for a whole
// connection string.
func checkDatabase(name string) error {
	if err := checkText("database", name, maxName); err != nil {
		return err
	}
	if strings.Contains(name, "=") || strings.Contains(name, "://") {
		return errors.New(`database: a name may not hold "=" or "://"`)
	}
	return nil
}

func checkPort(port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("port: %d is not 1–65535", port)
	}
	return nil
}

func checkRootCert(name string) error {
	if name == "" || len(name) <= maxName && isLabel(strings.ReplaceAll(strings.ToLower(name), ".", "_")) {
		return nil
	}
	return errors.New("sslrootcert: give the name of a certificate in Headgate's store (letters, digits, . _ -), not a path")
}

func checkTimeout(d time.Duration) error {
	if d != 0 && (d < time.Second || d > maxTimeout) {
		return fmt.Errorf("connect_timeout: %s is not between 1s and %s", d, maxTimeout)
	}
	return nil
}

func checkOneOf(field, value string, allowed []string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %s is not one of %s", field, shown(value), strings.Join(allowed, ", "))
}

// shown quotes a value for an error if it is short and plain, and stands in for
// it otherwise: what somebody pastes into the wrong field may be a secret.
func shown(value string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"
	if value != "" && (len(value) > 80 || strings.ContainsFunc(value, func(r rune) bool { return !strings.ContainsRune(plain, r) })) {
		return "the value given"
	}
	return fmt.Sprintf("%q", value)
}
