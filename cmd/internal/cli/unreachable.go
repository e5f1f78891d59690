package cli

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Unreachable says of an error that may be one of connecting where it was and
// what to do. It leaves others as they are.
func Unreachable(cfg *pgx.ConnConfig, err error) error {
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return err
	}
	at := fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
	var pgErr *pgconn.PgError
	var network *net.OpError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "3D000":
		return InWords(err, fmt.Sprintf("there is no database %q at %s; create it and run `headgate migrate up`", cfg.Database, at))
	case errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "28"):
		return InWords(err, fmt.Sprintf("the central database at %s refuses user %q (%s); check DATABASE_URL", at, cfg.User, pgErr.Message))
	case UnknownParameter(err) && errors.As(err, &pgErr):
		return InWords(err, fmt.Sprintf("a PgBouncer stands before the central database at %s (%s): say so with --central-pooler session or transaction (HEADGATE_CENTRAL_POOLER), as its pool_mode is", at, pgErr.Message))
	case errors.As(err, &pgErr):
		return InWords(err, fmt.Sprintf("the central database at %s takes no connection (%s); try again later", at, pgErr.Message))
	case errors.As(err, &network):
		return InWords(err, fmt.Sprintf("the central database at %s does not answer (%v); is it running, and is DATABASE_URL right?", at, network.Err))
	}
	return InWords(err, fmt.Sprintf("the central database at %s cannot be reached (%v); is it running, and is DATABASE_URL right?", at, connect.Unwrap()))
}

// UnknownParameter says that PgBouncer has refused the settings of a session.
func UnknownParameter(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && strings.Contains(pgErr.Message, "unsupported startup parameter")
}

// InWords is an error whose text is a sentence for people; errors.As still finds its
// cause.
func InWords(cause error, sentence string) error { return &sentenceError{cause, sentence} }

type sentenceError struct {
	cause    error
	sentence string
}

func (e *sentenceError) Error() string { return e.sentence }

func (e *sentenceError) Unwrap() error { return e.cause }

// Cause is the last error of a chain: pgx wraps it in several lines.
func Cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
