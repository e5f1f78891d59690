package address

import (
	"errors"
	"net/url"
	"strings"
)

var (
	errEncode = errors.New("user and password: in a URL write @ as %40, / as %2F, ? as %3F, # as %23 and % as %25")
	errEscape = errors.New("connection string: a % must be followed by two hexadecimal digits; write % itself as %25")
)

// parseURL reads what follows the scheme. It does its own cutting: url.Parse
// repeats its input in its errors, and is lenient where a password is doubtful.
func (p *parser) parseURL(rest string) error {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	if strings.Contains(tail, "@") || strings.Contains(tail, "#") || strings.Count(authority, "@") > 1 {
		return errEncode
	}
	if err := p.parseAuthority(authority); err != nil {
		return err
	}
	path, query, hasQuery := strings.Cut(tail, "?")
	if err := p.parsePath(path); err != nil {
		return err
	}
	if !hasQuery {
		return nil
	}
	return p.parseQuery(query)
}

func (p *parser) parseAuthority(authority string) error {
	login, hostport, ok := strings.Cut(authority, "@")
	if !ok {
		// Nothing says that this is the host and not a user and password whose
		// host was forgotten.
		p.quiet = true
		return p.parseHostPort(authority)
	}
	user, password, hasPassword := strings.Cut(login, ":")
	if err := p.setDecoded("user", user); err != nil {
		return err
	}
	if hasPassword {
		if err := p.setDecoded("password", password); err != nil {
			return err
		}
	}
	return p.parseHostPort(hostport)
}

func (p *parser) parseHostPort(hostport string) error {
	if hostport == "" {
		return nil
	}
	if strings.Contains(hostport, ",") {
		return errSeveralHosts
	}
	host, port, hasPort, err := cutPort(hostport)
	if err != nil {
		return err
	}
	if host != "" {
		if err := p.setDecoded("host", host); err != nil {
			return err
		}
	}
	if hasPort {
		return p.set("port", port)
	}
	return nil
}

func cutPort(hostport string) (host, port string, hasPort bool, err error) {
	if bracketed, ok := strings.CutPrefix(hostport, "["); ok {
		host, rest, closed := strings.Cut(bracketed, "]")
		port, hasPort = strings.CutPrefix(rest, ":")
		if !closed || !strings.Contains(host, ":") || rest != "" && !hasPort {
			return "", "", false, errors.New("host: brackets hold an IPv6 address, as in [::1]:5432")
		}
		return host, port, hasPort, nil
	}
	if strings.Count(hostport, ":") > 1 {
		return "", "", false, errors.New("host: an IPv6 address stands in brackets, as in [::1]:5432")
	}
	host, port, hasPort = strings.Cut(hostport, ":")
	return host, port, hasPort, nil
}

func (p *parser) parsePath(path string) error {
	name := strings.TrimPrefix(path, "/")
	if name == "" {
		return nil
	}
	if strings.Contains(name, "/") {
		return errors.New("database: a / in the name is written %2F")
	}
	return p.setDecoded("dbname", name)
}

func (p *parser) parseQuery(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		option, value, ok := strings.Cut(pair, "=")
		if !ok {
			return errors.New("connection string: each option after the ? is written option=value, and a & in a value %26")
		}
		if err := p.setDecoded(option, value); err != nil {
			return err
		}
		if option == "password" {
			p.quiet = true
		}
	}
	return nil
}

func (p *parser) setDecoded(option, value string) error {
	decoded, err := url.PathUnescape(value)
	if err != nil {
		return errEscape
	}
	return p.set(option, decoded)
}
