package address

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const maxString = 4096

// options are the keys that a connection string may have; parseOption says what
// becomes of each.
var options = []string{
	"host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "target_session_attrs", "connect_timeout",
}

var errNotPostgres = errors.New("not a PostgreSQL connection string: write postgres://USER:PASSWORD@HOST:5432/DATABASE " +
	"or host=HOST user=USER password=PASSWORD dbname=DATABASE")

// Parse reads a connection string, as a URL (postgres://, postgresql://) or as
// keyword=value pairs. Host, user, password and database must be in it; the
// port may be left out. Every option outside the list of the package is refused
// by its name, a part given twice or left empty too, and several hosts are not
// supported yet. In a URL, percent-encoding is undone and a plus sign is a plus
// sign.
//
// The result is not yet allowed anywhere: see Check. Parse reads neither files
// nor the environment, and its errors never hold the password.
func Parse(dsn string) (Address, error) {
	dsn = strings.TrimRight(dsn, "\r\n")
	switch {
	case strings.TrimSpace(dsn) == "":
		return Address{}, errNotPostgres
	case len(dsn) > maxString:
		return Address{}, fmt.Errorf("connection string: %d bytes is too long; at most %d are allowed", len(dsn), maxString)
	case !isPrintable(dsn):
		return Address{}, errors.New("connection string: control characters and invalid UTF-8 are not allowed")
	}
	var p parser
	if err := p.parse(dsn); err != nil {
		return Address{}, err
	}
	a := p.address
	a.Port = cmp.Or(a.Port, DefaultPort)
	if err := a.checkParts(); err != nil {
		return Address{}, err
	}
	return a, nil
}

// parser collects the parts of one connection string.
type parser struct {
	address Address
	seen    []string

	// quiet is set once what follows may be a piece of an unquoted password:
	// from then on no name or value is repeated in an error.
	quiet bool
}

func (p *parser) parse(dsn string) error {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(dsn, scheme); ok {
			return p.parseURL(rest)
		}
	}
	return p.parseKeywords(dsn)
}

// set stores the value of one option.
func (p *parser) set(option, value string) error {
	switch {
	case !slices.Contains(options, option):
		return p.refuse(option)
	case slices.Contains(p.seen, option):
		return fmt.Errorf("%s is given twice", fieldName(option))
	case value == "":
		return fmt.Errorf("%s missing: its value is empty", fieldName(option))
	}
	p.seen = append(p.seen, option)
	return p.parseOption(option, value)
}

func (p *parser) parseOption(option, value string) (err error) {
	a := &p.address
	switch option {
	case "host":
		err = p.setHost(value)
	case "port":
		a.Port, err = p.number("port", value, 1, 65535)
	case "dbname":
		a.Database = value
	case "user":
		a.User = value
	case "password":
		a.Password = NewSecret(value)
	case "sslmode":
		a.SSLMode, err = value, p.oneOf("sslmode", value, sslModes)
	case "sslrootcert":
		a.RootCert = value
	case "target_session_attrs":
		a.TargetSessionAttrs, err = value, p.oneOf("target_session_attrs", value, sessionAttrs)
	case "connect_timeout":
		var seconds int
		seconds, err = p.number("connect_timeout", value, 1, int(maxTimeout/time.Second))
		a.ConnectTimeout = time.Duration(seconds) * time.Second
	}
	return err
}

func (p *parser) setHost(host string) error {
	canonical, err := canonicalHost(host)
	if err != nil && p.quiet {
		return errors.New("host: the value given is neither a host name nor an IP address")
	}
	p.address.Host = canonical
	return err
}

// number reads a decimal number without sign, space or leading zero.
func (p *parser) number(field, value string, low, high int) (int, error) {
	n, err := strconv.Atoi(value)
	if field == "port" && strings.Contains(value, ",") {
		return 0, errSeveralHosts
	}
	if err != nil || strconv.Itoa(n) != value || n < low || n > high {
		return 0, fmt.Errorf("%s: %s is not %d–%d", field, p.shown(value), low, high)
	}
	return n, nil
}

func (p *parser) oneOf(field, value string, allowed []string) error {
	if p.quiet {
		if !slices.Contains(allowed, value) {
			return fmt.Errorf("%s: the value given is not one of %s", field, strings.Join(allowed, ", "))
		}
		return nil
	}
	return checkOneOf(field, value, allowed)
}

func (p *parser) shown(value string) string {
	if p.quiet {
		return "the value given"
	}
	return shown(value)
}

// fieldName is what errors call an option.
func fieldName(option string) string {
	if option == "dbname" {
		return "database"
	}
	return option
}
