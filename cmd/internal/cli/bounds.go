package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// outside is of a number or a duration that a flag does not take.
type outside struct{ given, allowed string }

func (e *outside) Error() string { return fmt.Sprintf("%s: give %s", e.given, e.allowed) }

// IntIn adds a flag of a whole number from least to most, as [Whole] reads one; a most of 0 is
// no bound. value stands where the flag is not given, and need not be within.
func IntIn[T Int](flags *pflag.FlagSet, into *T, name string, value, least, most T, usage string) {
	IntInP(flags, into, name, "", value, least, most, usage)
}

// IntInP is IntIn with a letter.
func IntInP[T Int](flags *pflag.FlagSet, into *T, name, letter string, value, least, most T, usage string) {
	*into = value
	flags.VarP(intWithin[T]{wholeValue[T]{into}, least, most}, name, letter, usage)
}

type intWithin[T Int] struct {
	wholeValue[T]
	least, most T
}

// Set is called by the flags' package.
func (v intWithin[T]) Set(text string) error {
	before := *v.into
	if err := v.wholeValue.Set(text); err != nil {
		return err
	}
	n, allowed := *v.into, fmt.Sprintf("%d or more", v.least)
	if v.most > 0 {
		allowed = fmt.Sprintf("%d to %d", v.least, v.most)
	}
	if n < v.least || v.most > 0 && n > v.most {
		*v.into = before
		return &outside{strconv.FormatInt(int64(n), 10), allowed}
	}
	return nil
}

// DurationIn adds a flag of a duration from least to most; a most of 0 is no bound. value
// stands where the flag is not given, and need not be within.
func DurationIn(flags *pflag.FlagSet, into *time.Duration, name string, value, least, most time.Duration, usage string) {
	*into = value
	flags.Var(durationWithin{into, least, most}, name, usage)
}

// DurationVar adds a flag of a duration of more than 0.
func DurationVar(flags *pflag.FlagSet, into *time.Duration, name string, value time.Duration, usage string) {
	DurationIn(flags, into, name, value, time.Nanosecond, 0, usage)
}

type durationWithin struct {
	into        *time.Duration
	least, most time.Duration
}

// String is called by the flags' package.
func (v durationWithin) String() string {
	if v.into == nil || *v.into == 0 {
		return "0" // which help takes for no default
	}
	return Period(*v.into)
}

// Set is called by the flags' package.
func (v durationWithin) Set(text string) error {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return err
	case v.most > 0 && (d < v.least || d > v.most):
		return &outside{Period(d), Period(v.least) + " to " + Period(v.most)}
	case d < v.least && v.least == time.Nanosecond:
		return &outside{Period(d), "a duration of more than 0, such as 30s or 5m"}
	case d < v.least:
		return &outside{Period(d), Period(v.least) + " or more"}
	}
	*v.into = d
	return nil
}

// Type is called by the flags' package.
func (v durationWithin) Type() string { return "duration" }

// Period is a duration as people write it: 1h, not 1h0m0s.
func Period(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// once is the value of a flag that is given once: a second one would take the place of the
// first without a word.
type once struct {
	pflag.Value
	given bool
}

// Set is called by the flags' package.
func (v *once) Set(text string) error {
	if v.given {
		return errTwice
	}
	v.given = true
	return v.Value.Set(text)
}

var errTwice = errors.New("it is given twice")

// onceEach makes the flags of a command, and of those below it, refuse a second value, but for
// lists. The flags of the whole program may stand in an alias of a shell, and their last value
// counts; but for the reason, because a reason that is lost is in no audit.
func onceEach(cmd *cobra.Command) {
	refuse := func(flag *pflag.Flag) {
		switch flag.Value.Type() {
		case "stringArray", "stringSlice", "stringToString", "stringToInt":
		default:
			flag.Value = &once{Value: flag.Value}
		}
	}
	cmd.Flags().VisitAll(refuse)
	if reason := cmd.PersistentFlags().Lookup("reason"); reason != nil {
		refuse(reason)
	}
	for _, sub := range cmd.Commands() {
		onceEach(sub)
	}
}
