// Headgate runs background jobs for the tenants of a SaaS, each in its tenant's
// own database. This command wires the parts of the module and starts them; it
// holds no rule of its own.
//
//	main.go      signals, and the one entry that tests use too: run
//	root.go      the command tree and the global flags
//	exit.go      errors to exit codes and sentences
//	central.go   which central database, and the way to it
//	secrets.go   connection strings from the environment, files and stdin
//	output.go    table, json, jsonl, csv
//	kinds.go     the built-in kinds
//
// and one file for each group of commands.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx := onSignals(context.Background())
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal os.Signal }

func (e interrupted) Error() string { return "interrupted (" + e.signal.String() + ")" }

// onSignals returns a context that the first SIGINT or SIGTERM ends. A second
// one ends the process at once; a private Postgres dies with it.
func onSignals(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(interrupted{<-signals})
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx
}

// run is one run of the command line: args without the program's name, environ
// as os.Environ has it. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	p := newProgram(stdin, stdout, stderr, environ)
	root := p.root()
	root.SetArgs(append([]string{}, args...)) // nil would mean the process's own
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return p.end(ctx, cmd, err)
}
