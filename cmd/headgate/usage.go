package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a wrong flag, argument or value: exit 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// badValue marks what the client says of the values it was given as wrong
// usage. Errors that have an exit code of their own keep it.
func badValue(err error) error {
	if err == nil || exitCode(err) != exitFailed || fromPostgres(err) {
		return err
	}
	return &usageError{err}
}

// unknownCommand are the Args of a command that only has sub-commands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return usagef("unknown command %s for %q%s", quote(args[0]), cmd.CommandPath(), didYouMean(cmd.SuggestionsFor(args[0])...))
}

// names are the Args of a command that takes exactly these. It repeats none of
// what it was given: that may be an address.
func names(want ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(want):
			return usagef("%s is missing: %s %s", want[len(args)], cmd.CommandPath(), strings.Join(want, " "))
		case len(args) > len(want) && len(want) == 0:
			return usagef("%q takes no arguments, got %d", cmd.CommandPath(), len(args))
		case len(args) > len(want):
			return usagef("%q takes %s and no more, got %d arguments", cmd.CommandPath(), strings.Join(want, " "), len(args))
		}
		return nil
	}
}

// required says which of these flags is missing.
func required(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if flag := cmd.Flags().Lookup(name); !flag.Changed {
			return usagef("--%s is missing: %s", name, flag.Usage)
		}
	}
	return nil
}

// flagError puts pflag's errors into our words.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var empty *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		switch {
		case strings.Contains(name, "://"):
			return usagef("unknown flag: it looks like an address")
		case len(name) == 1:
			return usagef("unknown flag -%s", name)
		}
		return usagef("unknown flag --%s%s", cut(name), didYouMean(nearest(name, flagNames(cmd), "--")...))
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		return usagef("--%s: %s does not fit, want %s: %s", flag.Name, quote(invalid.GetValue()), typeName(flag.Value.Type()), flag.Usage)
	case errors.As(err, &empty):
		return usagef("--%s needs a value: %s", empty.GetFlag().Name, empty.GetFlag().Usage)
	}
	return &usageError{err}
}

func flagNames(cmd *cobra.Command) (all []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}

func typeName(pflagType string) string {
	switch pflagType {
	case "int", "int64":
		return "a whole number"
	case "float64":
		return "a number"
	case "duration":
		return "a duration such as 30s or 5m"
	case "stringToInt", "stringToString":
		return "name=value"
	default:
		return "a " + pflagType
	}
}

// oneOf refuses a value outside a list.
func oneOf(flag, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return usagef("%s: %s is not one of %s%s", flag, quote(value), strings.Join(allowed, ", "), didYouMean(nearest(value, allowed, "")...))
}

func didYouMean(near ...string) string {
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
}

// nearest returns the name that was probably meant, with prefix in front, or
// nothing.
func nearest(written string, names []string, prefix string) []string {
	best, least := "", 3
	for _, name := range names {
		distance := edits(strings.ToLower(written), strings.ToLower(name))
		if distance < least && distance < len(name) {
			best, least = name, distance
		}
	}
	if best == "" || len(written) > 100 {
		return nil
	}
	return []string{prefix + best}
}

// edits is the number of letters to change, add or drop between two words.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// quote shows a value that a user gave, unless it may be an address with a
// password in it.
func quote(value string) string {
	if strings.Contains(value, "://") || strings.Contains(strings.ToLower(value), "password") {
		return "the value given"
	}
	return fmt.Sprintf("%q", cut(value))
}
