package importer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/headgate/headgate/jobs"
)

var (
	// ErrMissing says that so many tenants are missing in the source that the sync is held.
	ErrMissing = jobs.Sentinel("sync_held", "the sync is held")

	// ErrEmpty says that the input has no row.
	ErrEmpty = jobs.Sentinel("import_empty", "the input has no row")
)

// HeldError says that a sync would stop so many tenants that its input is doubtful. It
// matches ErrMissing. Nothing was written.
type HeldError struct {
	Source  string // the name of the sync
	Missing int    // active tenants that the input lacks
	Stopped int    // active tenants that the input's column status suspends or archives
	Active  int    // tenants of the source that are active
	Allowed int    // how many are suspended without being allowed
	Given   int    // Options.AllowMissing
}

// Error says the numbers, and what may be wrong where most are missing.
func (e *HeldError) Error() string {
	given := ""
	if e.Given > 0 {
		given = fmt.Sprintf(", not the %d that were allowed", e.Given)
	}
	other := ""
	what := "are missing in the input"
	switch {
	case e.Stopped > 0 && e.Missing > 0:
		what = fmt.Sprintf("are missing in the input or stopped, %d of them by its column status", e.Stopped)
	case e.Stopped > 0:
		what = "are suspended or archived by the input's column status"
	}
	if e.Missing > e.Active/2 {
		other = "; if the input is another table than before, give that table a source of its own"
	}
	return fmt.Sprintf("%v: %d of %s of source %q %s%s, and more than %d are held (nothing was written)%s",
		ErrMissing, e.Stops(), jobs.Count(e.Active, "active tenant"), e.Source, what, given, e.Allowed, other)
}

// Stops is how many tenants the sync would stop, which is what Options.AllowMissing takes.
func (e *HeldError) Stops() int { return e.Missing + e.Stopped }

// Is makes the error match ErrMissing.
func (e *HeldError) Is(target error) bool { return target == ErrMissing }

// Code is the code of ErrMissing.
func (e *HeldError) Code() string { return jobs.CodeOf(ErrMissing) }

// mostErrors bounds the wrong rows that are listed.
const mostErrors = 100

// RowError is what is wrong with a row.
type RowError struct {
	Line int    `json:"line"` // of a file; of a query, the number of the row
	Says string `json:"says"` // the field, and what is allowed
}

// RowsError are all that is wrong with an input, the first 100 with their sentences.
// Nothing was written.
type RowsError struct {
	Rows  []RowError
	Total int
}

// Error says how many there are, and the first.
func (e *RowsError) Error() string {
	first := fmt.Sprintf("line %d: %s", e.Rows[0].Line, e.Rows[0].Says)
	if e.Total == 1 {
		return first + " (nothing was written)"
	}
	return fmt.Sprintf("%s in the input (nothing was written); the first is in %s", jobs.Count(e.Total, "error"), first)
}

// Code is jobs.CodeInvalidInput.
func (e *RowsError) Code() string { return jobs.CodeInvalidInput }

// Unwrap makes the errors a refusal of input.
func (e *RowsError) Unwrap() error {
	return jobs.Inputf("rows", "", "%s", jobs.Count(e.Total, "error"))
}

func (e *RowsError) add(line int, says string) {
	e.Total++
	if len(e.Rows) < mostErrors {
		e.Rows = append(e.Rows, RowError{line, says})
	}
}

// err is nil where nothing was added.
func (e *RowsError) err() error {
	if e.Total == 0 {
		return nil
	}
	slices.SortStableFunc(e.Rows, func(a, b RowError) int { return cmp.Compare(a.Line, b.Line) })
	return e
}

// sentence is an error without the value that it is about. A table with secrets has its
// values repeated nowhere: a cell too few or too many in one row would put a password into
// any column.
func sentence(err error, quiet bool) string {
	var input *jobs.InputError
	if !quiet || !errors.As(err, &input) {
		return err.Error()
	}
	if input.Value != "" && strings.Contains(input.Allowed, input.Value) || input.Field == "timezone" {
		return input.Field + ": this value is not allowed" + notRepeated
	}
	return input.Field + ": " + input.Allowed
}

const notRepeated = " (no value is repeated, because the input has a column of secrets)"
