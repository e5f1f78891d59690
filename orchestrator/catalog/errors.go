package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/headgate/headgate/jobs"
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

// existsError is a sentence that matches ErrExists.
type existsError struct {
	sentence string
	cause    error // may be nil
}

func (e *existsError) Error() string { return e.sentence }

func (e *existsError) Is(target error) bool { return target == ErrExists }

func (e *existsError) Code() string { return jobs.CodeOf(ErrExists) }

func (e *existsError) Unwrap() error { return e.cause }

func existsf(cause error, format string, args ...any) error {
	return &existsError{sentence: fmt.Sprintf(format, args...), cause: cause}
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
		quoted = append(quoted, quote(name))
	}
	if more := len(names) - len(quoted); more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(quoted, ", "), more)
	}
	return strings.Join(quoted, ", ")
}

// quote shows a value that a caller gave, cut to a length that fits a line.
func quote(value string) string {
	const most = 80
	if len(value) > most {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(value[:most], ""))
	}
	return fmt.Sprintf("%q", value)
}
