package testbed

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// Server is a Postgres server that databases are made on.
type Server struct {
	// Name is the server's name in the catalog. "" means "testbed".
	Name string

	// Admin is how a superuser connects. The database that it names is not used.
	Admin *pgxpool.Config

	// Budget is how many connections all workers together may have. 0 means no limit.
	Budget int

	// Via is the port of 127.0.0.1 where workers reach the server through a proxy or
	// a pooler. 0 means Admin's own address.
	Via int

	// Pooler says which pooler listens at Via. "" means none. Behind a pooler each
	// login gets a direct address too: 127.0.0.1 and Admin's port.
	Pooler address.Pooler

	// Passwords begins the password of each login: letters, digits, - and _. "" means that
	// nothing but chance is in it.
	Passwords string

	// KeepTemplates leaves templates on the server for the next process. They have
	// names that do not depend on the bed.
	KeepTemplates bool

	// Disposable says that the server is thrown away as a whole. Closing a bed then
	// closes connections and drops nothing.
	Disposable bool
}

// Local is the Server of a private Postgres. Whoever started it stops it.
func Local(name string, server *localpg.Server) (*Server, error) {
	s, err := At(name, server.URL(admin))
	if err == nil {
		s.Disposable = true
	}
	return s, err
}

// At is the Server that a superuser's connection string leads to.
func At(name, connString string) (*Server, error) {
	cfg, err := pgxpool.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("reading the address of server %s: %w", name, err)
	}
	return &Server{Name: name, Admin: cfg}, nil
}

// admin is the database that every server has.
const admin = "postgres"

func (s *Server) name() string { return cmp.Or(s.Name, "testbed") }

// Transport says how workers may reach the server.
func (s *Server) Transport() address.Transport {
	host := s.Admin.ConnConfig.Host
	ip := net.ParseIP(host)
	switch {
	case s.Via != 0:
		return address.PlainLoopback
	case strings.HasPrefix(host, "/"):
		return address.Socket
	case host == "localhost" || ip != nil && ip.IsLoopback():
		return address.PlainLoopback
	default:
		return address.TLS
	}
}

// reach is where workers reach the server.
func (s *Server) reach() (host string, port int) {
	if s.Via != 0 {
		return "127.0.0.1", s.Via
	}
	return s.Admin.ConnConfig.Host, int(s.Admin.ConnConfig.Port)
}

func (s *Server) pooler() address.Pooler { return cmp.Or(s.Pooler, address.NoPooler) }

// params are the server's entry in the catalog.
func (s *Server) params() catalog.ServerParams {
	host, _ := s.reach()
	return catalog.ServerParams{Name: s.name(), Hosts: []string{host}, Transport: s.Transport(), Pooler: s.pooler(), Budget: s.Budget}
}

// ConnConfig is how one of the bed's logins connects, past Via.
func (s *Server) ConnConfig(login address.Address) *pgx.ConnConfig {
	cfg := s.Admin.ConnConfig.Copy()
	cfg.Database, cfg.User, cfg.Password = login.Database, login.User, login.Password.Reveal()
	return cfg
}

// Pool opens a superuser's pool to one database. 0 connections means pgxpool's default.
func (s *Server) Pool(ctx context.Context, dbname string, conns int) (*pgxpool.Pool, error) {
	cfg := s.Admin.ConnConfig.Copy()
	cfg.Database = dbname
	return s.pool(ctx, cfg, conns)
}

// PoolAs is Pool with one of the bed's logins.
func (s *Server) PoolAs(ctx context.Context, login address.Address, conns int) (*pgxpool.Pool, error) {
	return s.pool(ctx, s.ConnConfig(login), conns)
}

func (s *Server) pool(ctx context.Context, conn *pgx.ConnConfig, conns int) (*pgxpool.Pool, error) {
	cfg := s.Admin.Copy()
	cfg.ConnConfig = conn
	if conns > 0 {
		cfg.MaxConns = int32(conns)
	}
	return pgxpool.NewWithConfig(ctx, cfg)
}

// On runs work on a superuser's connection to one database.
func (s *Server) On(ctx context.Context, dbname string, work func(*pgx.Conn) error) error {
	cfg := s.Admin.ConnConfig.Copy()
	cfg.Database = dbname
	return on(ctx, cfg, work)
}

// As runs work on a connection with one of the bed's logins.
func (s *Server) As(ctx context.Context, login address.Address, work func(*pgx.Conn) error) error {
	return on(ctx, s.ConnConfig(login), work)
}

func on(ctx context.Context, cfg *pgx.ConnConfig, work func(*pgx.Conn) error) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // a goodbye that is not heard changes nothing
	}()
	return work(conn)
}

// Exec runs statements on a superuser's connection to one database. Its errors do not
// repeat the statements, because these may hold passwords.
func (s *Server) Exec(ctx context.Context, dbname string, statements ...string) error {
	return s.On(ctx, dbname, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
}

// Create makes a database from a template.
func (s *Server) Create(ctx context.Context, dbname, template string) error {
	err := s.On(ctx, admin, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, createDatabase(conn, dbname, template))
		return err
	})
	if err != nil {
		return fmt.Errorf("making database %s from %s: %w", dbname, template, err)
	}
	return nil
}

func createDatabase(conn *pgx.Conn, dbname, template string) string {
	sql := fmt.Sprintf(`CREATE DATABASE %s TEMPLATE %s`, quote(dbname), quote(template))
	if !strings.HasPrefix(conn.PgConn().ParameterStatus("server_version"), "14") {
		sql += ` STRATEGY file_copy` // faster for a small template; before 15 the only one, without a name
	}
	return sql
}

// Drop removes a database and ends the sessions in it. Nothing happens if there is none.
func (s *Server) Drop(ctx context.Context, dbname string) error {
	if err := s.Exec(ctx, admin, dropDatabase(dbname)); err != nil {
		return fmt.Errorf("dropping database %s: %w", dbname, err)
	}
	return nil
}

func dropDatabase(dbname string) string {
	return `DROP DATABASE IF EXISTS ` + quote(dbname) + ` WITH (FORCE)`
}

const selectDatabase = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`

// Central makes a central database, unless it is there, and migrates it.
func (s *Server) Central(ctx context.Context, dbname string) error {
	template, err := s.centralSource(ctx)
	if err != nil {
		return err
	}
	err = s.On(ctx, admin, func(conn *pgx.Conn) error {
		var there bool
		err := conn.QueryRow(ctx, selectDatabase, dbname).Scan(&there)
		if err == nil && !there {
			_, err = conn.Exec(ctx, createDatabase(conn, dbname, template))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("making the central database: %w", err)
	}
	return s.upCentral(ctx, dbname)
}

// centralSource is what a central database is cloned from: migrated already, where
// templates stay.
func (s *Server) centralSource(ctx context.Context) (string, error) {
	if s.KeepTemplates {
		return s.centralTemplate(ctx)
	}
	return "template0", nil
}

// upCentral migrates what was not cloned from a migrated template.
func (s *Server) upCentral(ctx context.Context, dbname string) error {
	if s.KeepTemplates {
		return nil
	}
	return s.On(ctx, dbname, func(conn *pgx.Conn) error { return up(ctx, conn) })
}

func up(ctx context.Context, conn *pgx.Conn) error {
	_, err := migrations.Up(ctx, conn, nil)
	return err
}

// quote writes a name as SQL has it.
func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
