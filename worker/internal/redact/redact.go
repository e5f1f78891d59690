// Package redact takes out of an error's text what a tenant's Postgres has put there of
// the tenant's rows.
//
// The text of an attempt's error is kept: in the history, in the queue, in logs. Postgres
// repeats values in the messages of some conditions (class 22: `invalid input syntax for
// type integer: "ada@example.com"`), and a RAISE says whatever its author wrote. Of these
// the condition's name is kept, and which column, constraint, table or type it was about.
// Detail, hint, context and internal query are taken out of every error.
//
//	ERROR: invalid_text_representation (SQLSTATE 22P02)
//	ERROR: not_null_violation, column "email" of table "people" (SQLSTATE 23502)
//
// Which conditions repeat values was read off Postgres's errcodes.txt and its sources, 14
// to 18. The list is of those that name objects only; all others count as repeating.
//
// The weakness: only what the server has said is known. A handler that puts a value of
// its own into its error's text is not noticed. Nor is a name that is a value: a text in
// double quotes is a column to Postgres, and `column "…" does not exist` repeats it.
package redact

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Find returns the server's errors that err wraps.
func Find(err error) []*pgconn.PgError {
	left := mostWrapped
	return find(err, nil, &left)
}

// mostWrapped is how many errors of a tree are looked at, because an error may wrap itself.
const mostWrapped = 1000

func find(err error, found []*pgconn.PgError, left *int) []*pgconn.PgError {
	if *left--; *left < 0 {
		return found
	}
	if said, ok := err.(*pgconn.PgError); ok { //nolint:errorlint // each error of the tree is looked at
		return append(found, said)
	}
	switch e := err.(type) { //nolint:errorlint // each error of the tree is looked at
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			found = find(inner, found, left)
		}
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			found = find(inner, found, left)
		}
	}
	return found
}

// Sentence is a server's error in the form of its Error, with the condition's name in the
// place of its message.
func Sentence(e *pgconn.PgError) string {
	return e.Severity + ": " + about(e) + " (SQLSTATE " + e.Code + ")"
}

// about is the condition's name, and what the error says that it is about.
func about(e *pgconn.PgError) string {
	said := condition(e.Code)
	for _, part := range []struct{ what, name string }{
		{"column", e.ColumnName}, {"table", e.TableName}, {"constraint", e.ConstraintName}, {"type", e.DataTypeName},
	} {
		if part.name != "" {
			said += fmt.Sprintf(", %s %q", part.what, part.name)
		}
	}
	switch {
	case e.Code == syntaxError && e.InternalPosition > 0:
		said += fmt.Sprintf(", at character %d of a statement inside it", e.InternalPosition)
	case e.Code == syntaxError && e.Position > 0:
		said += fmt.Sprintf(", at character %d", e.Position)
	}
	return said
}

// syntaxError repeats the statement from where it is wrong, to its end if a quote is open.
const syntaxError = "42601"

// Repeats says whether the server's message may hold values.
func Repeats(e *pgconn.PgError) bool {
	switch {
	case raised(e):
		return true
	case e.Code == syntaxError:
		return true
	}
	return !slices.Contains(naming, class(e.Code)) && !slices.Contains(namingCodes, e.Code)
}

// raised is of a RAISE of somebody's own function, whatever its SQLSTATE. Headgate's
// functions say no values; nobody else can make one in its schema. Where the server's
// language makes the context unreadable, their words are left out too.
func raised(e *pgconn.PgError) bool {
	return e.Routine == "exec_stmt_raise" && !strings.HasPrefix(e.Where, "PL/pgSQL function headgate.")
}

func class(code string) string {
	if len(code) < 2 {
		return ""
	}
	return code[:2]
}

// naming are the classes whose messages name objects, settings and limits, and no values.
var naming = []string{
	"08", "0A", "0B", "21", "23", "24", "25", "26", "28", "2B", "2D", "34", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58",
	"HG", // Headgate's own functions
}

// namingCodes are such conditions of other classes: a query of PL/pgSQL that finds no row,
// or several.
var namingCodes = []string{"P0002", "P0003"}
