package cli

import (
	"strconv"
)

// OptionalInt is a flag's value for a number that may be missing, which is not the same as 0.
func OptionalInt(into **int) *optionalInt { return &optionalInt{into} }

type optionalInt struct{ into **int }

// String is called by the flags' package.
func (o *optionalInt) String() string {
	if o.into == nil || *o.into == nil {
		return ""
	}
	return strconv.Itoa(**o.into)
}

// Set is called by the flags' package.
func (o *optionalInt) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return Usagef("%s is no whole number", Quote(text))
	}
	*o.into = &n
	return nil
}

// Type is called by the flags' package.
func (o *optionalInt) Type() string { return "int" }
