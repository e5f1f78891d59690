package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// benchLogin is a role of the stage's own.
type benchLogin struct{ name, password string }

// benchDatabase is one tenant database.
type benchDatabase struct{ id, name string }

// benchSchema is what a job writes into. Both sides write it with the same
// statement and the same login.
const benchSchema = `
CREATE TABLE bench_effects (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id bigint NOT NULL,
    job    bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
GRANT INSERT, SELECT ON bench_effects TO `

const insertEffect = `INSERT INTO bench_effects (org_id, job) VALUES ($1, $2)`

// makeTenantDatabases makes one with Headgate's schema and the jobs' table, and
// copies it.
func (s *benchStage) makeTenantDatabases(ctx context.Context) error {
	if err := s.makeRoles(ctx); err != nil {
		return err
	}
	template := s.name + "_template"
	if err := s.create(ctx, template, "template0"); err != nil {
		return err
	}
	if err := s.on(ctx, template, func(conn *pgx.Conn) error { return s.fillTemplate(ctx, conn) }); err != nil {
		return err
	}
	for i := range s.layout.databases {
		d := &benchDatabase{id: uuid.NewString(), name: s.name + "_t" + strconv.Itoa(i+1)}
		if err := s.create(ctx, d.name, template); err != nil {
			return err
		}
		err := s.on(ctx, d.name, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `UPDATE headgate.identity SET database_id = $1`, d.id)
			return err
		})
		if err != nil {
			return err
		}
		s.tenants = append(s.tenants, d)
	}
	return nil
}

// makeRoles makes the two logins of all tenant databases, and the group of job
// logins if the server was never prepared; that one stays.
func (s *benchStage) makeRoles(ctx context.Context) error {
	if _, err := s.admin.Exec(ctx, migrations.ServerSQL); err != nil {
		return err
	}
	s.owner = benchLogin{s.name + "_owner", rand.Text()}
	s.job = benchLogin{s.name + "_job", rand.Text()}
	for _, login := range []benchLogin{s.owner, s.job} {
		if _, err := s.admin.Exec(ctx, `CREATE ROLE `+login.name+` LOGIN PASSWORD '`+login.password+`'`); err != nil {
			return fmt.Errorf("creating role %s: %w", login.name, err)
		}
		s.later(func(ctx context.Context) error { return s.drop(ctx, `DROP ROLE IF EXISTS `+login.name) })
	}
	_, err := s.admin.Exec(ctx, `GRANT headgate_job TO `+s.job.name)
	return err
}

func (s *benchStage) fillTemplate(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`GRANT ALL ON DATABASE %s TO %s; GRANT ALL ON SCHEMA public TO %[2]s; SET ROLE %[2]s`,
		s.name+"_template", s.owner.name))
	if err != nil {
		return err
	}
	if _, err := migrations.UpTenant(ctx, conn, uuid.Nil.String(), nil); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, benchSchema+s.job.name)
	return err
}

// empty removes what jobs have written.
func (d *benchDatabase) empty(ctx context.Context, s *benchStage) error {
	return s.on(ctx, d.name, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `TRUNCATE headgate.ledger, bench_effects`)
		return err
	})
}

// address is how the catalog knows one login of a tenant database.
func (s *benchStage) address(d *benchDatabase, login benchLogin) address.Address {
	cfg := s.config.ConnConfig
	return address.Address{
		Host: cfg.Host, Port: int(cfg.Port), Database: d.name, User: login.name, Password: address.NewSecret(login.password),
	}
}

// transport is how the catalog's server may be reached.
func (s *benchStage) transport() address.Transport {
	switch {
	case s.config.ConnConfig.Host[0] == '/':
		return address.Socket
	case s.here():
		return address.PlainLoopback
	default:
		return address.TLS
	}
}
