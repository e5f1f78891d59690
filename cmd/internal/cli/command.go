package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// Group is a noun with its verbs.
func Group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Args: UnknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}

// Complete gives a flag the values that a shell completes.
func Complete(cmd *cobra.Command, flag string, values []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

// shortCommand bounds every command that is not there to stay.
const shortCommand = time.Minute

// Brief makes the RunE of a command that ends by itself.
func Brief(work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	limit := shortCommand
	return Within(&limit, "", work)
}

// Within makes the RunE of a command that ends by itself within a time, which is read
// as the command begins. Where it does not, the hint says what to do.
func Within(limit *time.Duration, hint string, work func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), *limit)
		defer cancel()
		err := work(ctx, args)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
			err = &lateError{cmd.CommandPath(), *limit, hint, err}
		}
		return err
	}
}

// lateError is of a command that has not ended in its time.
type lateError struct {
	command string
	limit   time.Duration
	hint    string // what to do
	err     error
}

func (e *lateError) Error() string {
	return fmt.Sprintf("%s was not done after %s: %v%s", e.command, e.limit, e.err, e.hint)
}

func (e *lateError) Unwrap() error { return e.err }
