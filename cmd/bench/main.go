// Bench measures Headgate beside River alone, pair by pair in one run. Only this command
// imports River's client, and only in river.go.
//
//	bench.go     the measurements there are, and printing them
//	options.go   what one run is asked for
//	stage.go     one server with all that both sides share; server.go, databases.go
//	side.go      what a side does; headgate.go and river.go are the two
//	half.go      one half of a pair; cpu.go reads what the half used
//	result.go    comparisons, as medians of the pairs' ratios
//
// and one file for each measurement.
package main

import (
	"context"
	"io"
	"os"

	"github.com/headgate/headgate/cmd/internal/cli"
)

func main() {
	ctx := cli.OnSignals(context.Background())
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// run is one run of the command line, and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	app := cli.New("bench", stdin, stdout, stderr, environ)
	return app.Run(ctx, command(app), args)
}
