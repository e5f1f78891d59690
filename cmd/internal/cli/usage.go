package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/headgate/headgate/jobs/quote"
)

// UsageError is a wrong flag, argument or value: exit 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// BadValue marks what the client says of the values it was given as wrong
// usage. Errors that have an exit code of their own keep it.
func BadValue(err error) error {
	if err == nil || ExitCode(err) != ExitFailed || fromPostgres(err) {
		return err
	}
	return &UsageError{err}
}

// UnknownCommand are the Args of a command that only has sub-commands.
func UnknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return Usagef("unknown command %s for %q%s", Quote(args[0]), cmd.CommandPath(), DidYouMean(cmd.SuggestionsFor(args[0])...))
}

// Args are the Args of a command that takes exactly these. It repeats none of
// what it was given: that may be an address.
func Args(want ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(want):
			return Usagef("%s is missing: %s %s", want[len(args)], cmd.CommandPath(), strings.Join(want, " "))
		case len(args) > len(want) && len(want) == 0:
			return Usagef("%q takes no arguments, got %d", cmd.CommandPath(), len(args))
		case len(args) > len(want):
			return Usagef("%q takes %s and no more, got %d arguments", cmd.CommandPath(), strings.Join(want, " "), len(args))
		}
		return nil
	}
}

// ForChild is the annotation of a command whose arguments behind -- are another program's.
const ForChild = "for-child"

// holdAddresses are flags whose value may be an address with a password, or have one in it.
var holdAddresses = []string{"database-url", "args", "sql"}

// naming are flags that name something. An empty one, of an unset variable, would be taken for
// all there is.
var naming = []string{"database", "kind", "operation", "queue", "schedule", "server", "source", "tenant"}

// checkText refuses a flag or an argument that is not valid UTF-8, because no name is and no
// database takes it, and an address with a password, which would be written as a name and into
// the audit. What another program is given is that program's affair.
func checkText(cmd *cobra.Command, args []string) (err error) {
	check := func(name, value string) {
		if err == nil && !utf8.ValidString(value) {
			at := notUTF8(value)
			err = Usagef("%s: %s is not valid UTF-8 (%#02x, at byte %d): write it in UTF-8", name, Quote(value), value[at], at)
		}
		if err == nil && quote.IsAddress(value) && !slices.Contains(holdAddresses, strings.TrimPrefix(name, "--")) {
			err = Usagef("%s: %s", name, quote.NoAddress)
		}
	}
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if err == nil && slices.Contains(naming, flag.Name) && flag.Value.Type() == "string" && flag.Value.String() == "" {
			err = Usagef("--%s is empty: give a name, or leave the flag out", flag.Name)
		}
		values := []string{flag.Value.String()}
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			check("--"+flag.Name, value)
		}
	})
	if dash := cmd.ArgsLenAtDash(); cmd.Annotations[ForChild] != "" && dash >= 0 {
		args = args[:dash]
	}
	words := strings.Fields(cmd.Use)[1:]
	for i, value := range args {
		name := fmt.Sprintf("argument %d", i+1)
		if i < len(words) && !strings.ContainsAny(words[i], "-[|") {
			name = words[i]
		}
		check(name, value)
	}
	return err
}

// notUTF8 is where the first byte stands that makes a text no UTF-8.
func notUTF8(text string) int {
	for at := 0; ; {
		r, size := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
}

// flagError puts pflag's errors into our words.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var empty *pflag.ValueRequiredError
	var beyond *outside
	switch {
	case !utf8.ValidString(err.Error()):
		return Usagef("a flag is not valid UTF-8: %s", Quote(err.Error()))
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		switch {
		case quote.MayHide(name):
			return Usagef("unknown flag: it looks like an address")
		case len(name) == 1:
			return Usagef("unknown flag -%s", name)
		}
		return Usagef("unknown flag --%s%s", Cut(name), DidYouMean(Nearest(name, flagNames(cmd), "--")...))
	case errors.As(err, &invalid) && errors.Is(err, errTwice):
		return Usagef("--%s is given twice: give it once", invalid.GetFlag().Name)
	case errors.As(err, &invalid) && errors.As(err, &beyond):
		return Usagef("--%s is %s: give %s", invalid.GetFlag().Name, beyond.given, beyond.allowed)
	case errors.As(err, &invalid):
		flag := invalid.GetFlag()
		return Usagef("--%s: %s does not fit, want %s: %s", flag.Name, Quote(invalid.GetValue()), typeName(flag.Value.Type()), flag.Usage)
	case errors.As(err, &empty):
		return Usagef("--%s needs a value: %s", empty.GetFlag().Name, empty.GetFlag().Usage)
	}
	return &UsageError{err}
}

func flagNames(cmd *cobra.Command) (all []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}

func typeName(pflagType string) string {
	switch pflagType {
	case "int", "int64":
		return "a whole number in digits, such as 10"
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

// OneOf refuses a value outside a list.
func OneOf(flag, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return Usagef("%s: %s is not one of %s%s", flag, Quote(value), strings.Join(allowed, ", "), DidYouMean(Nearest(value, allowed, "")...))
}

// DidYouMean is the end of a sentence that names what was probably meant, "" for nothing.
func DidYouMean(near ...string) string {
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", strings.Join(near, " or "))
}

// Nearest returns the name that was probably meant, with prefix in front, or
// nothing.
func Nearest(written string, names []string, prefix string) []string {
	best, least := "", 3
	for _, name := range names {
		distance := levenshtein.ComputeDistance(strings.ToLower(written), strings.ToLower(name))
		if distance < least && distance < len(name) {
			best, least = name, distance
		}
	}
	if best == "" || len(written) > 100 {
		return nil
	}
	return []string{prefix + best}
}

// Quote shows a value that a user gave, unless it may hold a password.
func Quote(value string) string { return quote.Value(value, 64) }

// Cut bounds a name that is shown to people, and leaves out one that may hold a password.
func Cut(s string) string { return quote.Bare(s, 64) }

// CutTo bounds text that is shown to people.
func CutTo(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
