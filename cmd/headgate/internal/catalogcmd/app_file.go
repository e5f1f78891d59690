package catalogcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// appFile is where the application's address goes, once.
type appFile struct {
	path      string // "" for nowhere, - for standard output
	transport address.Transport
}

// check finds out whether the file can be made, before there is anything to write. One that
// an earlier run of the same command has written may be there, unless this is the first.
func (f appFile) check(first bool) error {
	if f.path == "" || f.path == "-" {
		return nil
	}
	if info, err := os.Lstat(f.path); err == nil && !info.Mode().IsRegular() {
		return cli.Usagef("--app-url-file: %s is no regular file", cli.Quote(f.path))
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist) && first:
		return cli.Usagef("--app-url-file: the file %s exists already: remove it, or name another", cli.Quote(f.path))
	case errors.Is(err, fs.ErrExist):
		return nil // write compares
	case err != nil:
		return cli.Usagef("--app-url-file: the file %s cannot be made: %w", cli.Quote(f.path), cli.Cause(err))
	}
	return errors.Join(file.Close(), os.Remove(f.path))
}

// write writes the address, unless it is there.
func (f appFile) write(a address.Address) error {
	if f.path == "" || f.path == "-" {
		return nil
	}
	text := appURL(a, f.transport) + "\n"
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		there, readErr := os.ReadFile(f.path)
		if readErr == nil && string(there) == text {
			return nil
		}
		return fmt.Errorf("--app-url-file: the file %s exists already, with something else in it: remove it, or name another", cli.Quote(f.path))
	}
	if err != nil {
		return fmt.Errorf("--app-url-file: %w", cli.Cause(err))
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

// appURL writes an address for any client. A root certificate by name is Headgate's own
// affair: the application has its file elsewhere.
func appURL(a address.Address, transport address.Transport) string {
	a = a.Canonical(transport)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(a.User, a.Password.Reveal()), Path: "/" + a.Database}
	query := url.Values{"sslmode": {a.SSLMode}}
	if transport == address.Socket {
		query = url.Values{"host": {a.Host}, "port": {strconv.Itoa(a.Port)}}
	} else {
		host := a.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		u.Host = host + ":" + strconv.Itoa(a.Port)
	}
	u.RawQuery = query.Encode()
	return u.String()
}
