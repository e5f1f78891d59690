//go:build !unix

package main

import (
	"context"
	"errors"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// runChild is never reached: there is no private Postgres here either.
func runChild(context.Context, *cli.App, string, []string, []string) error {
	return errors.New("dev -- COMMAND needs a Unix system")
}
