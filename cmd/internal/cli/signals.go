package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// InterruptedError is the cause of a context that a signal ended.
type InterruptedError struct{ Signal os.Signal }

func (e InterruptedError) Error() string { return "interrupted (" + e.Signal.String() + ")" }

// OnSignals returns a context that the first SIGINT or SIGTERM ends. A second
// one ends the process at once; a private Postgres dies with it.
func OnSignals(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		cancel(InterruptedError{<-signals})
		<-signals
		os.Exit(ExitInterrupted)
	}()
	return ctx
}
