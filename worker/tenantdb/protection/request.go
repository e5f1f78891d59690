package protection

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// defaultColumn holds the organisation where nothing else is said.
const defaultColumn = "org_id"

// ByPolicy and ByView are the ways in which a table is guarded.
const (
	ByPolicy = "policy" // row-level security on the table
	ByView   = "view"   // jobs reach it through a view of ours only
)

// Table is one table that jobs are to use.
type Table struct {
	Name string // as SQL would write it; without a schema it is looked for on the search_path

	// Column holds the organisation, as SQL would write it. "" means org_id.
	Column string
	// Through is the foreign key that leads to a guarded parent: a column, or several with
	// commas. It takes the place of Column.
	Through string
	// Brand holds the brand, as SQL would write it: jobs that are limited to a brand meet its
	// rows only. "" means that brands share the table, or what is declared.
	Brand string
	// Public says that the table belongs to no tenant: jobs may read it.
	Public bool

	By string // "" means ByPolicy

	// Grant is what jobs may do, of select, insert, update and delete. Empty means all four,
	// or what they may do already where the table is guarded.
	Grant []string
}

// Request is what is to be protected. All of it is done, or nothing.
type Request struct {
	Database  string // its name in the catalog, for sentences
	Login     string // the job login's role
	Dedicated bool   // it has one tenant: rights on what is neither guarded nor declared stay
	Tables    []Table
	Views     []string // views of the application's, to be had as copies with the reader's rights
	Functions []string // that may run with their owner's rights, as SQL would write them
	Withdraw  []string // declarations that are taken back: relations or functions, also such as are gone
	Actor     string   // who asks
	Reason    string   // why; needed for public tables and trusted functions
}

// RequestError is what is wrong with a request. Nothing has been changed.
type RequestError struct{ says string }

func (e *RequestError) Error() string { return e.says }

func refuse(format string, args ...any) error { return &RequestError{fmt.Sprintf(format, args...)} }

// IsRequestError says whether the request was wrong, and not the database.
func IsRequestError(err error) bool {
	var wrong *RequestError
	return errors.As(err, &wrong)
}

var grantable = []string{"select", "insert", "update", "delete"}

// check refuses what can never be meant.
func (r Request) check() error {
	for _, t := range r.Tables {
		ways := 0
		for _, given := range []bool{t.Column != "", t.Through != "", t.Public} {
			if given {
				ways++
			}
		}
		switch {
		case ways > 1:
			return refuse("table %s: an organisation column, a foreign key to go through and public exclude each other: give one", t.Name)
		case t.Brand != "" && (t.Public || t.By == ByView):
			return refuse("table %s: a brand column is bound by a policy beside the organisation's: take neither public nor --by view", t.Name)
		case t.Public && t.By == ByView:
			return refuse("table %s: a public table needs no view", t.Name)
		case t.Public && len(t.Grant) > 0 && !slices.Equal(t.Grant, []string{"select"}):
			return refuse("table %s: jobs may only read a public table, not %s", t.Name, strings.Join(t.Grant, ", "))
		case t.By != "" && t.By != ByPolicy && t.By != ByView:
			return refuse("table %s: %q is no way to guard a table: give %s or %s", t.Name, t.By, ByPolicy, ByView)
		case t.Public && r.Reason == "":
			return refuse("table %s: a public table is one that every tenant's jobs read whole: say with a reason why that is right", t.Name)
		}
		for _, g := range t.Grant {
			if !slices.Contains(grantable, g) {
				return refuse("table %s: %q cannot be granted to jobs: give some of %s", t.Name, g, strings.Join(grantable, ", "))
			}
		}
	}
	if len(r.Functions) > 0 && r.Reason == "" {
		return refuse("function %s: what runs with its owner's rights can read every tenant's rows: say with a reason why it may be trusted", r.Functions[0])
	}
	return nil
}
