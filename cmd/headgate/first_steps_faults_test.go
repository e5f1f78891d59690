//go:build faults && linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/jobs/jobstest/tlstest"
	"github.com/headgate/headgate/orchestrator/localpg"
)

// inNamespaces marks the process that has namespaces of its own.
const inNamespaces = "HEADGATE_TEST_IN_NAMESPACES"

// serverIP is an address that no network has (RFC 5737).
const serverIP = "198.51.100.7"

// The first steps, typed as they stand, hosts included, against servers with TLS whose
// authority the machine trusts, by administrators who are no superusers. The network
// is a namespace of the test's own, and so is its /etc/hosts.
func TestFaultsFirstStepsOverTLS(t *testing.T) {
	if os.Getenv(inNamespaces) == "" {
		cmd := exec.Command("unshare", append([]string{"--net", "--mount", "--"}, os.Args...)...)
		cmd.Args = append(cmd.Args, "-test.run=^TestFaultsFirstStepsOverTLS$")
		cmd.Env = append(os.Environ(), inNamespaces+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		require.NoError(t, err)
		require.Contains(t, string(out), "--- PASS: TestFaultsFirstStepsOverTLS")
		return
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(hosts, []byte("127.0.0.1 localhost\n"+serverIP+" db1.internal central.internal\n"), 0o644))
	require.NoError(t, syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount("/etc/hosts", 0)) })
	for _, args := range []string{"link set lo up", "addr add " + serverIP + "/32 dev lo"} {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", args, out)
	}
	majors := []string{"15", "18"}
	if testing.Short() {
		majors = []string{""} // what the machine has
	}
	for _, major := range majors {
		t.Run("Postgres "+major, func(t *testing.T) { firstStepsOverTLS(t, major) })
	}
}

// tlsServer is a Postgres that answers at port 5432 of serverIP, as db1.internal and
// central.internal, and takes nothing but TLS there.
func tlsServer(t *testing.T, major string, authority tlstest.Authority) *localpg.Server {
	t.Helper()
	ctx := context.Background()
	server, err := localpg.Start(ctx, localpg.Config{TCP: true, Major: major})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	super, err := pgx.Connect(ctx, server.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = super.Close(ctx) })
	authority.Issue(t, time.Now().Add(60*24*time.Hour), "db1.internal", "central.internal").Serve(t, super)
	var hba string
	require.NoError(t, super.QueryRow(ctx, `SHOW hba_file`).Scan(&hba))
	text, err := os.ReadFile(hba)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(hba, append([]byte("hostnossl all all all reject\n"), text...), 0o600))
	_, err = super.Exec(ctx, `SELECT pg_reload_conf()`)
	require.NoError(t, err)

	listener, err := net.Listen("tcp", serverIP+":5432")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(listener, fmt.Sprintf("127.0.0.1:%d", server.Port()))
	}()
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		<-done
	})
	require.Eventually(t, func() bool { // once the server has read its settings
		_, err := pgx.Connect(ctx, "postgres://nobody:x@db1.internal/postgres?sslmode=require")
		return err != nil && strings.Contains(err.Error(), "password authentication failed")
	}, time.Minute, 10*time.Millisecond)
	return server
}

// relay joins each connection to one to the server, until the listener is closed and all
// connections have ended.
func relay(listener net.Listener, to string) {
	var all []chan struct{}
	for {
		from, err := listener.Accept()
		if err != nil {
			break
		}
		ended := make(chan struct{})
		all = append(all, ended)
		go func() {
			defer close(ended)
			defer func() { _ = from.Close() }()
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			back := make(chan struct{})
			go func() {
				defer close(back)
				_, err := io.Copy(from, server)
				_ = errors.Join(err, from.Close())
			}()
			_, err = io.Copy(server, from)
			_ = errors.Join(err, server.Close())
			<-back
		}()
	}
	for _, ended := range all {
		<-ended
	}
}

