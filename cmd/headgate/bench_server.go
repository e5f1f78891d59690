package main

import (
	"context"
	"net"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/headgate/headgate/orchestrator/localpg"
)

// findServer starts a private server, or uses the one that is named.
func (s *benchStage) findServer(ctx context.Context) (err error) {
	if s.config, err = s.serverConfig(ctx); err != nil {
		return err
	}
	s.config.MaxConns = 8
	if s.admin, err = pgxpool.NewWithConfig(ctx, s.config); err != nil {
		return err
	}
	s.later(func(context.Context) error { s.admin.Close(); return nil })
	var backend int
	if err := s.admin.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
		return unreachable(s.config.ConnConfig, err)
	}
	if s.here() {
		s.meter.postmaster = postmasterOf(backend)
	}
	return nil
}

func (s *benchStage) serverConfig(ctx context.Context) (*pgxpool.Config, error) {
	if s.p.databaseURL != "" || s.p.hasSecret("DATABASE_URL") {
		return s.p.sessionConfig()
	}
	var err error
	s.own, err = localpg.Start(ctx, localpg.Config{
		Durable: true, MaxConnections: 60 + 4*benchCentralConns + max(s.opts.slots, 2*s.layout.databases*s.layout.conns),
		Notify: func(sentence string) { s.p.say("headgate: %s", sentence) },
	})
	if err != nil {
		return nil, err
	}
	s.later(func(context.Context) error { return s.own.Stop() })
	return pgxpool.ParseConfig(s.own.URL("postgres"))
}

// here says whether the server is on this machine.
func (s *benchStage) here() bool {
	host := s.config.ConnConfig.Host
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || host == "localhost" || ip != nil && ip.IsLoopback()
}

// told are the server's settings that the figures depend on.
const told = `
SELECT name, current_setting(name) FROM pg_settings
WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers', 'max_wal_size', 'max_connections')`

// settings are those of the server and the sizes of both sides.
func (s *benchStage) settings(ctx context.Context) (map[string]string, error) {
	rows, err := s.admin.Query(ctx, told)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"pairs": strconv.Itoa(s.opts.pairs), "seconds": strconv.FormatFloat(s.opts.seconds, 'g', -1, 64),
		"slots": strconv.Itoa(s.opts.slots), "processes": "1", "tenants": strconv.Itoa(s.layout.databases * s.layout.tenantsEach),
		"tenant_databases": strconv.Itoa(s.layout.databases), "connections_per_tenant_database": strconv.Itoa(s.layout.conns),
		"river": thisVersion().River, "headgate": thisVersion().Version, "private_server": strconv.FormatBool(s.own != nil),
		"cpu_of_postgres": "read from /proc",
	}
	if s.meter.postmaster == 0 {
		settings["cpu_of_postgres"] = "unknown: the server is not a process of this machine"
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error { settings[name] = value; return nil })
	return settings, err
}
