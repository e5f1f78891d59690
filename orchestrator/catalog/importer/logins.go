package importer

import (
	"fmt"
	"strings"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// logins reads the cells of an address: a connection string, or its parts. nil means that
// all are empty. No error holds a value.
func (p parts) logins() (*logins, error) {
	var l logins
	var err error
	switch {
	case p["connection_string"] != "":
		if l.job, err = address.Parse(p["connection_string"]); err != nil {
			return nil, fmt.Errorf("connection_string: %w", err)
		}
	case p.any("db_host", "db_port", "db_name", "db_user", "db_password"):
		if l.job, err = p.job(); err != nil {
			return nil, err
		}
	case p.any("owner_connection_string", "owner_user", "owner_password"):
		return nil, jobs.Inputf("db_host", "", "there is an owner login and no job login: give db_host, db_name, db_user and db_password, or connection_string")
	default:
		return nil, nil //nolint:nilnil // no login
	}
	switch {
	case p["owner_connection_string"] != "":
		if l.owner, err = address.Parse(p["owner_connection_string"]); err != nil {
			return nil, fmt.Errorf("owner_connection_string: %w", err)
		}
	case p.any("owner_user", "owner_password"):
		if p["owner_user"] == "" || p["owner_password"] == "" {
			return nil, jobs.Inputf("owner_user", "", "give both owner_user and owner_password")
		}
		l.owner = l.job
		l.owner.User, l.owner.Password = p["owner_user"], address.NewSecret(p["owner_password"])
	}
	return &l, nil
}

func (p parts) any(names ...string) bool {
	for _, name := range names {
		if p[name] != "" {
			return true
		}
	}
	return false
}

func (p parts) job() (a address.Address, err error) {
	for _, name := range []string{"db_host", "db_name", "db_user", "db_password"} {
		if p[name] == "" {
			return a, jobs.Inputf(name, "", "it is empty: give db_host, db_name, db_user and db_password")
		}
	}
	a = address.Address{Host: p["db_host"], Port: address.DefaultPort, Database: p["db_name"], User: p["db_user"], Password: address.NewSecret(p["db_password"])}
	if text := p["db_port"]; text != "" {
		port, ok := jobs.ParseWhole(text)
		if a.Port = int(port); !ok || port < 1 || port > 65535 {
			return a, jobs.Inputf("db_port", "", "give 1–65535, or nothing for %d", address.DefaultPort)
		}
	}
	return a, nil
}

// Owner is the owner login of all new databases, whose host, port and database are those of
// the job login: see ParseOwner.
type Owner struct{ address address.Address }

// The places that ParseOwner wants, and what stands there while the rest is read.
var ownerPlaces = [][2]string{{"{host}", "host.invalid"}, {"{port}", "5432"}, {"{database}", "database"}}

// ParseOwner reads an owner login for all databases, with places for what is each
// database's own, as in postgres://app_owner:PASSWORD@{host}:{port}/{database}.
func ParseOwner(text address.Secret) (Owner, error) {
	plain := strings.TrimSpace(text.Reveal())
	for _, place := range ownerPlaces {
		if strings.Count(plain, place[0]) != 1 {
			return Owner{}, jobs.Inputf("owner", "", "%s must stand in it once, as in postgres://USER:PASSWORD@{host}:{port}/{database}", place[0])
		}
		plain = strings.Replace(plain, place[0], place[1], 1)
	}
	a, err := address.Parse(plain)
	if err == nil && (a.Host != ownerPlaces[0][1] || a.Database != ownerPlaces[2][1]) {
		err = fmt.Errorf("the places stand elsewhere than in postgres://USER:PASSWORD@{host}:{port}/{database}")
	}
	return Owner{a}, jobs.AsInputError("owner", err)
}

// of is the owner login of a job login's database.
func (o Owner) of(job address.Address) address.Address {
	a := o.address
	a.Host, a.Port, a.Database = job.Host, job.Port, job.Database
	if a.SSLMode == "" {
		a.SSLMode, a.RootCert = job.SSLMode, job.RootCert
	}
	return a
}
