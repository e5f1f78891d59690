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

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs/jobstest/testbed"
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

func devCommand(app *cli.App) *cobra.Command {
	d := dev{stay: staying{schedules: true}}
	cmd := &cobra.Command{
		Use:     "dev [--data DIR] [--tcp] [-- COMMAND ARGS...]",
		Short:   "Try it: a private Postgres, and everything that Headgate needs",
		Long:    devLong,
		Example: "  headgate dev\n  headgate dev -- go test ./...",

		Annotations: map[string]string{cli.ForChild: "true"},
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
			return cli.Usagef("put -- in front of the command to run: headgate dev [flags] -- COMMAND ARGS...")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d.child = args
		return runDev(cmd.Context(), app, d)
	}
	flags := cmd.Flags()
	flags.StringVar(&d.data, "data", "", "keep the data, and the key beside it, in this directory")
	flags.BoolVar(&d.tcp, "tcp", false, "listen on a free port of 127.0.0.1 as well")
	flags.StringVar(&d.pg, "pg", "", "the major `version` of Postgres, 14 to 18; fetched if this machine has none")
	flags.BoolVar(&d.bare, "bare", false, "only Postgres, without a central database, for the command behind --")
	d.stay.flags(cmd)
	return cmd
}

func runDev(ctx context.Context, app *cli.App, d dev) (err error) {
	if d.bare && len(d.child) == 0 {
		return cli.Usagef("--bare makes no central database to serve: give a command behind --")
	}
	program := ""
	if len(d.child) > 0 {
		if program, err = lookPath(d.child[0]); err != nil {
			return err
		}
	}
	d.server, err = localpg.Start(ctx, localpg.Config{Dir: d.data, TCP: d.tcp, Memory: d.bare && d.data == "", Major: d.pg, Notify: func(sentence string) { app.Say("headgate: %s", sentence) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.server.Stop()) }()
	key, err := devKey(app, d.data)
	if err != nil {
		return err
	}
	if !d.bare {
		if err := d.makeCentral(ctx); err != nil {
			return err
		}
	}
	if program != "" {
		return runChild(ctx, app, program, d.child, d.childEnv(app.Environ, key))
	}
	inside := app.At(d.server.URL(centralName), d.childEnv(app.Environ, key))
	ring, err := inside.Keys()
	if err != nil {
		return err
	}
	banner(app, d, key)
	return runUntil(ctx, inside, ring, d.stay)
}

// lookPath finds the program to run, before anything is started for it.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", cli.Usagef("the command %s cannot be run: %w", cli.Quote(name), cli.Cause(err))
	}
	return path, nil
}

// centralName is the central database of dev.
const centralName = "headgate"

func (d dev) makeCentral(ctx context.Context) error {
	server, err := testbed.Local("dev", d.server)
	if err != nil {
		return err
	}
	return server.Central(ctx, centralName)
}

// devKey returns the text of the key that the environment does not give: kept
// beside the data, or one for this run only. "" means that the environment has
// one.
func devKey(app *cli.App, data string) (string, error) {
	if app.HasSecret("HEADGATE_KEY") {
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
func banner(app *cli.App, d dev, key string) {
	if app.HasSecret("DATABASE_URL") || app.DatabaseURL != "" {
		app.Say("note: the central database that you name is not used: dev brings its own, serve uses yours")
	}
	kept := "gone when this ends; --data DIR keeps it"
	if d.data != "" {
		kept = "kept in " + d.data
	}
	app.Say("headgate dev: Postgres listens in %s (%s)", d.server.SocketDir(), kept)
	app.Say("In another terminal:\n")
	app.Say("  export DATABASE_URL='%s'", d.lookIn())
	switch {
	case key != "" && d.data != "":
		file, _ := filepath.Abs(keyFile(d.data)) // fails only without a working directory
		app.Say("  export HEADGATE_KEY_FILE='%s'", file)
	case key != "":
		app.Say("  export HEADGATE_KEY='%s'", key)
	}
	app.Say("  psql \"$DATABASE_URL\"")
	app.Say("  headgate server add dev --socket %s\n", d.server.SocketDir())
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
