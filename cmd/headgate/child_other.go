//go:build !unix

package main

import (
	"context"
	"errors"
)

// runChild is never reached: there is no private Postgres here either.
func (p *program) runChild(context.Context, string, []string, []string) error {
	return errors.New("dev -- COMMAND needs a Unix system")
}
