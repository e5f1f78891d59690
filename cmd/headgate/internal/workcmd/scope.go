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
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
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

// selected is the part of a verb by which it is about all tenants that an expression selects.
type selected struct {
	selecting cli.Selecting
	confirm   cli.Confirmation
	dry       cli.DryRun
}

func (s *selected) flags(cmd *cobra.Command) {
	s.selecting.Flag(cmd, "instead of NAME: the tenants that an expression selects now, as in 'plan = free and region = eu'")
	s.dry.Flag(cmd)
	s.confirm.Flags(cmd)
}

// args are those of scopeArgs, or tenant alone with --select.
func (s *selected) args(allowed []admission.Subject) cobra.PositionalArgs {
	named := scopeArgs(allowed)
	return func(cmd *cobra.Command, args []string) error {
		if !s.selecting.Given() {
			for _, flag := range []string{"confirm", "yes"} {
				if cmd.Flags().Changed(flag) {
					return cli.Usagef("--%s goes with --select", flag)
				}
			}
			return named(cmd, args)
		}
		switch {
		case len(args) == 0 || args[0] != string(admission.OfTenant):
			return cli.Usagef("--select selects tenants: %s tenant --select EXPR", cmd.CommandPath())
		case len(args) > 1:
			return cli.Usagef("%s and --select: name the tenant, or select tenants", cli.Quote(args[1]))
		}
		return nil
	}
}

// onSelected does something with all tenants that the expression selects, and shows what. done
// says so of their number and the expression; none is said where there was nothing to do with
// those that are selected.
func onSelected[T any](ctx context.Context, app *cli.App, s *selected, columns []cli.Column[T], none, done string, do func(cli.Central, selector.Selector, *catalog.SelectedOpts) ([]T, error)) error {
	read, err := s.selecting.Read()
	if err != nil {
		return err
	}
	return app.Open(ctx, nil, func(central cli.Central) error {
		var list []T
		opts := &catalog.SelectedOpts{DryRun: s.dry.On(), Confirm: s.confirm.CheckNames(read.String() + ": this is about")}
		err := s.confirm.Do(ctx, app, func() (err error) {
			list, err = do(central, read, opts)
			return err
		})
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return cli.SelectsNobody(ctx, app, central, read, none, columns)
		}
		app.Say(done, jobs.Count(len(list), "tenant"), read)
		defer s.dry.Say(app, jobs.Count(len(list), "tenant"))
		return cli.List(app, list, "", columns)
	})
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
