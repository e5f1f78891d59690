package testbed

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/worker/tenantdb/address"
)

// jobGroup is the group role of all job logins.
const jobGroup = "headgate_job"

// login is the address of a login that does not exist yet, with a password of its own.
func (s *Server) login(dbname, user string) address.Address {
	host, port := s.reach()
	a := address.Address{
		Host: host, Port: port, Database: dbname, User: user,
		Password: address.NewSecret(s.Passwords + rand.Text()),
	}
	if s.Transport() != address.TLS {
		a.SSLMode = "disable"
	}
	return a
}

// newLogin is a login to be made.
type newLogin struct {
	address.Address
	group string // a role that it is a member of, or ""
}

// create gives the session the password, and returns the statement that makes the role by
// it: a password in the text of a statement would be shown to all who look at sessions.
func (l newLogin) create(ctx context.Context, conn *pgx.Conn) (string, error) {
	_, err := conn.Exec(ctx, `SELECT set_config('testbed.password', $1, false)`, l.Password.Reveal())
	group := ""
	if l.group != "" {
		group = ` IN ROLE ` + quote(l.group)
	}
	return `DO $$ BEGIN EXECUTE format('CREATE ROLE ` + quote(l.User) + ` LOGIN PASSWORD %L` + group + `', current_setting('testbed.password')); END $$`, err
}

// dropRole removes a role that owns nothing any more.
func (s *Server) dropRole(ctx context.Context, name string) error {
	return s.Exec(ctx, admin, `DROP ROLE IF EXISTS `+quote(name))
}

// random returns n bytes as hex.
func random(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}