func firstStepsOverTLS(t *testing.T, major string) {
	ctx := context.Background()
	authority := tlstest.NewAuthority(t, "theirs")
	server := tlsServer(t, major, authority)
	execute(t, server.URL("postgres"), `CREATE ROLE admin LOGIN CREATEDB CREATEROLE PASSWORD 'planted-admin'`, `CREATE DATABASE central OWNER admin`)
	central, err := pgxpool.New(ctx, server.URL("central"))
	require.NoError(t, err)
	defer central.Close()
	s := newTerminal(t)
	ca := "SSL_CERT_FILE=" + authority.Write(t) // the machine's trust
	s.environ = append(s.environ, ca)
	passwords := strings.NewReplacer("admin:…@", "admin:planted-admin@", ":…@", ":planted-login@", "PASSWORD '…'", "PASSWORD 'planted-login'")
	jobs := &waiter{t: t, pool: central}
	all := s.walks(passwords.Replace, jobs)
	require.NotContains(t, all, "planted-")
	var ended string
	require.NoError(t, central.QueryRow(ctx, `SELECT count(*) || ' ' || string_agg(DISTINCT state, ' ') FROM headgate.outcomes`).Scan(&ended))
	require.Equal(t, "3 succeeded", ended)
	require.Equal(t, "org_id,text\n1,Welcome\n", s.report("acme", "greetings"), "acme's rows and no others")
	if testing.Short() {
		return
	}
	// A machine that does not trust the authority is told of it.
	s.environ = append(s.environ[:len(s.environ)-1], "PGSSLROOTCERT="+strings.TrimPrefix(ca, "SSL_CERT_FILE="))
	t.Run("shapes", func(t *testing.T) {
		s.t, jobs.t = t, t
		shapesOverTLS(t, s, jobs)
		renewsAuthority(t, s, server)
	})
}

// renewsAuthority gives the server a certificate of another authority. The machine knows that
// one, and the catalog does not until what doctor advises is done.
func renewsAuthority(t *testing.T, s *terminal, server *localpg.Server) {
	super, err := pgx.Connect(context.Background(), server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = super.Close(context.Background()) }()
	renewed := tlstest.NewAuthority(t, "renewed")
	renewed.Issue(t, time.Now().Add(60*24*time.Hour), "db1.internal", "central.internal").Serve(t, super)
	s.environ = append(s.environ, "PGSSLROOTCERT="+renewed.Write(t))
	const doctor, advised = `SSL_CERT_FILE="$PGSSLROOTCERT" headgate doctor`, "`headgate ca add NAME FILE --replace`"
	require.Eventually(t, func() bool { // once the server has read its settings
		out, err := s.command(doctor).CombinedOutput()
		return err != nil && strings.Contains(string(out), advised)
	}, time.Minute, 100*time.Millisecond)
	s.types(`headgate ca add our-ca "$PGSSLROOTCERT" --replace`)
	require.NotContains(t, s.types(doctor), advised)
}

const (
	northKey = "0b54cd3d-0000-4000-8000-000000000001"
	southKey = "0b54cd3d-0000-4000-8000-000000000002"
)

// What an application's migration makes: each relation has two rows of north's and one of
// south's, and "at" is long ago.
const applicationsTables = `
CREATE TABLE orders (id bigint PRIMARY KEY, org_id bigint NOT NULL, at date NOT NULL);
INSERT INTO orders VALUES (1, 3, '2020-01-01'), (2, 3, '2020-01-01'), (3, 4, '2020-01-01');
CREATE TABLE parts (account int NOT NULL, at date NOT NULL);
INSERT INTO parts SELECT org_id, at FROM orders;
CREATE TABLE letters (customer text NOT NULL, at date NOT NULL);
INSERT INTO letters SELECT CASE org_id WHEN 3 THEN '` + northKey + `' ELSE '` + southKey + `' END, at FROM orders;
CREATE TABLE invoices (customer_id uuid NOT NULL, at date NOT NULL);
INSERT INTO invoices SELECT customer::uuid, at FROM letters;
CREATE TABLE order_items (order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE, at date NOT NULL);
CREATE INDEX ON order_items (order_id);
INSERT INTO order_items SELECT id, at FROM orders;
CREATE TABLE visits (org_id bigint NOT NULL, at date NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE visits_old PARTITION OF visits DEFAULT;
INSERT INTO visits SELECT org_id, at FROM orders;
CREATE VIEW recent_orders AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW order_days AS SELECT org_id, at FROM orders;
CREATE FUNCTION order_count() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM orders';`

