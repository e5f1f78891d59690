package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/headgate/headgate/jobs"
	"github.com/headgate/headgate/orchestrator/catalog"
	"github.com/headgate/headgate/orchestrator/selector"
)

// Selecting is the flag --select, -l, of a command.
type Selecting struct{ expressions []string }

// Flag adds the flag.
func (s *Selecting) Flag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringArrayVarP(&s.expressions, "select", "l", nil, usage)
}

// Given tells whether the flag was given.
func (s *Selecting) Given() bool { return len(s.expressions) > 0 }

// Read parses the expression.
func (s *Selecting) Read() (selector.Selector, error) {
	if len(s.expressions) > 1 {
		return selector.Selector{}, Usagef("--select is given %d times: give one expression, with and or or in it", len(s.expressions))
	}
	return ReadSelector("--select", s.expressions[0])
}

// ReadSelector parses an expression that a flag or an argument gave.
func ReadSelector(name, expression string) (selector.Selector, error) {
	read, err := selector.Parse(expression)
	if err != nil {
		return read, Usagef("%s: %w", name, err)
	}
	return read, nil
}

// SelectsNobody shows the empty list of what was to be done with the tenants of a selector,
// and says which names of the expression no tenant has. none is said of a selector that selects
// tenants with which nothing was to be done.
func SelectsNobody[T any](ctx context.Context, app *App, central Central, s selector.Selector, none string, columns []Column[T]) error {
	found, err := central.Catalog.Selected(ctx, s)
	if err != nil {
		return err
	}
	if found.Count > 0 && none != "" {
		return List[T](app, nil, none, columns)
	}
	for _, note := range SelectorNotes(found) {
		app.Say("note: %s", note)
	}
	return List[T](app, nil, s.String()+" selects no tenant now, and nothing was changed", columns)
}

// SelectorNotes are what of an expression is probably not meant.
func SelectorNotes(found catalog.Selected) []string {
	said := []string{}
	for _, n := range found.Unknown {
		said = append(said, noteOn(n))
	}
	if found.Gone > 0 {
		are, fit := " that are", "fit"
		if found.Gone == 1 {
			are, fit = " that is", "fits"
		}
		said = append(said, fmt.Sprintf("%s archived or removed %s too: only lists select such tenants", jobs.Count(found.Gone, "tenant")+are, fit))
	}
	return said
}

func noteOn(n catalog.UnknownName) string {
	name, near := n.Attribute, DidYouMean(Nearest(n.Value, n.Known, "")...)
	switch {
	case n.Attribute == "feature" && n.FeatureType == "":
		return fmt.Sprintf("there is no feature %s%s", n.Key, DidYouMean(Nearest(n.Key, n.Known, "")...))
	case n.Attribute == "feature" && n.Type == "":
		return fmt.Sprintf("feature %s is a %s: alone it asks for true, and is never true", n.Key, n.FeatureType)
	case n.Attribute == "feature":
		return fmt.Sprintf("feature %s is a %s, and %s is a %s: the two never compare", n.Key, n.FeatureType, Quote(n.Value), n.Type)
	case n.Attribute == "label" && n.Type == "string":
		return fmt.Sprintf("no tenant has label %s with the value %s", n.Key, Quote(n.Value))
	case n.Attribute == "label":
		return fmt.Sprintf("no tenant has label %s", n.Key)
	case n.Attribute == "tenant":
		return fmt.Sprintf("there is no tenant %s", Quote(n.Value))
	}
	return fmt.Sprintf("no tenant has %s %s%s", name, Quote(n.Value), near)
}
