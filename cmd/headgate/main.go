// Headgate runs background jobs for the tenants of a SaaS, each in its tenant's
// own database. This command wires the parts of the module and starts them; it
// holds no rule of its own.
//
//	main.go     the one entry that tests use too: run
//	root.go     the command tree
//	serve.go    serve and worker
//	dev.go      a private Postgres, and a command that runs on it (child.go)
//	migrate.go  the central database's schema
//
// The other verbs are in rooms by noun below internal. What all verbs stand on is in
// cmd/internal/cli.
package main

import (
	"context"
	"io"
	"os"

	_ "golang.org/x/crypto/x509roots/fallback" // certificate authorities, for machines and images that have none

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
)

func main() {
	ctx := cli.OnSignals(context.Background())
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// run is one run of the command line: args without the program's name, environ
// as os.Environ has it. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	app := cli.New("headgate", stdin, stdout, stderr, environ)
	app.Check, app.Kinds = kinds.Check, kinds.Names()
	return app.Run(ctx, root(app), args)
}
