package main

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"
)

// findServer starts a private server, or uses the one that is named.
func (s *stage) findServer(ctx context.Context) error {
	config, err := s.serverConfig(ctx)
	if err != nil {
		return err
	}
	s.server = &testbed.Server{Name: "bench", Admin: config, Budget: s.layout.conns * s.layout.databases, Disposable: s.own != nil}
	if s.admin, err = s.server.Pool(ctx, config.ConnConfig.Database, 8); err != nil {
		return err
	}
	s.later(func(context.Context) error { s.admin.Close(); return nil })
	var backend int
	if err := s.admin.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return cli.Unreachable(config.ConnConfig, err)
	}
	if s.server.Transport() != address.TLS { // it is on this machine
		s.meter.postmaster = postmasterOf(backend)
	}
	return nil
}

func (s *stage) serverConfig(ctx context.Context) (*pgxpool.Config, error) {
	if s.app.DatabaseURL != "" || s.app.HasSecret("DATABASE_URL") {
		config, err := s.app.SessionConfig()
		if err == nil { // on a busy server a transaction idles while the tables are written out
			config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
		}
		return config, err
	}
	var err error
	s.own, err = localpg.Start(ctx, localpg.Config{
		Durable: true, MaxConnections: 60 + 4*centralConns + max(s.opts.slots, 2*s.layout.databases*s.layout.conns),
		Notify: func(sentence string) { s.app.Say("headgate: %s", sentence) },
	})
	if err != nil {
		return nil, err
	}
	s.later(func(context.Context) error { return s.own.Stop() })
	return pgxpool.ParseConfig(s.own.URL("postgres"))
}

// told are the server's settings that the figures depend on.
const told = `
SELECT name, current_setting(name) FROM pg_settings
WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers', 'max_wal_size', 'max_connections')`

// settings are those of the server and the sizes of both sides.
func (s *stage) settings(ctx context.Context) (map[string]string, error) {
	rows, err := s.admin.Query(ctx, told)
	if err != nil {
		return nil, err
	}
	version := cli.VersionOf("")
	settings := map[string]string{
		"pairs": strconv.Itoa(s.opts.pairs), "seconds": strconv.FormatFloat(s.opts.seconds, 'g', -1, 64),
		"slots": strconv.Itoa(s.opts.slots), "processes": "1", "tenants": strconv.Itoa(s.layout.databases * s.layout.tenantsEach),
		"tenant_databases": strconv.Itoa(s.layout.databases), "connections_per_tenant_database": strconv.Itoa(s.layout.conns),
		"river": version.River, "headgate": version.Version, "private_server": strconv.FormatBool(s.own != nil),
		"cpu_of_postgres": "read from /proc",
	}
	if s.meter.postmaster == 0 {
		settings["cpu_of_postgres"] = "unknown: the server is not a process of this machine"
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error { settings[name] = value; return nil })
	return settings, err
}
