package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/jobs/quote"
)

var (
	// ErrUnknownServer: no server of the catalog has this name.
	ErrUnknownServer = jobs.Sentinel("unknown_server", "unknown server")

	// ErrUnknownKey: the key ring has no key of this id.
	ErrUnknownKey = jobs.Sentinel("unknown_key", "the key ring has no key")

	// ErrKeyInUse: a key cannot be retired, because values are sealed with it or the
	// ring seals with it.
	ErrKeyInUse = jobs.Sentinel("key_in_use", "the key is in use")

	// ErrRetiredKey: the ring's first key was retired, so nothing may be sealed with it.
	ErrRetiredKey = jobs.Sentinel("retired_key", "the key is retired")

	// ErrWrongKeys: there are sealed values, and the ring opens none of them.
	ErrWrongKeys = jobs.Sentinel("wrong_keys", "the key ring opens nothing")

	// ErrUnknownRegion: no region of the catalog has this name.
	ErrUnknownRegion = jobs.Sentinel("unknown_region", "unknown region")

	// ErrReferred: a server, a host of it, a database or a region is not removed, because
	// something refers to it. The error says what, and what to do.
	ErrReferred = jobs.Sentinel("referred_to", "something refers to it")

	// ErrFull: a database takes no further tenant, or none of that plan.
	ErrFull = jobs.Sentinel("full", "no room for the tenant")

	// ErrUnknownAuthority: no certificate authority of the catalog has this name.
	ErrUnknownAuthority = jobs.Sentinel("unknown_authority", "unknown certificate authority")

	// ErrAuthorityInUse: addresses name the certificate authority.
	ErrAuthorityInUse = jobs.Sentinel("authority_in_use", "the certificate authority is in use")

	// ErrUnknownDomain: the tenant neither has the domain nor claims it.
	ErrUnknownDomain = jobs.Sentinel("unknown_domain", "unknown domain")

	// ErrNotVerified: the DNS does not have the token of a claim to a domain.
	ErrNotVerified = jobs.Sentinel("domain_not_verified", "the domain is not verified")

	// ErrExists: a name, number or domain is taken, or a dedicated database has
	// its tenant already. The error that matches it says which, and unwraps to
	// the *pgconn.PgError if the database found out.
	ErrExists = jobs.Sentinel("exists", "exists already")
)

// sentenceError is a sentence of its own that matches a sentinel.
type sentenceError struct {
	sentence string
	is       error
	cause    error // may be nil
}

func (e *sentenceError) Error() string { return e.sentence }

func (e *sentenceError) Is(target error) bool { return target == e.is }

func (e *sentenceError) Code() string { return jobs.CodeOf(e.is) }

func (e *sentenceError) Unwrap() error { return e.cause }

// removedError is of a tenant that was removed, which some names still lead to.
type removedError struct{ error }

func (e *removedError) Unwrap() error { return e.error }

// removedf makes an error that matches jobs.ErrUnknownTenant and that IsRemoved knows.
func removedf(format string, args ...any) error {
	return &removedError{fmt.Errorf("%w: %s", jobs.ErrUnknownTenant, fmt.Sprintf(format, args...))}
}

// IsRemoved reports whether an error that matches jobs.ErrUnknownTenant is of a tenant that
// was removed. A list with the status Removed has that tenant.
func IsRemoved(err error) bool {
	var removed *removedError
	return errors.As(err, &removed)
}

func existsf(cause error, format string, args ...any) error {
	return &sentenceError{fmt.Sprintf(format, args...), ErrExists, cause}
}

// brokenConstraint is the name of the constraint that err is about, or "".
func brokenConstraint(err error) string {
	if pgErr := (*pgconn.PgError)(nil); errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "23") {
		return pgErr.ConstraintName
	}
	return ""
}

// inUsef is a sentence that matches ErrReferred. It unwraps to the *pgconn.PgError.
func inUsef(cause error, format string, args ...any) error {
	return &sentenceError{fmt.Sprintf(format, args...), ErrReferred, cause}
}

// violation returns the name of the unique constraint that err is about, and
// the value that broke it, or two empty strings. The detail's words depend on
// the server's language; its parentheses do not.
func violation(err error) (constraint, value string) {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || pgErr.Code != "23505" {
		return "", ""
	}
	_, value, _ = strings.Cut(pgErr.Detail, ")=(")
	value, _, _ = strings.Cut(value, ")")
	return pgErr.ConstraintName, value
}

// someOf quotes up to three names and says how many more there are.
func someOf(names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	quoted := make([]string, 0, 3)
	for _, name := range names[:min(len(names), 3)] {
		quoted = append(quoted, shown(name))
	}
	if more := len(names) - len(quoted); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), more)
	}
	return strings.Join(quoted, ", ")
}

// shown is a value that a caller gave, as an error repeats it.
func shown(value string) string { return quote.Value(value, 80) }
