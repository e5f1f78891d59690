package sqltext

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// WithoutValues is an error of a statement whose text does not repeat the values of its
// parameters: Postgres quotes a value that does not fit, and messages are kept in logs
// and in the history. What the error is stays to be found by errors.As.
func WithoutValues(err error, values [][]byte) error {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return err
	}
	text := err.Error()
	for _, value := range values {
		if len(value) > 0 {
			text = strings.ReplaceAll(text, `"`+string(value)+`"`, `"…"`)
		}
	}
	if text == err.Error() {
		return err
	}
	return &quietError{text: text, err: err}
}

// quietError is another error with a text of its own.
type quietError struct {
	text string
	err  error
}

func (e *quietError) Error() string { return e.text }
func (e *quietError) Unwrap() error { return e.err }