// Tables of every shape, made by the application's login: each is guarded, or not granted and
// said. North and south have uuid keys.
func shapesOverTLS(t *testing.T, s *terminal, jobs *waiter) {
	const create = `HEADGATE_ADMIN_URL=postgres://admin:planted-admin@db1.internal/postgres%s headgate database create shop --server main --kind shared --app-url-file shop.url`
	require.Contains(t, s.fails(fmt.Sprintf(create, "")), "headgate ca add NAME FILE")
	s.types(`headgate ca add our-ca "$PGSSLROOTCERT"
` + fmt.Sprintf(create, "?sslrootcert=our-ca") + `
headgate tenant add north --database shop --org-key ` + northKey + `
headgate tenant add south --database shop --org-key ` + southKey)
	require.NoError(t, os.WriteFile(filepath.Join(s.folder, "app.sql"), []byte(applicationsTables), 0o600))
	s.types(`psql "$(cat shop.url)" -c "$(cat app.sql)"`)

	// Everybody may call the function with its owner's rights, so nothing works until that is mended.
	require.Contains(t, s.fails(`headgate database protect shop`), "order_count")
	require.Contains(t, s.fails(`headgate doctor`), "order_count")
	s.types(`psql "$(cat shop.url)" -c 'REVOKE EXECUTE ON FUNCTION order_count() FROM PUBLIC'`)
	require.Contains(t, s.types(`headgate database protect shop`), "nothing is open")

	s.types(`headgate database protect shop --table orders --table visits
headgate database protect shop --table parts --org-column account
headgate database protect shop --table letters --org-column customer
headgate database protect shop --table invoices --org-column customer_id
headgate database protect shop --table order_items --through order_id
headgate database protect shop --table order_days --by view
headgate database protect shop --view recent_orders
psql "$(cat shop.url)" -c 'CREATE TABLE later (org_id bigint NOT NULL)'`)
	for _, table := range []string{"orders", "parts", "letters", "invoices", "order_items", "visits", "recent_orders", "order_days"} {
		for _, tenant := range []string{"north", "south"} {
			name := strings.ReplaceAll(table, "_", "-")
			uid := enqueued(t, s.types(fmt.Sprintf(`headgate job enqueue headgate.report --tenant %s --args '{"name": "%s", "query": "SELECT count(*) AS n FROM %s"}' -o json`, tenant, name, table)))
			jobs.until(`SELECT count(*) FROM headgate.outcomes WHERE job_uid = $1 AND state = 'succeeded'`, uid)
			require.Equal(t, map[string]string{"north": "n\n2\n", "south": "n\n1\n"}[tenant], s.report(tenant, name), "%s of %s", table, tenant)
		}
	}
	// What is not granted is refused by Postgres, and the job waits.
	for _, refused := range []string{"SELECT * FROM later", "SELECT * FROM visits_old", "SELECT order_count()", "SELECT * FROM public.order_days", "SELECT * FROM public.recent_orders"} {
		uid := enqueued(t, s.types(`headgate job enqueue headgate.report --tenant north --args '{"name": "refused", "query": "`+refused+`"}' -o json`))
		jobs.until(`SELECT count(*) FROM headgate.outcomes WHERE job_uid = $1 AND class = 'not_permitted'`, uid)
		require.Contains(t, s.types(`headgate job explain `+uid), "headgate database protect shop", refused)
		s.types(`headgate job cancel ` + uid)
	}
	// A purge takes a tenant's own rows.
	for _, table := range []string{"invoices", "letters", "parts", "order_items", "visits", "orders"} {
		uid := enqueued(t, s.types(`headgate job enqueue headgate.purge --tenant south --args '{"table": "`+table+`", "column": "at", "older_than": "30d"}' -o json`))
		jobs.until(`SELECT count(*) FROM headgate.outcomes WHERE job_uid = $1 AND state = 'succeeded'`, uid)
		require.Contains(t, s.types(`psql "$(cat shop.url)" -c "DO \$\$ BEGIN ASSERT (SELECT count(*) = 2 FROM `+table+`); END \$\$"; echo held`), "held", table)
	}
	s.types(`SSL_CERT_FILE="$PGSSLROOTCERT" headgate doctor`) // shared-1 has no authority of its own
}
