package jobs

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/jobs/quote"
)

// CodeInvalidInput is the code of every *InputError.
const CodeInvalidInput = "invalid_input"

// InputError is the refusal of one value that a caller gave. Every refusal of input
// in the public packages is an *InputError, so errors.As finds the field in it.
// Nothing was written.
type InputError struct {
	Field   string // the parameter, as in "slug"
	Value   string // the value as it was given, of which Error quotes at most 80 bytes; "" when it is missing or secret
	Allowed string // what is allowed, and what to do next where that is something else
}

// Inputf returns an *InputError, whose Allowed is the format filled in. The value
// must not be a secret: Error quotes it.
func Inputf(field, value, format string, args ...any) error {
	return &InputError{Field: field, Value: value, Allowed: fmt.Sprintf(format, args...)}
}

// Missing returns the *InputError of a field that was not given; give is what to give.
func Missing(field, give string) error {
	return AsInputError(field, fmt.Errorf("%s is missing: give %s", field, give))
}

// AsInputError returns err, whose sentence says what is wrong with a field, as the
// refusal of that field: in its own words, and errors.As finds an *InputError in it.
// An err that has one already, and nil, are returned as they are. The sentence must
// not hold a secret.
func AsInputError(field string, err error) error {
	var input *InputError
	if err == nil || errors.As(err, &input) {
		return err
	}
	return &refusal{err, &InputError{Field: field, Allowed: err.Error()}}
}

// refusal is an *InputError in the words of its cause.
type refusal struct {
	cause error
	input *InputError
}

func (r *refusal) Error() string { return r.cause.Error() }

func (r *refusal) Unwrap() []error { return []error{r.input, r.cause} }

// Error is one sentence: the field, the value, what is allowed.
func (e *InputError) Error() string {
	if e.Value == "" {
		return e.Field + ": " + e.Allowed
	}
	return e.Field + " " + quote.Value(e.Value, mostQuoted) + ": " + e.Allowed
}

// Code is CodeInvalidInput.
func (e *InputError) Code() string { return CodeInvalidInput }

// mostQuoted is how many bytes of a value its refusal repeats.
const mostQuoted = 80
