package catalog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/orchestrator/localpg"
	"github.com/headgate/headgate/worker/tenantdb/address"

	"github.com/headgate/headgate/orchestrator/catalog"
)

// One server for the package, made when the first test asks for it.
var (
	server      *localpg.Server
	startServer = sync.OnceValue(func() (err error) {
		server, err = localpg.Start(context.Background(), localpg.Config{})
		if err != nil {
			return err
		}
		return makeTemplate(context.Background())
	})
	databaseNumber atomic.Int64
)

func TestMain(m *testing.M) {
	code := m.Run()
	if server != nil {
		_ = server.Stop()
	}
	os.Exit(code)
}

const template = "central_template"

// makeTemplate migrates the database that every test gets a copy of.
func makeTemplate(ctx context.Context) error {
	if err := execute(ctx, "", "CREATE DATABASE "+template); err != nil {
		return err
	}
	files, err := filepath.Glob("../../migrations/central/*.sql")
	if err != nil {
		return err
	}
	statements := []string{"CREATE SCHEMA headgate"}
	for _, file := range files {
		if filepath.Base(file) == "0004_job_lookup.sql" {
			continue // River's own table is not here
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		statements = append(statements, string(text))
	}
	return execute(ctx, template, statements...)
}

func execute(ctx context.Context, dbname string, statements ...string) error {
	conn, err := pgx.Connect(ctx, server.URL(dbname))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// bundle is a catalog on a central database of its own.
type bundle struct {
	*catalog.Catalog
	pool *pgxpool.Pool
}

func setup(t *testing.T) bundle {
	t.Helper()
	require.NoError(t, startServer())
	ctx := t.Context()
	dbname := fmt.Sprintf("central_%d", databaseNumber.Add(1))
	require.NoError(t, execute(ctx, "", "CREATE DATABASE "+dbname+" TEMPLATE "+template))
	pool, err := pgxpool.New(ctx, server.URL(dbname))
	require.NoError(t, err)
	t.Cleanup(func() {
		pool.Close()
		_ = execute(context.Background(), "", "DROP DATABASE "+dbname+" WITH (FORCE)")
	})
	return bundle{Catalog: catalog.New(pool, ringOf(t, "k1")), pool: pool}
}

// ringOf has a new key for each id.
func ringOf(t require.TestingT, ids ...string) *catalog.KeyRing {
	var keys string
	for _, id := range ids {
		keys += catalog.NewKey(id).Reveal() + "\n"
	}
	ring, err := catalog.NewKeyRing(address.NewSecret(keys))
	require.NoError(t, err)
	return ring
}

const planted = "S3cret-planted"

// login is an address on the server of addServer.
func login(user, dbname string) address.Address {
	return address.Address{Host: "db1.example.com", Port: 5432, Database: dbname, User: user, Password: address.NewSecret(planted + "-" + user)}
}

func (b bundle) addServer(t *testing.T) catalog.Server {
	t.Helper()
	s, err := b.AddServer(t.Context(), catalog.ServerParams{Name: "main", Hosts: []string{"db1.example.com", "db1-standby.example.com"}})
	require.NoError(t, err)
	return s
}

func databaseParams(name, kind string) catalog.DatabaseParams {
	return catalog.DatabaseParams{Name: name, Server: "main", Kind: kind, Job: login(name+"_job", name), Owner: login(name+"_owner", name)}
}

func (b bundle) addDatabase(t *testing.T, name, kind string) catalog.Database {
	t.Helper()
	d, err := b.AddDatabase(t.Context(), databaseParams(name, kind))
	require.NoError(t, err)
	return d
}

// addTenant adds a tenant to a shared database of its name.
func (b bundle) addTenant(t *testing.T, slug string) catalog.Tenant {
	t.Helper()
	b.addDatabase(t, slug, catalog.KindShared)
	tenant, err := b.AddTenant(t.Context(), catalog.TenantParams{Slug: slug, Database: slug})
	require.NoError(t, err)
	return tenant
}
