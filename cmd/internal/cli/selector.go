package cli

import (
	"github.com/spf13/cobra"

	"github.com/headgate/headgate/orchestrator/selector"
)

// Selecting is the flag --select of a command.
type Selecting struct{ expressions []string }

// Flag adds the flag.
func (s *Selecting) Flag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringArrayVar(&s.expressions, "select", nil, usage)
}

// Given tells whether the flag was given.
func (s *Selecting) Given() bool { return len(s.expressions) > 0 }

// Read parses the expression.
func (s *Selecting) Read() (selector.Selector, error) {
	if len(s.expressions) > 1 {
		return selector.Selector{}, Usagef("--select is given %d times: give one expression, with and or or in it", len(s.expressions))
	}
	return ReadSelector("--select", s.expressions[0])
}

// ReadSelector parses an expression that a flag or an argument gave.
func ReadSelector(name, expression string) (selector.Selector, error) {
	read, err := selector.Parse(expression)
	if err != nil {
		return read, Usagef("%s: %w", name, err)
	}
	return read, nil
}
