package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator"
	"github.com/headgate/headgate/orchestrator/catalog"
)

// scopeArgs are the Args of a verb on something that a limit or a pause is about.
func scopeArgs(allowed []orchestrator.Scope) cobra.PositionalArgs {
	exactly := names(scopeWords(allowed, "|"), "NAME")
	return func(cmd *cobra.Command, args []string) error {
		if err := exactly(cmd, args); err != nil {
			return err
		}
		return oneOf("the first argument", args[0], strings.Split(scopeWords(allowed, ","), ","))
	}
}

func scopeWords(scopes []orchestrator.Scope, between string) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, between)
}

// near adds to an error about a name that is not known the nearest one that is.
func near(ctx context.Context, client *orchestrator.Client, scope orchestrator.Scope, name string, err error) error {
	if !errors.Is(err, jobs.ErrUnknownTenant) && !errors.Is(err, catalog.ErrUnknownServer) {
		return err
	}
	known, listErr := client.Names(ctx, scope)
	if listErr != nil {
		return err // the better of the two
	}
	return fmt.Errorf("%w%s; `headgate %s list` shows them", err, didYouMean(nearest(name, known, "")...), scope)
}

// warnUnknown says so if nothing has a plan's, kind's or queue's name so far: it
// may come, or be a slip.
func (p *program) warnUnknown(ctx context.Context, client *orchestrator.Client, scope orchestrator.Scope, name string) {
	if scope == orchestrator.OfTenant || scope == orchestrator.OfServer {
		return
	}
	known, err := client.Names(ctx, scope)
	if err != nil {
		p.say("warning: it is done, but whether %s %s is known could not be found out: %v", scope, quote(name), err)
		return
	}
	switch scope {
	case orchestrator.OfKind:
		known = append(known, builtinKinds()...)
	case orchestrator.OfQueue:
		known = append(known, "default", jobs.BulkQueue)
	}
	if !slices.Contains(known, name) {
		p.say("warning: no %s %s is known so far%s; it counts as soon as there is one", scope, quote(name), didYouMean(nearest(name, known, "")...))
	}
}

// completeScope completes the first argument with the scopes, the second with their
// names.
func (p *program) completeScope(allowed []orchestrator.Scope) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return strings.Split(scopeWords(allowed, ","), ","), cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		if len(args) == 1 {
			_ = p.open(cmd.Context(), nil, func(r rooms) (err error) { // completion has nobody to tell
				found, err = r.client.Names(cmd.Context(), orchestrator.Scope(args[0]))
				return err
			})
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
