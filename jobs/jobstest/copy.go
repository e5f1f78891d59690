package jobstest

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Copy makes a second central database that is what the first is now, as a dump that is
// restored later would be, with the same key and the same tenant databases. Sessions of
// the first are ended for it; pools connect again.
func (e *Env) Copy() *Env {
	e.t.Helper()
	u, err := url.Parse(e.URL)
	if err != nil {
		e.t.Fatal("the central database's address is not a URL")
	}
	from, name := u.Path[1:], "hg_"+random(6)
	e.central.make(e.t, name, func(ctx context.Context, s *testbed.Server) error { return copyUsed(ctx, s, from, name) })
	e.Reset() // its sessions are gone
	return e.At(e.central, name)
}

// At is the environment with a central database of that name on a server, which somebody
// has made from e's own: the same key and the same tenant databases.
func (e *Env) At(central *Postgres, dbname string) *Env {
	e.t.Helper()
	return open(e.t, central, testbed.Config{Central: dbname, Adopt: true, Key: address.NewSecret(e.Key)})
}

// copyUsed copies a database that others may be connected to.
func copyUsed(ctx context.Context, s *testbed.Server, from, to string) error {
	for {
		err := s.Exec(ctx, "postgres",
			fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'`, from),
			fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, to, from))
		var used *pgconn.PgError
		if err == nil || !errors.As(err, &used) || used.Code != "55006" || ctx.Err() != nil {
			return err
		}
	}
}
