package cli

import (
	"math"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/headgate/headgate/jobs"
)

// Int is what a flag of a whole number is kept in.
type Int interface{ int | int64 }

// IntVar adds a flag of a whole number from 0 on to flags, as [Whole] reads one. pflag's own
// IntVar reads 010 as 8, and 0x10 and 1_000 as numbers.
func IntVar[T Int](flags *pflag.FlagSet, into *T, name string, value T, usage string) {
	IntVarP(flags, into, name, "", value, usage)
}

// IntVarP is IntVar with a letter.
func IntVarP[T Int](flags *pflag.FlagSet, into *T, name, letter string, value T, usage string) {
	*into = value
	flags.VarP(wholeValue[T]{into}, name, letter, usage)
}

// Whole reads a whole number from 0 on: decimal digits, without sign or leading zero. ok is
// false for any other text.
func Whole(text string) (n int, ok bool) {
	read, ok := jobs.ParseWhole(text)
	return int(read), ok && read <= math.MaxInt
}

type wholeValue[T Int] struct{ into *T }

// String is called by the flags' package.
func (v wholeValue[T]) String() string {
	if v.into == nil {
		return "0"
	}
	return strconv.FormatInt(int64(*v.into), 10)
}

// Set is called by the flags' package.
func (v wholeValue[T]) Set(text string) error {
	n, ok := jobs.ParseWhole(text)
	if !ok || int64(T(n)) != n {
		return Usagef("%s is no whole number in digits, without sign or leading zero", Quote(text))
	}
	*v.into = T(n)
	return nil
}

// Type is called by the flags' package.
func (v wholeValue[T]) Type() string { return "int" }
