// Demo shows Headgate's one idea on a Postgres of its own, in a few seconds and
// without any set-up: 29 tenants in 11 databases, work for 24 of them, and the
// databases of the other five are never opened.
//
//	make demo                          stays up until Ctrl-C
//	make demo ARGS=--once              ends with 0 when everything succeeded
//	make demo ARGS="--once -o json"    one JSON object for machines
//
// It is written to be read, in this order:
//
//	application.go   what a SaaS writes: a kind of its own, and asking for work
//	service.go       what runs the work: a worker and a scheduler
//	enrol.go         how the catalog learns of databases and tenants
//	schema.sql       a tenant database, with row-level security
//	proof.go         what is measured at the end, and how
//
// The rest makes the stage (cluster.go, databases.go, tenants.go, seed.go) and
// the show (demo.go, await.go, result.go, table.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/headgate/headgate/cmd/internal/cli"
)

func main() {
	signal.Ignore(syscall.SIGPIPE) // a reader that has seen enough is an error of writing
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the clean end
	os.Exit(run(ctx, os.Args[1:], terminal()))
}

// options are the command line.
type options struct {
	once   bool
	format string // table or json
	dir    string // of the reports
}

func parse(args []string, usage io.Writer) (options, error) {
	o := options{}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&o.once, "once", false, "end when the work is done, instead of staying up until Ctrl-C")
	flags.StringVar(&o.format, "o", "table", "`format` of the result: table or json")
	flags.StringVar(&o.dir, "dir", "", "`folder` for the reports (default: a new one for temporary files, which is kept)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is not understood", flags.Arg(0))
	case o.format != "table" && o.format != "json":
		err = fmt.Errorf("-o %q: write table or json", o.format)
	}
	if err != nil {
		_, _ = fmt.Fprintln(usage, "demo:", err)
		flags.Usage()
	}
	return o, err
}

// run is the program without the process round it.
func run(ctx context.Context, args []string, screen screen) int {
	opts, err := parse(args, screen.err)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.ExitOK
	case err != nil:
		return cli.ExitUsage
	}
	return newDemo(opts, screen).run(ctx)
}
