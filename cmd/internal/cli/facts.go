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
	{Name: "code", Of: func(f explain.Fact) any { return string(f.Code) }},
	{Name: "fact", Of: func(f explain.Fact) any { return f.Fact }},
	{Name: "since", Of: func(f explain.Fact) any { return f.Since }},
	{Name: "until", Of: func(f explain.Fact) any { return f.Until }},
	{Name: "next", Of: func(f explain.Fact) any { return f.Next }},
}
