package workcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/cmd/headgate/internal/kinds"
	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/admission"
)

// scopeArgs are the Args of a verb on something that a limit or a pause is about.
func scopeArgs(allowed []admission.Subject) cobra.PositionalArgs {
	exactly := cli.Args(scopeWords(allowed, "|"), "NAME")
	return func(cmd *cobra.Command, args []string) error {
		if err := exactly(cmd, args); err != nil {
			return err
		}
		return cli.OneOf("the first argument", args[0], strings.Split(scopeWords(allowed, ","), ","))
	}
}

func scopeWords(scopes []admission.Subject, between string) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, between)
}

// unknownName warns if nothing has a plan's, kind's or queue's name so far: it may come, or
// be a slip. It is asked before the change, because a limit begins its plan. "" is no warning.
func unknownName(ctx context.Context, control *admission.Control, scope admission.Subject, name string) string {
	if scope == admission.OfTenant || scope == admission.OfServer {
		return ""
	}
	known, err := cli.Names(ctx, control, scope)
	if err != nil {
		return fmt.Sprintf("warning: it is done, but whether %s %s is known could not be found out: %v", scope, cli.Quote(name), err)
	}
	switch scope {
	case admission.OfKind:
		known = append(known, kinds.Names()...)
	case admission.OfQueue:
		known = append(known, "default", jobs.BulkQueue)
	}
	if !slices.Contains(known, name) {
		return fmt.Sprintf("warning: no %s %s is known so far%s; it counts as soon as there is one", scope, cli.Quote(name), cli.DidYouMean(cli.Nearest(name, known, "")...))
	}
	return ""
}

// warn says a warning, if it is one.
func warn(app *cli.App, warning string) {
	if warning != "" {
		app.Say("%s", warning)
	}
}
