package cli

import (
	"strings"
	"time"

	"github.com/headgate/headgate/orchestrator/explain"
)

// Facts prints sentences, since when each holds if its text does not say that, and what
// can be done. none is told on stderr where there are none.
func Facts(app *App, facts []explain.Fact, none string) error {
	if len(facts) == 0 {
		app.Say("%s", none)
	}
	for _, f := range facts {
		if err := app.Paragraph("- ", f.Fact); err != nil {
			return err
		}
		if f.Since != nil && !strings.Contains(f.Fact, f.Since.UTC().Format(time.DateTime)) {
			if err := app.Paragraph("  since ", app.Cell(f.Since)); err != nil {
				return err
			}
		}
		if f.Next != "" {
			if err := app.Paragraph("  next: ", f.Next); err != nil {
				return err
			}
		}
	}
	return nil
}

// FactColumns are the columns of facts.
var FactColumns = []Column[explain.Fact]{
	{"code", func(f explain.Fact) any { return string(f.Code) }},
	{"fact", func(f explain.Fact) any { return f.Fact }},
	{"since", func(f explain.Fact) any { return f.Since }},
	{"until", func(f explain.Fact) any { return f.Until }},
	{"next", func(f explain.Fact) any { return f.Next }},
}
