package orchestrator_test

import (
	"errors"
	"fmt"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
)

// Invoice is a kind that says which of its values no attempt could work with.
type Invoice struct {
	Customer int64  `json:"customer"`
	Currency string `json:"currency"`
}

// Kind names the kind.
func (Invoice) Kind() string { return "invoice" }

// Check is asked by whoever enqueues an Invoice, or gives it to a schedule.
func (i Invoice) Check() error {
	switch {
	case i.Customer <= 0:
		return errors.New("customer is missing: give its number")
	case len(i.Currency) != 3:
		return fmt.Errorf("currency %q: write three letters, as in EUR", i.Currency)
	}
	return nil
}

// A job that could never work is refused when it is asked for, and not at 03:00.
func Example_checkArguments() {
	fmt.Println(jobs.CheckArgs(Invoice{Customer: 7, Currency: "EUR"}))
	fmt.Println(jobs.CheckArgs(Invoice{Customer: 7, Currency: "Euro"}))
	fmt.Println(orchestrator.CheckStored(Invoice{}, []byte(`{"customer": "seven"}`)))
	// Output:
	// <nil>
	// args of kind invoice: currency "Euro": write three letters, as in EUR
	// args of kind invoice do not fit its struct: customer is a string
}
