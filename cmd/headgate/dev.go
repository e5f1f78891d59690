package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/migrations"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/localpg"
)

const devLong = `Start a private Postgres from this machine's own binaries (or fetched ones: it
says so before), make the central database and a key, and serve. All of it is
gone when the command ends, unless --data keeps it.

With a command behind --, run that instead of serving, with DATABASE_URL,
HEADGATE_KEY and HEADGATE_TEST_SERVER (the superuser's address, for package
jobstest) set; stop Postgres when it ends, and exit as it did.`

// dev is one private Postgres and what is done with it.
type dev struct {
	data  string
	tcp   bool
	bare  bool
	pg    string
	stay  staying
	child []string

	server *localpg.Server
}

func (p *program) devCommand() *cobra.Command {
	d := dev{stay: staying{schedules: true}}
	cmd := &cobra.Command{
		Use:     "dev [--data DIR] [--tcp] [-- COMMAND ARGS...]",
		Short:   "Try it: a private Postgres, a central database and everything that serves it",
		Long:    devLong,
		Example: "  headgate dev\n  headgate dev -- go test ./...",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
			return usagef("put -- in front of the command to run: headgate dev [flags] -- COMMAND ARGS...")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d.child = args
		return p.dev(cmd.Context(), d)
	}
	flags := cmd.Flags()
	flags.StringVar(&d.data, "data", "", "keep the data, and the key beside it, in this directory")
	flags.BoolVar(&d.tcp, "tcp", false, "listen on a free port of 127.0.0.1 as well")
	flags.StringVar(&d.pg, "pg", "", "the major `version` of Postgres, 14 to 18; fetched if this machine has none")
	flags.BoolVar(&d.bare, "bare", false, "only Postgres, without a central database, for the command behind --")
	d.stay.flags(cmd)
	return cmd
}

func (p *program) dev(ctx context.Context, d dev) (err error) {
	if d.bare && len(d.child) == 0 {
		return usagef("--bare makes no central database to serve: give a command behind --")
	}
	program := ""
	if len(d.child) > 0 {
		if program, err = p.lookPath(d.child[0]); err != nil {
			return err
		}
	}
	d.server, err = localpg.Start(ctx, localpg.Config{Dir: d.data, TCP: d.tcp, Memory: d.bare && d.data == "", Major: d.pg, Notify: func(sentence string) { p.say("headgate: %s", sentence) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.Stop()) }()
	key, err := p.devKey(d.data)
	if err != nil {
		return err
	}
	if !d.bare {
		if err := d.makeCentral(ctx); err != nil {
			return err
		}
	}
	if program != "" {
		return p.runChild(ctx, program, d.child, d.childEnv(p.environ, key))
	}
	inside := *p
	inside.databaseURL = d.server.URL(centralName)
	inside.pooler = "none"
	inside.environ = d.childEnv(p.environ, key)
	ring, err := inside.keys()
	if err != nil {
		return err
	}
	p.banner(d, key)
	return inside.stay(ctx, ring, d.stay)
}

// lookPath finds the program to run, before anything is started for it.
func (p *program) lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", usagef("the command %s cannot be run: %w", quote(name), cause(err))
	}
	return path, nil
}

// centralName is the central database of dev.
const centralName = "headgate"

const selectDatabase = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`

func (d dev) makeCentral(ctx context.Context) error {
	err := d.on(ctx, "postgres", func(conn *pgx.Conn) error {
		var there bool
		if err := conn.QueryRow(ctx, selectDatabase, centralName).Scan(&there); err != nil || there {
			return err
		}
		_, err := conn.Exec(ctx, "CREATE DATABASE "+centralName)
		return err
	})
	if err != nil {
		return fmt.Errorf("making the central database: %w", err)
	}
	return d.on(ctx, centralName, func(conn *pgx.Conn) error {
		_, err := migrations.Up(ctx, conn, nil)
		return err
	})
}

func (d dev) on(ctx context.Context, dbname string, work func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, d.server.URL(dbname))
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return work(conn)
}

// devKey returns the text of the key that the environment does not give: kept
// beside the data, or one for this run only. "" means that the environment has
// one.
func (p *program) devKey(data string) (string, error) {
	if p.hasSecret("HEADGATE_KEY") {
		return "", nil
	}
	fresh := catalog.NewKey("dev").Reveal()
	if data == "" {
		return fresh, nil
	}
	file, err := os.OpenFile(keyFile(data), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		kept, err := os.ReadFile(keyFile(data))
		return strings.TrimSpace(string(kept)), err
	}
	if err != nil {
		return "", fmt.Errorf("keeping the key: %w", err)
	}
	_, err = fmt.Fprintln(file, fresh)
	return fresh, errors.Join(err, file.Sync(), file.Close())
}

func keyFile(data string) string { return filepath.Join(data, "headgate.key") }

// childEnv is the environment with what dev adds. A key of "" leaves the key as
// it is.
func (d dev) childEnv(environ []string, key string) []string {
	set := map[string]string{"HEADGATE_TEST_SERVER": d.server.URL("postgres")}
	if d.pg != "" {
		set["PG_BINDIR"] = d.server.BinDir() // the servers that tests start are of that version too
	}
	if !d.bare {
		set["DATABASE_URL"], set["DATABASE_URL_FILE"] = d.server.URL(centralName), ""
		set["DATABASE_DIRECT_URL"], set["DATABASE_DIRECT_URL_FILE"], set["HEADGATE_CENTRAL_POOLER"] = "", "", ""
		if key != "" {
			set["HEADGATE_KEY"], set["HEADGATE_KEY_FILE"] = key, ""
		}
	}
	var env []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if _, ours := set[name]; !ours {
			env = append(env, entry)
		}
	}
	for name, value := range set {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// banner tells how to look in. It shows the password of a superuser that nobody
// but this user can reach, and that is gone with the server.
func (p *program) banner(d dev, key string) {
	if p.hasSecret("DATABASE_URL") || p.databaseURL != "" {
		p.say("note: the central database that you name is not used: dev brings its own, serve uses yours")
	}
	kept := "gone when this ends; --data DIR keeps it"
	if d.data != "" {
		kept = "kept in " + d.data
	}
	p.say("headgate dev: Postgres listens in %s (%s)", d.server.SocketDir(), kept)
	p.say("In another terminal:\n")
	p.say("  export DATABASE_URL='%s'", d.lookIn())
	switch {
	case key != "" && d.data != "":
		file, _ := filepath.Abs(keyFile(d.data)) // fails only without a working directory
		p.say("  export HEADGATE_KEY_FILE='%s'", file)
	case key != "":
		p.say("  export HEADGATE_KEY='%s'", key)
	}
	p.say("  psql \"$DATABASE_URL\"")
	p.say("  headgate server add dev --socket %s\n", d.server.SocketDir())
}

// lookIn is the central database's address: over TCP if that is there.
func (d dev) lookIn() string {
	socket := d.server.URL(centralName)
	u, err := url.Parse(socket)
	if !d.tcp || err != nil {
		return socket
	}
	u.Host, u.RawQuery = fmt.Sprintf("127.0.0.1:%d", d.server.Port()), "sslmode=disable"
	return u.String()
}
